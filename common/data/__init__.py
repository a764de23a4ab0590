"""Files in and out: one reader, one writer, one finder, lists of cases, splits, provenance."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "dataset": ["CheckedCacheDataset", "CheckedDataset", "CropToCommonSize"],
        "drawn": ["remade_cases", "sample_cases"],
        "finder": ["find_images"],
        "folds": ["stratified_folds"],
        "image_file": ["ImageFile", "ImageHeader"],
        "lists": ["image_cases", "paired_cases", "slice_cases"],
        "ranges": ["with_ranges"],
        "reader": ["LoadImaged", "LoadSliced", "image_header", "read_image"],
        "served": ["CheckNumberd", "LabelAsHoled", "StoredTyped"],
        "splits": ["split_cases"],
        "writer": ["KeepSeedd", "SaveImaged"],
    },
)
