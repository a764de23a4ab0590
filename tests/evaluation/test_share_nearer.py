"""The share of images nearer to training, and its p-values where images share a nearest image or a patient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.evaluation.audit import MemorisationMetric
from common.evaluation.memorisation import audit
from common.evaluation.nearest import Matches
from common.evaluation.share_nearer import share_nearer
from tests.evaluation.test_memorisation import images


def test_many_synthetic_images_near_one_training_image_are_one_trial():
    def matches(distance: float, index: torch.Tensor) -> Matches:
        distances = torch.full((100,), distance, dtype=torch.float64)
        return Matches(index, distances, [()] * 100, [(0, 0)] * 100, index, distances)

    one, all_ = torch.zeros(100, dtype=torch.long), torch.arange(100)
    assert share_nearer(matches(0.5, one), matches(0.6, all_), 150, 50)["p_value"] > 0.5
    assert share_nearer(matches(0.5, all_), matches(0.6, all_), 150, 50)["p_value"] < 0.01
    tied = share_nearer(matches(0.5, all_), matches(0.5, all_), 150, 50)
    assert (tied["counted"], tied["share"], tied["p_value"]) == (0, None, None)


def test_images_of_a_patient_change_roles_together():
    """Null: patients of 10 images each, synthetic images near some patients, whose role is by chance."""
    rng, p_values = np.random.default_rng(0), {True: [], False: []}
    groups = np.repeat(np.arange(12), 10)
    names = [f"patient {group}" for group in groups]
    for seed in range(60):
        near = rng.permutation(12)[:3].repeat(20) * 10 + rng.integers(0, 10, 60)
        is_train = torch.from_numpy(near < 60)
        nearer, farther = torch.full((60,), 0.5), torch.full((60,), 0.9)
        index = torch.from_numpy(near % 60)
        empty = [()] * 60
        to_train, to_held_out = (
            Matches(index, distance, empty, empty, index, distance)
            for distance in (torch.where(is_train, nearer, farther), torch.where(is_train, farther, nearer))
        )
        for told in p_values:
            of = (names[:60], names[60:]) if told else None
            found = share_nearer(to_train, to_held_out, 60, 60, seed, 200, of)
            p_values[told].append(min(found["p_value"], found["p_value_less"]))
    assert np.mean(np.array(p_values[True]) < 0.025) < 0.1  # by chance, all three patients are of one side in 18 %
    assert np.mean(np.array(p_values[False]) < 0.025) > 0.1


@pytest.mark.parametrize("split", ["by patient", "random"])
def test_the_metric_of_an_evaluation_knows_the_patients_of_its_cases(split):
    train, held_out = images(40, 1), images(20, 2)
    drawn = 0.4 * train[:20] + 0.6 * images(20, 3)
    cases = [{"image": image, "group": f"p{i // 10}"} for i, image in enumerate(train)]
    metric = MemorisationMetric(train=cases)
    metric.note_groups([f"{'p' if split == 'random' else 'q'}{i // 10}" for i in range(20)])
    metric(drawn, held_out)
    alone = MemorisationMetric(train=train)
    alone(drawn, held_out)
    found, single = metric.report(), alone.report()
    assert found["value"] == single["value"] > 0.8
    assert single["p_value"] < 0.05
    if split == "random":  # a patient's images on both sides cannot change sides together
        assert found["p_value"] == single["p_value"]
    else:
        assert found["p_value"] > 0.05  # the nearest are of two patients


def test_groups_in_both_sets_are_refused():
    train, held_out, synthetic = images(20, 1), images(12, 2), images(5, 3)
    with pytest.raises(ValueError, match="such as b, have images in training and among the held-out ones"):
        audit(synthetic, train, held_out, groups=(["a", "b"] * 10, ["b"] * 12))
