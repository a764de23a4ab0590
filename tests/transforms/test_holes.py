"""Holes: random ones, a user's own, what the network is given, and the known pixels that come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CopyItemsd
from PIL import Image
from scipy import ndimage

from common.data.reader import LoadImaged
from common.transforms.conditions import ScaleIntensityByd
from common.transforms.holes import KINDS, CheckHoled, HoledConditiond, KeepKnownd, QuietBackgroundd, random_hole
from tests.bundles.restoration_runs import grey, write_dicom, write_picture
from tests.fixtures import write_nifti


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("area", [0.001, 0.05, 0.3, 0.6])
def test_holes_have_the_wanted_area(kind, area):
    for seed in range(10):
        hole = random_hole((96, 128), area, kind, np.random.RandomState(seed))
        assert 0 < hole.sum() < hole.size
        assert abs(hole.mean() - area) < max(0.25 * area, 0.004)


def test_holes_refuse_nonsense():
    random = np.random.RandomState(0)
    with pytest.raises(ValueError, match="kind"):
        random_hole((32, 32), 0.2, "circles", random)
    with pytest.raises(ValueError, match="share"):
        random_hole((32, 32), 1.0, "boxes", random)


def holed_case(tmp_path, hole, name="hole.png"):
    path = write_picture(tmp_path / name, hole)
    image = write_picture(tmp_path / "image.png", grey())
    return LoadImaged(["image", "hole"])({"image": str(image), "hole": str(path)})


def box(value=255):
    hole = np.zeros((30, 44), np.uint8)
    hole[5:20, 10:30] = value
    return hole


@pytest.mark.parametrize("value", [1, 255])
def test_whatever_is_not_zero_is_hole(tmp_path, value):
    hole = CheckHoled()(holed_case(tmp_path, box(value)))["hole"]
    np.testing.assert_array_equal(hole[0, :, :, 0].T, box(1))
    blurred = CheckHoled()(holed_case(tmp_path, box(), "hole.jpg"))["hole"]
    np.testing.assert_array_equal(blurred[0, :, :, 0].T, box(1))


def jpeg_in_dicom(path, jpeg):
    import pydicom
    from pydicom.encaps import encapsulate

    image = pydicom.dcmread(write_dicom(path, box(), bits=8))
    image.PixelData, image.file_meta.TransferSyntaxUID = encapsulate([jpeg.read_bytes()]), "1.2.840.10008.1.2.4.50"
    image["PixelData"].is_undefined_length = True
    image.save_as(path)
    return path


def test_lossy_compression_widens_no_hole_whatever_the_file_is_called(tmp_path):
    picture = write_picture(tmp_path / "as.jpg", box(), quality=60).rename(tmp_path / "jpeg.png")
    said = write_dicom(tmp_path / "said.dcm", np.asarray(Image.open(picture)), bits=8, LossyImageCompression="01")
    image = str(write_picture(tmp_path / "image.png", grey()))
    for path in (picture, said, jpeg_in_dicom(tmp_path / "lossy.dcm", picture)):
        hole = CheckHoled()(LoadImaged(["image", "hole"])({"image": image, "hole": str(path)}))["hole"]
        np.testing.assert_array_equal(hole[0, :, :, 0].T, box(1), err_msg=path.name)


def test_what_is_negative_lies_in_the_hole_and_what_is_almost_zero_does_not(tmp_path):
    values = box(1).astype(np.float32)
    values[5:9, 10:30] = -1
    image = write_nifti(tmp_path / "image.nii", grey())
    hole = write_nifti(tmp_path / "hole.nii", values + np.float32(1e-5))
    case = LoadImaged(["image", "hole"])({"image": str(image), "hole": str(hole)})
    np.testing.assert_array_equal(CheckHoled()(case)["hole"][0, :, :, 0], box(1))


@pytest.mark.parametrize(
    ("hole", "message"),
    [
        (box(0), "hole.png: the hole is empty; pixels to be filled"),
        (box(0) + 1, "hole.png: the hole covers the whole image; known pixels"),
        (box()[:-1], r"hole.png: a hole of the size of .*image.png, 44 x 30 x 1, was expected, got 44 x 29 x 1"),
    ],
)
def test_what_is_no_hole_is_named(tmp_path, hole, message):
    with pytest.raises(ValueError, match=message):
        CheckHoled()(holed_case(tmp_path, hole))


def test_a_hole_on_another_grid_is_named(tmp_path):
    image = write_nifti(tmp_path / "image.nii", grey((9, 10, 5)))
    hole = write_nifti(tmp_path / "hole.nii", (grey((9, 10, 5)) > 200).astype(np.uint8), np.eye(4))
    case = LoadImaged(["image", "hole"])({"image": str(image), "hole": str(hole)})
    with pytest.raises(ValueError, match=r"hole.nii and .*image.nii lie on different grids"):
        CheckHoled()(case)


def test_a_picture_is_no_hole_for_a_volume_and_the_other_way_round(tmp_path):
    picture = write_picture(tmp_path / "hole.png", box())
    image = write_nifti(tmp_path / "image.nii", grey((44, 30)))
    case = LoadImaged(["image", "hole"])({"image": str(image), "hole": str(picture)})
    with pytest.raises(ValueError, match=r"hole.png: a NIfTI hole was expected for .*image.nii"):
        CheckHoled()(case)
    with pytest.raises(ValueError, match=r"image.nii: a hole as a picture .* was expected for .*hole.png"):
        CheckHoled()({"image": case["hole"], "hole": case["image"]})


def test_the_network_sees_nothing_of_the_hole_and_known_pixels_return(tmp_path):
    case = CheckHoled()(holed_case(tmp_path, box()))
    case = CopyItemsd(["image", "hole"], names=["original", "original_hole"])(case)
    inside = case["hole"].as_tensor() > 0
    scaled = ScaleIntensityByd("image", outside="hole")(case)
    condition = HoledConditiond("image")(scaled)["condition"]
    assert condition.shape == (2, 44, 30, 1)
    assert bool((condition[:1][inside] == 0).all())
    assert torch.equal(condition[1:].as_tensor() > 0, inside)
    torch.testing.assert_close(condition[:1][~inside].as_tensor(), scaled["image"][~inside].as_tensor())
    result = KeepKnownd()({**case, "pred": MetaTensor(torch.full((3, 44, 30, 1), -7.0))})["pred"]
    assert bool((result[:, inside[0]] == -7).all())
    for sample in result:
        assert torch.equal(sample[~inside[0]].as_tensor(), case["original"][0][~inside[0]].as_tensor())


def background_with_a_head(seed: int = 0, noise: float = 1 / 255) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image, hole and what was drawn, (1, 128, 128) each: a bright disk in the dark, noise of 5 grey levels drawn."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    inside = ((x - 64) ** 2 + (y - 64) ** 2 < 40**2).float()
    image = (inside + noise * torch.rand(128, 128, generator=random))[None]
    hole = torch.zeros(1, 128, 128)
    hole[:, 40:100, 4:60] = 1
    drawn = image + 5 / 255 * torch.randn(1, 128, 128, generator=random).abs()
    return image, hole, drawn


def test_a_dark_background_becomes_quiet_and_nothing_else_changes():
    image, hole, drawn = background_with_a_head()
    case = {"pred": torch.cat([drawn, drawn + 0.1 / 255]), "image": torch.cat([image, hole]), "hole": hole}
    found = QuietBackgroundd()(case)["pred"]
    dark, bright = (hole > 0) & (image < 0.5), (hole > 0) & (image > 0.5)
    error = lambda images, where: float(((images - image)[where] ** 2).mean().sqrt() * 255)  # noqa: E731
    deep = dark.clone()
    deep[..., 20:60] = False  # columns that are no neighbours of the head
    assert error(drawn, dark) > 4.5
    assert error(found[:1], deep) < 0.5
    assert torch.equal(found[:1][bright], drawn[bright])
    assert torch.equal(found[:1][hole == 0], drawn[hole == 0])
    assert torch.equal(found[:1], QuietBackgroundd()({**case, "pred": drawn})["pred"]), "each sample by itself"


def test_a_background_with_a_texture_and_images_without_a_range_stay_as_they_are():
    image, hole, drawn = background_with_a_head(noise=40 / 255)
    case = {"pred": drawn, "image": image, "hole": hole}
    assert torch.equal(QuietBackgroundd(dark=1.0)(case)["pred"], drawn), "it would be as smooth as nothing around it"
    for flat in ({**case, "image": 0 * image}, {**case, "hole": 0 * hole + 1}):
        assert torch.equal(QuietBackgroundd()(flat)["pred"], drawn)


def test_without_a_hole_the_background_of_the_whole_image_becomes_quiet():
    image, _, drawn = background_with_a_head()
    everywhere = image + 5 / 255 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    found = QuietBackgroundd(hole_key=None)({"pred": everywhere, "image": image})["pred"]
    far = torch.from_numpy(ndimage.minimum_filter((image < 0.5).numpy(), (1, 41, 41)))
    assert far.any()
    assert float((found - image)[far].abs().max()) < 1.5 / 255 < float((everywhere - image)[far].max())
    assert torch.equal(found[image > 0.5], everywhere[image > 0.5])
    flat = {"pred": drawn, "image": 0 * image}
    assert torch.equal(QuietBackgroundd(hole_key=None)(flat)["pred"], drawn)


def test_slices_of_a_volume_do_not_see_each_other():
    pictures = [background_with_a_head(seed) for seed in (1, 2)]
    image, hole, drawn = (torch.stack(parts, dim=-1) for parts in zip(*pictures))
    found = QuietBackgroundd()({"pred": drawn, "image": image, "hole": hole})["pred"]
    for index, (one, its_hole, its_drawn) in enumerate(pictures):
        alone = QuietBackgroundd()({"pred": its_drawn, "image": one, "hole": its_hole})["pred"]
        torch.testing.assert_close(found[..., index], alone, atol=2e-4, rtol=0, msg="the range is of all slices")
