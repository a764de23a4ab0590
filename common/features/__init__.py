"""Feature networks: their registry, training, and the segmenter that reads masks back."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "encoders": ["Encoder", "EncoderPlan"],
        "features": ["FeatureNetwork"],
        "registry": ["NetworkSpec"],
        "segmenter": ["Segmenter"],
    },
)
