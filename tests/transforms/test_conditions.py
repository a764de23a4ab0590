"""Conditions of restoration networks: scaled by what is known, holes marked."""

import pytest
import torch

from common.transforms.conditions import HoledConditiond, ScaleIntensityByd, holed


def case() -> dict:
    clean = torch.tensor([[[0.0, 50.0], [100.0, 200.0]]])
    return {"image": clean, "condition": torch.tensor([[[20.0, 60.0], [100.0, 120.0]]]), "case": "a"}


def test_both_images_are_scaled_by_the_condition_and_clipped():
    result = ScaleIntensityByd(["image", "condition"], by="condition")(case())
    torch.testing.assert_close(result["condition"], torch.tensor([[[-1.0, -0.2], [0.6, 1.0]]]))
    torch.testing.assert_close(result["image"], torch.tensor([[[-1.0, -0.4], [0.6, 1.0]]]))


def test_room_above_keeps_lost_peaks():
    result = ScaleIntensityByd(["image", "condition"], by="condition", b_max=0.0)(case())
    assert float(result["condition"].max()) == 0.0
    torch.testing.assert_close(result["image"].flatten()[-1], torch.tensor(0.8))


def test_only_known_pixels_count():
    data = {"image": torch.tensor([[[0.0, 50.0], [100.0, 999.0]]]), "hole": torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])}
    result = ScaleIntensityByd("image", by="image", outside="hole")(data)
    torch.testing.assert_close(result["image"], torch.tensor([[[-1.0, 0.0], [1.0, 1.0]]]))


def test_an_image_without_contrast_is_refused_by_name():
    with pytest.raises(ValueError, match=r"a: all known pixels have the value 3"):
        ScaleIntensityByd("image", by="image")({"image": torch.full((1, 4, 4), 3.0), "case": "a"})
    with pytest.raises(ValueError, match="all known pixels"):
        ScaleIntensityByd("image", by="image", outside="hole")(
            {"image": torch.rand(1, 4, 4), "hole": torch.ones(1, 4, 4)}
        )
    with pytest.raises(ValueError, match="b_max"):
        ScaleIntensityByd("image", by="image", b_max=1.5)


def test_the_hole_is_blank_and_marked():
    image = torch.rand(1, 6, 6)
    hole = torch.zeros(1, 6, 6)
    hole[:, 2:4, 1:5] = 1
    condition = HoledConditiond("image")({"image": image, "hole": hole})["condition"]
    assert condition.shape == (2, 6, 6)
    assert torch.equal(condition[:1], image * (1 - hole))
    assert torch.equal(condition[1:], 2 * hole - 1)
    assert torch.equal(holed(image[None], hole[None])[0], condition)
