from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image

from common.transforms.colour import AsChannelsd, grey_or_rgb

GREY = torch.arange(12.0).reshape(1, 3, 4)
COLOUR = torch.cat([GREY, GREY / 2, GREY * 3])
ALPHA = torch.full((1, 3, 4), 255.0)


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
