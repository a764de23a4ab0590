"""Conditions: scaled by what is known, and the scale in which methods are compared; numbers of classes."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.transforms.baselines import ByNetwork
from common.transforms.conditions import ClassIndexd, LabelsToChannelsd, MeasuredScaled, ScaleIntensityByd


def case() -> dict:
    clean = torch.tensor([[[0.0, 50.0], [100.0, 200.0]]])
    return {"image": clean, "condition": torch.tensor([[[20.0, 60.0], [100.0, 120.0]]]), "case": "a"}


def test_both_images_are_scaled_by_the_condition_and_clipped_and_room_above_keeps_lost_peaks():
    result = ScaleIntensityByd(["image", "condition"], by="condition")(case())
    torch.testing.assert_close(result["condition"], torch.tensor([[[-1.0, -0.2], [0.6, 1.0]]]))
    torch.testing.assert_close(result["image"], torch.tensor([[[-1.0, -0.4], [0.6, 1.0]]]))
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
    with pytest.raises(ValueError, match=r"case.nii: all known pixels have the value 0.5; contrast was expected"):
        ScaleIntensityByd("image")(
            {"image": MetaTensor(torch.full((1, 4, 4), 0.5), meta={"filename_or_obj": "case.nii"})}
        )
    with pytest.raises(ValueError, match="no pixel is known"):
        ScaleIntensityByd("image", by="image", outside="hole")(
            {"image": torch.rand(1, 4, 4), "hole": torch.ones(1, 4, 4)}
        )
    with pytest.raises(ValueError, match="b_max"):
        ScaleIntensityByd("image", by="image", b_max=1.5)


def test_the_inverse_brings_the_known_pixels_back_in_the_units_of_the_file():
    hole = torch.zeros(1, 9, 10, 1)
    hole[:, 2:5] = 1
    image = torch.rand(1, 9, 10, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 500 - 30
    image[hole > 0] = 1e6
    scale = ScaleIntensityByd("image", b_max=0.5, outside="hole")
    scaled = scale({"image": MetaTensor(image), "hole": MetaTensor(hole)})["image"]
    plain = ScaleIntensityByd("image", "image", 0.5, "hole")({"image": image[..., 0], "hole": hole[..., 0]})["image"]
    torch.testing.assert_close(scaled.as_tensor()[..., 0], plain, rtol=0, atol=0)
    back = scale.inverse({"image": scaled})["image"]
    np.testing.assert_allclose(back[hole == 0], image[hole == 0], atol=1e-3)
    assert not back.applied_operations


def test_a_patients_range_scales_all_images_alike_and_is_undone():
    clean, degraded = torch.tensor([[[20.0, 60.0]]]), torch.tensor([[[30.0, 50.0]]])
    case = {"image": degraded, "label": clean, "degraded": degraded, "range": (0.0, 200.0)}
    network = ScaleIntensityByd("image", by="image", range_key="range")(case)
    torch.testing.assert_close(network["image"], degraded / 100 - 1)
    measured = MeasuredScaled("pred", given="degraded", range_key="range")({**case, "pred": network["image"]})
    torch.testing.assert_close(measured["pred"], torch.tensor([[[-0.5, 0.5]]]))  # of the clean image's own range
    with pytest.raises(ValueError, match="all pixels of the patient have the value 3"):
        ScaleIntensityByd("image", by="image", range_key="range")({**case, "range": (3.0, 3.0)})
    with pytest.raises(KeyError, match="range"):
        ScaleIntensityByd("image", by="image", range_key="range")({"image": degraded})


@pytest.mark.parametrize("b_max", [1.0, 0.5])
def test_measured_scale_undoes_what_the_network_sees(b_max):
    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.uniform(20, 220, (1, 8, 8))).float()
    degraded = 120 + 0.5 * (label - 120)  # half of the contrast, as blurring leaves it
    network = ScaleIntensityByd(["image", "target"], by="image", b_max=b_max)(
        {"image": degraded, "target": degraded.clone()}
    )
    case = {"pred": network["target"], "degraded": degraded, "label": label}
    measured = MeasuredScaled("pred", given="degraded", b_max=b_max)(case)
    assert (float(measured["label"].min()), float(measured["label"].max())) == (-1.0, 1.0)
    torch.testing.assert_close(measured["pred"], measured["degraded"], atol=1e-5, rtol=0)
    torch.testing.assert_close(measured["degraded"], 2 * (degraded - label.min()) / (label.max() - label.min()) - 1)
    twice = ByNetwork(nn.Identity())({**measured, "image": network["image"]})
    torch.testing.assert_close(twice, measured["degraded"], atol=1e-5, rtol=0)


def test_only_known_pixels_give_the_scale_of_a_holed_image():
    label = torch.arange(64.0).reshape(1, 8, 8)
    hole = (label > 50).float()
    network = ScaleIntensityByd("image", by="image", outside="hole")({"image": label, "hole": hole})
    measured = MeasuredScaled("pred", given="label", outside="hole")(
        {"pred": network["image"], "label": label, "hole": hole}
    )
    known = hole == 0
    torch.testing.assert_close(measured["pred"][known], measured["label"][known], atol=1e-5, rtol=0)


def test_class_numbers_follow_the_list():
    number = ClassIndexd("class", classes=["b", "a"])
    assert int(number({"class": "a"})["class_index"]) == 1
    with pytest.raises(ValueError, match=r"x7: a class of \['b', 'a'\] was expected, got 'c'"):
        number({"class": "c", "case": "x7"})


@pytest.mark.parametrize("hot", [[(3, 4, 9999.0)], [(3, 4, 9999.0), (30, 2, -5000.0)]])
def test_a_hot_pixel_sets_no_range_and_is_told(hot, caplog):
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)) * 100
    plain = ScaleIntensityByd("image")({"image": image})["image"]
    assert not caplog.records
    for x, y, value in hot:
        image[0, x, y] = value
    scaled = ScaleIntensityByd("image")({"image": image, "case": "a.png"})["image"]
    assert "a.png" in caplog.text
    assert float((scaled - plain).abs()[0, 40:].max()) < 0.01
    by = ScaleIntensityByd("image", by="image")({"image": image})["image"]
    assert float(by.std()) < 0.1, "what training and evaluation scale by stays the extremes"


def test_a_mask_of_many_labels_is_refused_in_one_short_line():
    mask = torch.arange(300.0).reshape(1, 300, 1)
    with pytest.raises(
        ValueError, match=r"values \[2, 3, .*, 9, \.\.\. \(298 in all\)\] are not in the label"
    ) as error:
        LabelsToChannelsd("mask", {"one": 1})({"mask": mask})
    assert len(str(error.value)) < 160
