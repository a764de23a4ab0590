"""Percentiles of a volume: MONAI's scaling, but for what has no contrast."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import ScaleIntensityRangePercentilesd as MonaiScaleIntensityRangePercentilesd

from common.data.reader import LoadImaged
from common.transforms.intensities import ScaleIntensityRangePercentilesd
from tests.fixtures import image_of, two_part_mask, write_nifti

SCALE = {"keys": "image", "lower": 0.5, "upper": 99.5, "b_min": -1.0, "b_max": 1.0, "clip": True}


def loaded(path, array):
    return LoadImaged("image")({"image": str(write_nifti(path, array))})


def test_it_is_monais(tmp_path):
    case = loaded(tmp_path / "a.nii.gz", image_of(two_part_mask()))
    wanted = MonaiScaleIntensityRangePercentilesd(**SCALE)(case)["image"]
    np.testing.assert_array_equal(ScaleIntensityRangePercentilesd(**SCALE)(case)["image"], wanted)


def test_a_speck_in_a_black_volume_and_a_channel_of_one_value_are_refused_by_file(tmp_path):
    speck = np.zeros((20, 20, 20), np.float32)
    speck[9, 9, 9:14] = 500
    case = loaded(tmp_path / "speck.nii.gz", speck)
    with pytest.raises(ValueError, match=r"speck.nii.gz: percentiles 0.5 and 99.5 are both 0; contrast was expected"):
        ScaleIntensityRangePercentilesd(**SCALE)(case)
    case = loaded(tmp_path / "a.nii.gz", image_of(two_part_mask()))
    case["image"] = case["image"].repeat(2, 1, 1, 1)
    case["image"][1] = 7
    with pytest.raises(ValueError, match=r"a.nii.gz: percentiles 0.5 and 99.5 are both 7"):
        ScaleIntensityRangePercentilesd(**SCALE, channel_wise=True)(case)
