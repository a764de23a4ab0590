"""What is called as `inferer(inputs, network)`: samplers, tiles, the variational bound, and the batches of engines."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "direct": ["DirectSampler"],
        "distillation": ["DistillationPrepareBatch"],
        "sampler": ["DiffusionSampler", "Samples"],
        "tiling": ["SliceSampler", "TiledNetwork"],
        "training": [
            "AutocastInferer",
            "ClassPrepareBatch",
            "ConditionalPrepareBatch",
            "TrainingInferer",
            "VariationalInferer",
        ],
        "variational": [
            "BoundInferer",
            "VariationalDenoiser",
            "VariationalInterpolator",
            "VariationalReconstructor",
            "VariationalSampler",
        ],
    },
)
