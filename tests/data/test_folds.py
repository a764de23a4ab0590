"""Folds: every case is held out once, groups stay whole, classes are mixed alike, the same for a seed."""

from __future__ import annotations

from collections import Counter

import pytest

from common.data.folds import shares_of_size, stratified_folds
from tests.data.test_splits import cases, groups, images


def test_each_image_is_held_out_once_and_classes_are_mixed_alike():
    every = cases(a=23, b=11)
    parts = stratified_folds(every, 5, seed=3)
    assert images(c for _, valid in parts for c in valid) == images(every)
    for train, valid in parts:
        assert not set(images(train)) & set(images(valid))
        counts = Counter(c["class"] for c in valid)
        assert (counts["a"], counts["b"]) in [(a, b) for a in (4, 5) for b in (2, 3)]
    assert parts == stratified_folds(every, 5, seed=3)
    assert parts != stratified_folds(every, 5, seed=4)


def test_folds_keep_groups_whole_even_across_classes():
    every = cases(a=24, b=24)
    for index, case in enumerate(every):
        if index % 24 < 8:
            case["group"] = str(index % 24 // 4)
    for train, valid in stratified_folds(every, 4):
        assert not groups(train) & groups(valid)


def test_a_class_with_fewer_images_than_folds_is_an_error():
    with pytest.raises(ValueError, match=r"at least 5 images .*'b': 4"):
        stratified_folds(cases(a=9, b=4), 5)
    with pytest.raises(ValueError, match="At least 2 folds"):
        stratified_folds(cases(a=9), 1)


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_a_size_have_whole_groups(seed):
    cases = [{"image": f"{i}.nii", "group": str(i * 2 // 3)} for i in range(40)]
    validation, training = shares_of_size(cases, [10, 20], seed)
    assert (len(validation), len(training)) == (10, 20)
    assert not {case["group"] for case in validation} & {case["group"] for case in training}
    assert shares_of_size(cases[::-1], [10, 20], seed) == [validation[::-1], training[::-1]]
    assert shares_of_size(cases, [10, 5], seed)[0] == validation


@pytest.mark.parametrize("counts", [[41], [30, 11], [1]])
def test_shares_that_groups_cannot_fill_are_refused(counts):
    cases = [{"image": f"{i}.nii", "group": str(i // 2)} for i in range(40)]
    with pytest.raises(ValueError, match="whole groups: there are 40 cases of 20 groups"):
        shares_of_size(cases, counts)
