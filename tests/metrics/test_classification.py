"""Scores of classifiers against scikit-learn, means over folds, and intervals over groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

from common.metrics.consistency import classification_scores


def drawn(n=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), n), rng.integers(0, classes, n)


def test_they_are_scikit_learns():
    probabilities, labels = drawn()
    found = classification_scores(probabilities, labels)
    guessed = probabilities.argmax(1)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, guessed, average="macro", zero_division=0)
    expected = {
        "loss": log_loss(labels, probabilities),
        "accuracy": accuracy_score(labels, guessed),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected)
    assert found["confusion"] == confusion_matrix(labels, guessed).tolist()
    for name, value in expected.items():
        low, high = found[name]["interval95"]
        assert low < value < high


def test_a_class_that_is_never_found_has_no_precision():
    found = classification_scores(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    assert [found[name]["value"] for name in ("precision", "recall", "f1")] == pytest.approx([0.25, 0.5, 1 / 3])


def test_folds_are_averaged():
    parts = [drawn(seed=0)[0], drawn(seed=1)[0]]
    labels = drawn()[1]
    each = [classification_scores(part, labels)["f1"]["value"] for part in parts]
    both = classification_scores(parts, labels)
    assert both["f1"]["each"] == pytest.approx(each)
    assert both["f1"]["value"] == pytest.approx(np.mean(each))
    assert np.sum(both["confusion"]) == 2 * len(labels)


def test_copies_in_a_group_do_not_narrow_the_interval():
    probabilities, labels = drawn(30)
    alone = classification_scores(probabilities, labels)["accuracy"]["interval95"]
    times = 9
    groups = np.tile(np.arange(30), times)
    copies = classification_scores(np.tile(probabilities, (times, 1)), np.tile(labels, times), groups)
    assert copies["accuracy"]["interval95"] == pytest.approx(alone)
    wrong = classification_scores(np.tile(probabilities, (times, 1)), np.tile(labels, times))["accuracy"]["interval95"]
    assert wrong[1] - wrong[0] < 0.6 * (alone[1] - alone[0])


def test_what_cannot_be_scored_is_refused():
    probabilities, labels = drawn()
    for wrong in (labels[:-1], labels + 1):
        with pytest.raises(ValueError, match="were expected"):
            classification_scores(probabilities, wrong)
    with pytest.raises(ValueError, match="add up to 1"):
        classification_scores(2 * probabilities, labels)
