"""Folds: every image is validated on once, classes are mixed alike, groups stay whole."""

from __future__ import annotations

from collections import Counter

import pytest

from common.data.folds import stratified_folds


def cases(sizes, group=lambda name, index: f"{name}{index}"):
    return [
        {"image": f"{name}_{i}.png", "class": name, "group": group(name, i)}
        for name, n in sizes.items()
        for i in range(n)
    ]


def test_each_image_is_held_out_once_and_classes_are_mixed_alike():
    every = cases({"a": 23, "b": 11})
    parts = stratified_folds(every, 5, seed=3)
    assert Counter(c["image"] for _, valid in parts for c in valid) == Counter(c["image"] for c in every)
    for train, valid in parts:
        assert not {c["image"] for c in train} & {c["image"] for c in valid}
        counts = Counter(c["class"] for c in valid)
        assert (counts["a"], counts["b"]) in [(a, b) for a in (4, 5) for b in (2, 3)]
    assert parts == stratified_folds(every, 5, seed=3)
    assert parts != stratified_folds(every, 5, seed=4)


def test_groups_stay_whole_even_across_classes():
    every = cases({"a": 24, "b": 24}, lambda name, index: f"{index // 4 if index < 8 else f'{name}{index}'}")
    for train, valid in stratified_folds(every, 4):
        assert not {c["group"] for c in train} & {c["group"] for c in valid}


def test_a_class_with_fewer_images_than_folds_is_an_error():
    with pytest.raises(ValueError, match=r"at least 5 images .*'b': 4"):
        stratified_folds(cases({"a": 9, "b": 4}), 5)
    with pytest.raises(ValueError, match="At least 2 folds"):
        stratified_folds(cases({"a": 9}), 1)
