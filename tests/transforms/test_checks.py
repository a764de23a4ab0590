"""Checks of loaded volumes: what passes, and what each refusal says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms.checks import CheckImaged, CheckSameGridd
from tests.fixtures import image_of, oblique_affine, two_part_mask


def volume(array=None, name="case.nii.gz", affine=None):
    tensor = torch.from_numpy(np.asarray(image_of(two_part_mask()) if array is None else array))[None]
    matrix = torch.from_numpy(oblique_affine() if affine is None else affine)
    return MetaTensor(tensor, affine=matrix, meta={"filename_or_obj": name})


def test_a_good_volume_passes_untouched():
    image = volume()
    assert CheckImaged("image", value_range=(0, 1000))({"image": image})["image"] is image
    CheckImaged("label", whole_numbers=True)({"label": volume(two_part_mask())})


@pytest.mark.parametrize(
    ("options", "spoil", "message"),
    [
        ({}, lambda a: np.where(a == a.max(), np.nan, a), "1 of 4862 voxels are NaN or infinite"),
        ({}, lambda a: np.where(a == a.max(), np.inf, a), "1 of 4862 voxels are NaN or infinite"),
        ({}, lambda a: a[:, :, 0], "a 3D volume was expected, got 17 x 22 voxels"),
        ({"spatial_dims": 2}, lambda a: a, "a 2D volume was expected, got 17 x 22 x 13 voxels"),
        ({"channels": 4}, lambda a: a, "4 channel was expected, got 1"),
        ({"whole_numbers": True}, lambda a: a + 0.25, "whole numbers was expected"),
        ({"value_range": (-1, 1)}, lambda a: a, r"values in \[-1, 1\] were expected, got"),
    ],
)
def test_a_bad_volume_is_named_with_what_was_expected(options, spoil, message):
    with pytest.raises(ValueError, match=f"bad.nii.gz: .*{message}"):
        CheckImaged("image", **options)({"image": volume(spoil(image_of(two_part_mask())), "bad.nii.gz")})


def test_volumes_of_different_shape_or_affine_are_named():
    check = CheckSameGridd(["image", "label"])
    assert set(check({"image": volume(), "label": volume()})) == {"image", "label"}
    with pytest.raises(ValueError, match=r"a.nii.gz and b.nii.gz have different shapes"):
        check({"image": volume(name="a.nii.gz"), "label": volume(np.zeros((3, 3, 3)), "b.nii.gz")})
    moved = oblique_affine()
    moved[0, 3] += 1
    with pytest.raises(ValueError, match=r"different grids: their affines differ by up to 1 mm"):
        check({"image": volume(), "label": volume(affine=moved)})
