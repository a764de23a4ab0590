"""Networks, their weights as files, their precision and memory."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "classifiers": ["cnn", "grey_vgg11", "load_classifier"],
        "device": ["estimate_memory"],
        "gamma": ["FixedLinearGamma", "Gamma", "MonotoneGamma"],
        "hierarchical": ["HierarchicalProbabilisticUNet"],
        "pixel_codec": ["PixelCodec"],
        "progressive": ["ProgressiveUNet"],
        "refiner": ["FullResolutionRefiner"],
        "restoration": ["RestorationUNet", "SRResNet"],
        "translation": ["TranslationPair"],
        "unet": ["ConditionalDiffusionUNet"],
        "vdm": ["UNetScore", "VariationalDiffusionModel", "unet_vdm"],
        "vdm_dense": ["BernoulliDecoder", "DenseEncoder", "DenseScore", "dense_vdm"],
        "weights": ["load_initial", "load_weights", "save_weights"],
    },
)
