"""Every picture: slices of volumes, contours, sheets, thumbnails, and what writes them in a run."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "pictures": ["Panel", "image_panel", "preview_figure", "sheet", "slice_panels", "thumbnail"],
        "plots": ["curve_panels"],
        "previews": ["SamplePreviews", "SampleSheet", "SavePreviewd"],
    },
)
