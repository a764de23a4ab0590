"""What stands in a `Compose`: conditions, degradations, baselines, checks, geometry, holes."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "baselines": ["ByNetwork", "MethodImagesd", "bicubic", "biharmonic", "median", "nonlocal_means"],
        "checks": ["CheckImaged", "CheckSameGridd", "Spacingd"],
        "conditions": ["ClassIndexd", "LabelsToChannelsd", "MeasuredScaled", "ScaleIntensityByd"],
        "crops": ["ResizeWithPadOrCropd"],
        "degrade": ["RandDownsampled", "RandHoled", "RandNoisyd"],
        "geometry": ["FitInPlaned", "SampleMapsd", "SlicesLastd", "UpsampleInPlaned"],
        "holes": ["CheckHoled", "HoledConditiond", "KeepKnownd"],
        "intensities": ["ScaleIntensityRangePercentilesd"],
        "noise": ["CheckWhiteNoised"],
    },
)
