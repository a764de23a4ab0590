"""How the images of a folder are read: scaling, orientation, spacing."""

from __future__ import annotations

import nibabel as nib
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, ScaleIntensityRangePercentiles
from PIL import Image

from common.evaluation.folders import ImageFolder
from common.metrics.sharpness import acutance
from tests.metrics.image_folders import pictures, volumes


def test_size_changes_the_millimetres_of_a_volume(tmp_path):
    folder = volumes(tmp_path, 1)
    before, after = (ImageFolder(folder, size=size).spacings[0] for size in (None, (6, 13, 14)))
    assert after == pytest.approx((before[0] * 12 / 6, *before[1:]))


def test_pixels_of_pictures_are_those_compared(tmp_path):
    """Copies in another size have the same acutance: nobody knows the millimetres of a picture."""
    large, small = pictures(tmp_path / "large", 1, side=48), tmp_path / "small"
    small.mkdir()
    Image.open(large / "image_00.png", formats=["PNG"]).resize((24, 24), Image.Resampling.BOX).save(
        small / "image_00.png"
    )
    folders = [ImageFolder(folder, size=(24, 24)) for folder in (large, small)]
    assert [folder.spacings for folder in folders] == [[(1.0, 1.0)]] * 2
    values = [float(acutance(folder[0][None], folder.spacings[0])) for folder in folders]
    assert values[0] == pytest.approx(values[1], rel=0.5)


def test_percentile_rule_is_that_of_the_evaluate_config(tmp_path):
    folder = volumes(tmp_path / "real", 2)
    read = Compose(
        [
            *(LoadImage(image_only=True), EnsureChannelFirst(), Orientation("RAS", labels=None)),
            ScaleIntensityRangePercentiles(0.5, 99.5, -1, 1, clip=True),
        ]
    )
    expected = read(folder / "volume_01.nii.gz").as_tensor()
    assert torch.allclose(ImageFolder(folder)[1], expected, atol=1e-5)
    flipped = nib.load(folder / "volume_01.nii.gz").slicer[::-1]
    nib.save(flipped, folder / "volume_01.nii.gz")
    assert torch.allclose(ImageFolder(folder)[1], expected, atol=1e-5)
