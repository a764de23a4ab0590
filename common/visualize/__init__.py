"""Every picture: slices of volumes, contours, sheets, thumbnails, and what writes them in a run."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "panels": ["Panel", "image_panel", "slice_panels"],
        "pictures": ["preview_figure", "sheet", "thumbnail"],
        "plots": ["curve_panels"],
        "previews": ["SamplePreviews", "SampleSheet", "SavePreviewd"],
    },
)
