"""Checks of loaded volumes: what passes, and what each refusal says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image

from common.transforms.checks import AsChannelsd, CheckImaged, CheckSameGridd, grey_or_rgb
from tests.fixtures import image_of, oblique_affine, two_part_mask

GREY = torch.arange(12.0).reshape(1, 3, 4)
COLOUR = torch.cat([GREY, GREY / 2, GREY * 3])
ALPHA = torch.full((1, 3, 4), 255.0)


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


@pytest.mark.parametrize(
    "stored", [GREY, torch.cat([GREY, ALPHA]), GREY.expand(3, 3, 4), torch.cat([GREY] * 3 + [ALPHA])]
)
def test_grey_is_found_in_whatever_it_is_stored(stored):
    assert torch.equal(AsChannelsd("image")({"image": stored})["image"], GREY)


@pytest.mark.parametrize("stored", [COLOUR, torch.cat([COLOUR, ALPHA])])
def test_colour_loses_its_alpha_channel_alone(stored):
    assert torch.equal(AsChannelsd("image", 3)({"image": stored})["image"], COLOUR)


@pytest.mark.parametrize(
    ("stored", "channels", "message"),
    [
        (COLOUR, 1, "x.png: a grey image was expected, got colour .channels differ by up to 22"),
        (GREY, 3, "x.png: a colour image was expected, got grey"),
        (GREY.expand(3, 3, 4), 3, "x.png: a colour image was expected, got grey"),
    ],
)
def test_the_other_kind_is_refused_by_name(stored, channels, message):
    with pytest.raises(ValueError, match=message):
        AsChannelsd("image", channels)({"image": MetaTensor(stored, meta={"filename_or_obj": "x.png"})})
    with pytest.raises(ValueError, match="channels must be 1"):
        AsChannelsd("image", 2)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 7, [7]), ("1", 1, [255]), ("RGB", (9, 8, 7), [9, 8, 7]), ("P", (9, 8, 7), [9, 8, 7])],
)
def test_pictures_are_read_as_they_look(mode, value, expected, tmp_path):
    picture = Image.new("RGB", (4, 3), value).quantize(4) if mode == "P" else Image.new(mode, (4, 3), value)
    picture.save(tmp_path / "x.png")
    load = LoadImage("PILReader", image_only=True, ensure_channel_first=True, converter=grey_or_rgb)
    assert load(tmp_path / "x.png")[:, 0, 0].tolist() == expected


@pytest.mark.parametrize(("mode", "ending"), [("CMYK", "jpg"), ("I;16", "png")])
def test_inks_and_sixteen_bits_are_refused(mode, ending, tmp_path):
    Image.new(mode, (4, 3)).save(tmp_path / f"x.{ending}")
    with Image.open(tmp_path / f"x.{ending}") as picture, pytest.raises(ValueError, match=f"PIL's mode '{mode}'"):
        grey_or_rgb(picture)
