"""Metric classes and their functions, and intervals."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "classification": ["ClassAccuracy"],
        "fidelity": ["MeanAbsoluteError", "MeanSquaredError", "PeakSignalToNoise"],
        "frechet": ["FrechetDistanceMetric", "GaussianStatistics"],
        "likelihood": ["BoundTerm", "OutOfDistributionROC"],
        "mask_consistency": ["MaskDice"],
        "mmd": ["KernelDistanceMetric", "MaximumMeanDiscrepancy"],
        "neighbours": ["CoverageMetric", "DensityCoverage", "PrecisionRecall"],
        "perceptual": ["LPIPS", "PerceptualDistance"],
        "sharpness": ["Acutance", "Grain"],
        "ssim": ["PairedMSSSIM", "SetMSSSIM", "StructuralSimilarity"],
    },
)
