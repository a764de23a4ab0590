"""Metrics of generated and restored images, a file a family, and confidence intervals."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "base": ["CaseMetric", "FeatureSetMetric", "Metric", "SetMetric"],
        "consistency": ["ClassAccuracy", "MaskDice", "classification_scores"],
        "diversity": ["SetMSSSIM"],
        "fidelity": ["MeanAbsoluteError", "MeanSquaredError", "PeakSignalToNoise"],
        "frechet": ["FrechetDistanceMetric", "GaussianStatistics"],
        "intervals": ["binomial_interval", "bootstrap_interval", "fold_interval"],
        "likelihood": ["BoundTerm", "OutOfDistributionROC"],
        "mmd": ["KernelDistanceMetric", "MaximumMeanDiscrepancy"],
        "neighbours": ["CoverageMetric", "DensityCoverage", "PrecisionRecall"],
        "perceptual": ["LPIPS", "PerceptualDistance"],
        "sharpness": ["Acutance", "Grain"],
        "ssim": ["PairedMSSSIM", "StructuralSimilarity"],
    },
)
