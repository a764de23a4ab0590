"""Splits: whole groups on one side, every case once, classes mixed alike, the same for a seed whatever the order."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from common.data.lists import image_cases
from common.data.splits import numbered_sets, sample_share, split_cases, stratified_folds
from tests.fixtures import real_data


def _cases(numbers):
    return [{"case": f"case_{n:03d}", "group": str((n + 1) // 2)} for n in numbers]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.5, 0.25, 0.25)])
def test_split_keeps_groups_whole_and_loses_no_case(seed, fractions):
    cases = _cases(range(1, 40))
    shares = split_cases(cases, fractions, seed)
    groups = [{case["group"] for case in share} for share in shares]
    assert not any(a & b for i, a in enumerate(groups) for b in groups[:i])
    assert sorted(case["case"] for share in shares for case in share) == [case["case"] for case in cases]
    assert [len(g) for g in groups][:-1] == [round(20 * f) for f in fractions][:-1]


def test_split_does_not_depend_on_the_order_of_the_cases():
    cases = _cases(range(1, 40))
    mixed = random.Random(1).sample(cases, len(cases))
    for share, other in zip(split_cases(cases, (0.8, 0.2)), split_cases(mixed, (0.8, 0.2))):
        assert share == sorted(other, key=lambda case: case["case"])


def test_split_depends_on_the_seed():
    cases = _cases(range(1, 40))
    assert split_cases(cases, (0.5, 0.5), 0) != split_cases(cases, (0.5, 0.5), 1)


def test_wrong_fractions_and_empty_shares_are_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        split_cases(_cases(range(1, 9)), (0.8, 0.1))
    with pytest.raises(ValueError, match="empty"):
        split_cases(_cases([1, 2]), (0.9, 0.1))


CASES = [
    {"case": f"{name}_{group}_{index}", "class": name, "group": f"{name}_{group}"}
    for name in ("a", "b")
    for group in range(10)
    for index in range(2)
]


def test_classes_are_chosen_after_the_split_of_all():
    every = split_cases(CASES, [0.8, 0.2], seed=3)
    chosen = split_cases(CASES, [0.8, 0.2], seed=3, classes=["b"])
    for share, whole in zip(chosen, every):
        assert share == [case for case in whole if case["class"] == "b"]
    assert split_cases(CASES, [0.8, 0.2], seed=3) == every


def test_a_class_that_a_share_lacks_is_named():
    with pytest.raises(ValueError, match=r"'c' were expected in every share.*there are \['a', 'b'\] in 40 cases"):
        split_cases(CASES, [0.8, 0.2], classes=["a", "c"])


def test_sets_are_numbered_and_limited_at_equal_strides():
    cases = numbered_sets({"x": CASES, "y": CASES[:3]}, limit=4)
    assert [case["case"] for case in cases[:4]] == [CASES[i]["case"] for i in (0, 10, 20, 30)]
    assert [(case["set_name"], case["set"]) for case in cases] == [("x", 0)] * 4 + [("y", 1)] * 3
    assert len(numbered_sets({"x": CASES})) == 40
    with pytest.raises(ValueError, match="The set 'y' has no case"):
        numbered_sets({"x": CASES, "y": []})


def grouped(each=50, group_size=5, classes=("a", "b")):
    return [
        {"image": f"{name}/{index:03d}.png", "class": name, "group": f"{name}{index // group_size}"}
        for name in classes
        for index in range(each)
    ]


def count(share, name):
    return sum(case["class"] == name for case in share)


def test_each_class_gives_its_fraction_and_nothing_is_lost_or_doubled():
    every = grouped(49) + grouped(31, classes=("c",))
    sample, rest = sample_share(every, 0.2, seed=1)
    assert [count(sample, name) for name in "abc"] == [10, 10, 6]
    assert sorted(case["image"] for case in sample + rest) == sorted(case["image"] for case in every)
    assert sample == [case for case in every if case in sample], "the order is that of the cases"


def test_the_draw_depends_on_seed_and_class_alone():
    every = grouped()
    sample, _ = sample_share(every, seed=3)
    shuffled = random.Random(0).sample(every, len(every))
    assert {case["image"] for case in sample_share(shuffled, seed=3)[0]} == {case["image"] for case in sample}
    alone, _ = sample_share([case for case in every if case["class"] == "b"], seed=3)
    assert alone == [case for case in sample if case["class"] == "b"]
    assert sample_share(every, seed=4)[0] != sample


def test_groups_stay_whole_and_single_images_split_them():
    every = grouped(50) + [{"image": f"big/{i}.png", "class": "a", "group": "big"} for i in range(30)]
    every.append({"image": "b/shared.png", "class": "b", "group": "a0"})  # a group of two classes
    sample, rest = sample_share(every, 0.2, by="group")
    assert not {case["group"] for case in sample} & {case["group"] for case in rest}
    assert count(sample, "a") == 15, "16 are wanted, groups have 5, and the large one does not fit"
    sample, rest = sample_share(every, 0.2)
    assert {case["group"] for case in sample} & {case["group"] for case in rest}


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (grouped(), {"fraction": 1.0}, "between 0 and 1, got 1.0"),
        (grouped(), {"classes": ["a", "z"]}, r"No image of \['z'\] .* there are \['a', 'b'\] in 100 cases"),
        ([], {}, "No image of any class"),
        (grouped(1), {}, "Class 'a' has 1 images, too few for 0.2"),
        (grouped(10, 10), {"by": "group"}, "in groups of 'group', too few"),
        (grouped(10, 1), {"by": "group"}, "every image is a group of its own"),
        (grouped(), {"by": "patient"}, "100 cases have no 'patient' to split by, such as a/000.png"),
    ],
)
def test_what_cannot_be_sampled_is_said(given, options, message):
    with pytest.raises(ValueError, match=message):
        sample_share(given, **options)


def test_the_brain_set_by_image_and_by_group():
    every = image_cases(real_data("brain_tumor_mri"), "group")
    for by in (None, "group"):
        sample, rest = sample_share(every, by=by)
        assert [count(sample, name) for name in ("glioma", "meningioma", "notumor", "pituitary")] == [
            264,
            268,
            318,
            291,
        ]
        shared = {case["group"] for case in sample} & {case["group"] for case in rest}
        assert bool(shared) == (by is None)


def labelled(sizes, group=lambda name, index: f"{name}{index}"):
    return [
        {"image": f"{name}_{i}.png", "class": name, "group": group(name, i)}
        for name, n in sizes.items()
        for i in range(n)
    ]


def test_each_image_is_held_out_once_and_classes_are_mixed_alike():
    every = labelled({"a": 23, "b": 11})
    parts = stratified_folds(every, 5, seed=3)
    assert Counter(c["image"] for _, valid in parts for c in valid) == Counter(c["image"] for c in every)
    for train, valid in parts:
        assert not {c["image"] for c in train} & {c["image"] for c in valid}
        counts = Counter(c["class"] for c in valid)
        assert (counts["a"], counts["b"]) in [(a, b) for a in (4, 5) for b in (2, 3)]
    assert parts == stratified_folds(every, 5, seed=3)
    assert parts != stratified_folds(every, 5, seed=4)


def test_groups_stay_whole_even_across_classes():
    every = labelled({"a": 24, "b": 24}, lambda name, index: f"{index // 4 if index < 8 else f'{name}{index}'}")
    for train, valid in stratified_folds(every, 4):
        assert not {c["group"] for c in train} & {c["group"] for c in valid}


def test_a_class_with_fewer_images_than_folds_is_an_error():
    with pytest.raises(ValueError, match=r"at least 5 images .*'b': 4"):
        stratified_folds(labelled({"a": 9, "b": 4}), 5)
    with pytest.raises(ValueError, match="At least 2 folds"):
        stratified_folds(labelled({"a": 9}), 1)
