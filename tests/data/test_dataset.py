from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.data.dataset import CropToCommonSize


def _case(shape, channels=2):
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(1, *shape) + 1
    return {"image": MetaTensor(places), "label": places.repeat(channels, 1, 1, 1), "case": str(shape)}


def test_sides_are_the_smallest_ones_down_to_the_divisor():
    batch = CropToCommonSize(["image", "label"], divisor=4)([_case((13, 22, 9)), _case((17, 18, 12))])
    assert batch["image"].shape == (2, 1, 12, 16, 8)
    assert batch["label"].shape == (2, 2, 12, 16, 8)
    assert batch["case"] == ["(13, 22, 9)", "(17, 18, 12)"]


def test_keys_are_cropped_alike_and_nothing_is_padded():
    collate = CropToCommonSize(["image", "label"], divisor=2)
    for seed in range(5):
        torch.manual_seed(seed)
        batch = collate([_case((7, 9, 8)), _case((10, 6, 11))])
        assert torch.equal(batch["image"].expand_as(batch["label"]), batch["label"])
        assert (batch["image"] > 0).all()


def test_places_differ_between_calls_and_cover_the_volume():
    torch.manual_seed(0)
    collate = CropToCommonSize(["image"], divisor=4)
    firsts = {float(collate([_case((6, 4, 4))])["image"].min()) for _ in range(40)}
    assert firsts == {1.0, 17.0, 33.0}


def test_case_smaller_than_the_divisor_is_refused():
    with pytest.raises(ValueError, match="at least 8 voxels"):
        CropToCommonSize(["image"], divisor=8)([_case((16, 7, 16))])
