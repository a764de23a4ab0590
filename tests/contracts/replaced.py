"""A pytest plugin for MONAI's own tests: where they import a class that one of ours stands for, they are given ours."""

from __future__ import annotations

from typing import Any


def as_monais(ours: Any) -> Any:
    """
    A metric of ours over images in [0, 1], whose buffer is reduced as MONAI's metrics reduce theirs.

    MONAI's tests give rows and single slices too, which are no images here: they become images of one row or channel.
    """
    from monai.metrics.utils import do_metric_reduction

    class Reduced(ours):
        def __init__(self, max_val: float = 1.0, reduction: str = "mean", get_not_nans: bool = False) -> None:
            super().__init__((0.0, max_val))
            self.reduction = reduction

        def _compute_tensor(self, y_pred: Any, y: Any) -> Any:
            images = (
                (one[:, None, None] if one.ndim == 2 else one[:, None] if one.ndim == 3 else one) for one in (y_pred, y)
            )
            return super()._compute_tensor(*images)

        def aggregate(self, reduction: str | None = None) -> Any:
            return do_metric_reduction(self.get_buffer(), reduction or self.reduction)[0]

    return Reduced


def pytest_configure() -> None:
    """Before anything is collected; on import alone nothing changes."""
    import monai.data
    import monai.handlers.regression_metrics
    import monai.metrics
    import monai.networks.nets
    import monai.transforms
    import torch

    from common.data.dataset import CheckedCacheDataset
    from common.metrics.fidelity import MeanAbsoluteError, MeanSquaredError, PeakSignalToNoise
    from common.metrics.frechet import fid
    from common.networks.unet import ConditionalDiffusionUNet
    from common.transforms.checks import Spacingd
    from common.transforms.crops import ResizeWithPadOrCropd

    monai.networks.nets.DiffusionModelUNet = ConditionalDiffusionUNet
    monai.data.CacheDataset = CheckedCacheDataset
    monai.transforms.Spacingd, monai.transforms.ResizeWithPadOrCropd = Spacingd, ResizeWithPadOrCropd
    for name, ours in (
        ("MSEMetric", MeanSquaredError),
        ("MAEMetric", MeanAbsoluteError),
        ("PSNRMetric", PeakSignalToNoise),
    ):
        for module in (monai.metrics, monai.handlers.regression_metrics):
            setattr(module, name, as_monais(ours))
    monai.metrics.FIDMetric = lambda: lambda y_pred, y: torch.as_tensor(fid(y_pred, y))
