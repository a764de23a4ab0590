"""Slices as a network takes them, and the way back."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from common.transforms.conditions import ScaleIntensityByd
from common.transforms.geometry import FitInPlaned, SampleMapsd, SlicesLastd, UpsampleInPlaned, plane_of
from tests.fixtures import oblique_affine


def volume(shape=(9, 10, 5), affine=None, seed=0):
    values = torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    affine = torch.as_tensor(oblique_affine() if affine is None else affine)
    return MetaTensor(values, affine=affine, meta={"filename_or_obj": "case.nii"})


def reoriented(axcodes, shape=(9, 10, 5)):
    image = nib.Nifti1Image(volume(shape).numpy()[0], np.diag([1, 1, 3, 1]))
    wanted = nib.orientations.axcodes2ornt(axcodes)
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
    return volume(image.shape, image.affine), np.asarray(image.dataobj)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SRA", "AIL"])
def test_slices_appear_the_same_however_the_file_lies(axcodes):
    image, array = reoriented(axcodes)
    image = MetaTensor(torch.from_numpy(array.copy())[None], affine=image.affine)
    shown = SlicesLastd("image")({"image": image})["image"]
    reference = np.flip(volume().numpy()[0], (0, 1, 2))  # RAS turned to LPI
    np.testing.assert_array_equal(shown.numpy()[0], reference)


@pytest.mark.parametrize("plane", ["auto", "axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axcodes", ["RAS", "SLP"])
def test_turned_slices_come_back(plane, axcodes):
    image, _ = reoriented(axcodes)
    turn = SlicesLastd("image", plane)
    back = turn.inverse(turn({"image": image.clone()}))["image"]
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    np.testing.assert_allclose(back.affine, image.affine)


@pytest.mark.parametrize(
    ("spacing", "shape", "expected"),
    [
        ((1, 1, 3), (9, 9, 9), "axial"),
        ((1, 3, 1), (9, 9, 9), "coronal"),
        ((3, 1, 1), (9, 9, 9), "sagittal"),
        ((1, 1.2, 1), (9, 9, 9), "axial"),
        ((1, 1, 1), (1, 9, 9), "sagittal"),
        ((5, 1, 1), (9, 9, 1), "axial"),
    ],
)
def test_the_plane_is_that_of_thick_slices_or_a_single_one(spacing, shape, expected):
    assert plane_of(volume(shape, np.diag([*spacing, 1]))) == expected


@pytest.mark.parametrize("scale", [1, 2, 2**1.5, 4])
def test_a_finer_grid_covers_the_same_field(scale):
    image = volume()
    finer = UpsampleInPlaned("image", scale)({"image": image})["image"]
    assert finer.shape[1:] == (round(9 * scale), round(10 * scale), 5)
    assert not finer.applied_operations, "nothing is undone at the end"
    for side in (-0.5, 0.5):  # outer corners, in mm
        corners = []
        for item in (image, finer):
            index = np.array([*(-0.5 if side < 0 else n - 0.5 for n in item.shape[1:]), 1.0])
            corners.append(np.asarray(item.affine) @ index)
        np.testing.assert_allclose(corners[0], corners[1], atol=1e-9)
    ramp = volume().clone()
    ramp[:] = torch.arange(9.0)[None, :, None, None]
    values = UpsampleInPlaned("image", scale)({"image": ramp})["image"].numpy()[0, :, 0, 0]
    positions = (np.arange(len(values)) + 0.5) * 9 / len(values) - 0.5
    np.testing.assert_allclose(values, np.clip(positions, 0, 8), atol=1e-6)
    with pytest.raises(ValueError, match=r"scale must be at least 1, got 0.5"):
        UpsampleInPlaned("image", 0.5)


@pytest.mark.parametrize("shape", [(31, 17, 1), (5, 200, 3)])
def test_another_size_is_undone_with_values_and_affine(shape):
    smooth = volume(shape)
    x, y = (torch.linspace(0, 1, side) for side in shape[:2])
    smooth[:] = (x[:, None] + y[None])[None, :, :, None]
    steps = Compose(
        [SlicesLastd("image"), FitInPlaned("image", (64, 64)), ScaleIntensityByd("image")],
    )
    case = steps({"image": smooth.clone()})
    assert case["image"].shape == (1, 64, 64, shape[2])
    case["pred"] = MetaTensor(torch.cat([case["image"].as_tensor()] * 2))
    back = Invertd("pred", steps, "image", nearest_interp=False)(case)["pred"]
    assert back.shape == (2, *shape)
    np.testing.assert_allclose(back.affine, smooth.affine, atol=1e-9)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(back[:1][inner], smooth[inner], atol=0.06)


@pytest.mark.parametrize("shape", [(100, 90), (517, 1203), (20, 700)])
def test_no_hole_is_too_small_for_the_grid_and_one_that_touches_all_of_it_is_named(shape):
    fit = FitInPlaned(["hole"], (16, 24), holes=["hole"])
    random = np.random.default_rng(0)
    for x, y in zip(random.integers(shape[0], size=20), random.integers(shape[1], size=20)):
        hole = volume((*shape, 1)) * 0
        hole[:, x, y] = 1
        assert fit({"hole": hole})["hole"].any()
    hole = volume((320, 480, 1)) * 0
    hole[:, ::10, ::10] = 1
    case = {"image": volume((16, 24, 1)), "hole": fit({"hole": hole})["hole"]}
    with pytest.raises(ValueError, match="no pixel is known, the hole touches all that the network sees"):
        ScaleIntensityByd("image", outside="hole")(case)


def test_no_pixel_of_a_hole_is_taken_for_known_after_resizing():
    hole = volume((100, 90, 1)) * 0
    hole[:, 41, 31] = 1
    small = FitInPlaned(["hole"], (16, 16), holes=["hole"])({"hole": hole})["hole"]
    assert small.sum() == 1
    assert small[0, 6, 5] == 1
    assert torch.equal(FitInPlaned(["hole"], (16, 16), "tile", ["hole"])({"hole": hole})["hole"], hole)


def test_mean_and_deviation_stand_beside_the_first_sample():
    samples = MetaTensor(torch.rand(4, 5, 6, 1), meta={"filename_or_obj": "a.png"})
    case = SampleMapsd("pred")({"pred": samples})
    np.testing.assert_array_equal(case["pred"], samples[:1])
    np.testing.assert_allclose(case["mean"][0], samples.numpy().mean(0), atol=1e-6)
    np.testing.assert_allclose(case["std"][0], samples.numpy().std(0, ddof=1), atol=1e-6)
    assert set(SampleMapsd("pred")({"pred": samples[:1]})) == {"pred"}
