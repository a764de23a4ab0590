from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.transforms.colour import AsChannelsd

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
