"""Checks of loaded volumes: what passes, and what each refusal says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd as MonaiSpacingd

from common.transforms.checks import CheckImaged, CheckSameGridd, Spacingd
from common.transforms.conditions import LabelsToChannelsd
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


def test_scaled_integers_are_whole_numbers_and_fractions_are_counted():
    mask = two_part_mask().astype(np.float32)
    found = CheckImaged("label", whole_numbers=True)({"label": volume(mask * np.float32(1.0000153))})["label"]
    np.testing.assert_array_equal(found.numpy()[0], mask)
    assert found.meta["filename_or_obj"] == "case.nii.gz"
    channels = LabelsToChannelsd("label", {"a": 1, "b": 2})
    odd = {"label": volume(mask.astype(np.float64) - 5e-10 * (mask > 0))}
    np.testing.assert_array_equal(channels(odd)["label"], channels({"label": volume(mask)})["label"])
    mask[mask == 2] = 1.5
    with pytest.raises(ValueError, match=rf"case.nii.gz: .*got \[1.5\] in {(mask == 1.5).sum()} voxels"):
        CheckImaged("label", whole_numbers=True)({"label": volume(mask)})


def fine_mask(value=1, side=24):
    """(side, side, side) at 0.5 mm, a cube of label ``value``."""
    mask = np.zeros((side, side, side), np.float32)
    mask[6:18, 6:18, 6:18] = value
    return mask


HALF = np.diag([0.5, 0.5, 0.5, 1.0])
COARSER = {"keys": "mask", "pixdim": (1.0, 1.0, 1.0), "mode": "nearest"}


@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 1, 1), (1, 0, 1)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 6), (1, 1, 8)])
def test_a_thin_label_is_kept_with_a_notice(shift, shape, caplog):
    mask = fine_mask()
    place = tuple(slice(8 + s, 8 + s + n) for s, n in zip(shift, shape))
    mask[place] = 2
    given = {"mask": volume(mask, affine=HALF)}
    nearest = MonaiSpacingd(**COARSER)(given)["mask"]
    kept = Spacingd(**COARSER, labels=["mask"])(given)["mask"]
    volumes = [float((m == 2).sum()) * voxel for m, voxel in ((nearest, 1), (kept, 1), (given["mask"], 0.125))]
    assert volumes[1] >= volumes[2] / 2
    assert (volumes[0] < volumes[2] / 2) == ("case.nii.gz: the labels [2] are finer" in caplog.text)
    where = np.argwhere(kept.numpy()[0] == 2)
    assert (np.abs(where - (8 + np.array(shift)) / 2).min(0) <= 1).all()
    np.testing.assert_array_equal(kept.affine, nearest.affine)
    if volumes[0] >= volumes[2] / 2:
        np.testing.assert_array_equal(kept, nearest)


@pytest.mark.parametrize("pixdim", [(1.0, 1.0, 1.0), (0.7, 0.9, 2.0), (3.0, 1.0, 1.0)])
def test_an_ordinary_map_is_that_of_nearest_neighbours_and_goes_back(pixdim, caplog):
    given = {"mask": volume(two_part_mask()), "mask_path": "case.nii.gz", "note": {"a": 1}}
    mine = Spacingd("mask", pixdim, ["mask"], mode="nearest")
    found = mine(given)
    plain = {"mask": given["mask"]}
    nearest = MonaiSpacingd("mask", pixdim, mode="nearest")
    np.testing.assert_array_equal(found["mask"], nearest(plain)["mask"])
    assert (found["mask_path"], found["note"]) == ("case.nii.gz", {"a": 1})
    np.testing.assert_array_equal(mine.inverse(found)["mask"], nearest.inverse(nearest(plain))["mask"])
    assert not caplog.text


def test_labels_that_share_a_coarse_voxel_are_refused():
    mask = fine_mask()
    mask[9, 9, 9], mask[9, 9, 10] = 2, 3
    mask[9, 10, 9], mask[9, 10, 10] = 3, 2
    coarser = Spacingd("mask", (12.0, 12.0, 12.0), ["mask"], mode="nearest")
    with pytest.raises(
        ValueError, match=r"case.nii.gz: the labels \[.*\] are finer than the voxels of 12 x 12 x 12 mm"
    ):
        coarser({"mask": volume(mask, affine=HALF)})


@pytest.mark.parametrize("spacing", [0, [1.0, -1.0, 1.0], [1.0, float("nan"), 1.0]])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing must be above 0 mm, got"):
        CheckImaged("image", spacing=spacing)
