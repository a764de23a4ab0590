"""Masks to generate from: shape model, phantoms, heads."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "heads": ["Head", "TissueMaps", "draw_head"],
        "mr_signal": ["scan"],
        "phantom": ["head_mask_from_image", "head_phantom"],
        "shape_model": ["ShapeModel"],
    },
)
