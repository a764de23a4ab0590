from __future__ import annotations

import math

import pytest
import torch

from common.features.features import FeatureNetwork
from common.metrics.lesions import LesionDice, ModalityAgreement
from common.transforms.modalities import RandOnlyChanneld, only_channel
from tests.simulated_gpu import simulated_gpu

LABELS = ["core", "oedema"]


class Reader:
    """Reads the oedema where the brightest modality is above 0.5, and the core where it is above 0."""

    divisor, device, labels, weights = 1, "cpu", LABELS, "reader.pt"

    def describe(self):
        return {}

    def network(self, x):
        bright = x.amax(1, keepdim=True)
        oedema = (bright > 0.5).float()
        core = ((bright > 0) & (bright <= 0.5)).float()
        return torch.cat([0.5 * torch.ones_like(bright), core, oedema], dim=1)


def test_parts_that_are_taken_as_one_and_cases_without_them():
    volumes = torch.tensor([[1.0, 1.0, 0.2, -1.0], [1.0, 0.2, -1.0, -1.0]])[:, None, None].expand(2, 2, 1, 4)
    masks = torch.tensor([[[-1, -1, 1, 1.0], [1, 1, -1, -1]], [[-1.0] * 4, [-1.0] * 4]])[:, :, None]
    whole = LesionDice(Reader(), LABELS, LABELS, "lesion", "real")
    whole(volumes, masks)
    assert whole.label == "dice_real[lesion]"
    assert whole.per_case().tolist() == [pytest.approx(6 / 7), pytest.approx(math.nan, nan_ok=True)]
    core = LesionDice(Reader(), LABELS, ["core"], "core")
    core(volumes, masks)
    assert core.per_case()[0].item() == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"parts of \['core', 'oedema'\] were expected"):
        LesionDice(Reader(), LABELS, ["rim"], "rim")
    with pytest.raises(ValueError, match="trained to read"):
        LesionDice(Reader(), ["oedema", "core"], ["core"], "core")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_masks_may_be_on_a_gpu():
    volumes, masks = (
        torch.tensor([[1.0, 0.2, -1.0, -1.0]])[:, None, None],
        torch.tensor([[[1.0, 1, -1, -1]] * 2])[:, :, None],
    )
    with simulated_gpu():
        dice = LesionDice(Reader(), LABELS, ["core"], "core")
        dice(volumes.cuda(), masks.cuda())
        assert dice.per_case().tolist() == [pytest.approx(2 / 3)]


def test_agreement_is_the_mean_dice_of_what_each_modality_shows_alone():
    t1, t2, flair = [1.0, 1, -1, -1], [1.0, -1, -1, -1], [-1.0, -1, -1, -1]
    metric = ModalityAgreement(Reader(), LABELS, LABELS, ["t1", "t2", "flair"])
    metric(torch.tensor([[t1, t2, flair], [t1, t1, t1], [flair, flair, flair]])[:, :, None])
    assert metric.per_case()[:2].tolist() == [pytest.approx((2 / 3 + 0 + 0) / 3), 1.0]
    assert math.isnan(metric.per_case()[2]), "there is no lesion"
    with pytest.raises(ValueError, match="got 2 channels"):
        metric(torch.zeros(1, 2, 4, 4))


def test_one_modality_is_shown_and_the_features_are_of_it_alone(tmp_path):
    image = torch.rand(4, 3, 3)
    shown = [RandOnlyChanneld("image", 1.0).set_random_state(s)({"image": image})["image"] for s in range(20)]
    kept = [[channel for channel in range(4) if torch.equal(one[channel], image[channel])] for one in shown]
    assert {len(one) for one in kept} == {1}
    assert {one[0] for one in kept} == {0, 1, 2, 3}
    assert torch.equal(RandOnlyChanneld("image", 0.0)({"image": image})["image"], image)
    features = FeatureNetwork(f"{__name__}:flat", channel_names=["t1", "t2"], only="t2")
    volumes = torch.rand(2, 2, 4, 4)
    assert features.label.endswith("flat, t2")
    assert torch.equal(features(volumes), only_channel(volumes, 1).flatten(1))
    with pytest.raises(KeyError, match="No channel 't3'"):
        FeatureNetwork(f"{__name__}:flat", channel_names=["t1", "t2"], only="t3")


def flat():
    network = torch.nn.Flatten()
    network.channels = 2
    return network
