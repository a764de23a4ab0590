"""A pytest plugin for MONAI's own tests: where they import a class that one of ours stands for, they are given ours."""

from __future__ import annotations


def pytest_configure() -> None:
    """Before anything is collected; on import alone nothing changes."""
    import monai.data
    import monai.networks.nets
    import monai.transforms

    from common.data.dataset import CheckedCacheDataset
    from common.networks.unet import ConditionalDiffusionUNet
    from common.transforms.checks import Spacingd
    from common.transforms.crops import ResizeWithPadOrCropd

    monai.networks.nets.DiffusionModelUNet = ConditionalDiffusionUNet
    monai.data.CacheDataset = CheckedCacheDataset
    monai.transforms.Spacingd, monai.transforms.ResizeWithPadOrCropd = Spacingd, ResizeWithPadOrCropd
