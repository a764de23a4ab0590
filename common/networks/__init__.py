"""Networks, their weights, precision and memory."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "gamma": ["FixedLinearGamma", "MonotoneGamma"],
        "unet": ["ConditionalDiffusionUNet", "FullResolutionRefiner"],
        "vdm": ["VariationalDiffusionModel"],
        "vdm_dense": ["dense_vdm"],
        "vdm_unet": ["unet_vdm"],
        "weights": ["load_weights", "save_weights"],
    },
)
