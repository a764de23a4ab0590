"""Splits: whole groups on one side, shares of each class, the same for a seed whatever the order."""

from __future__ import annotations

import random

import pytest

from common.data.lists import image_cases
from common.data.splits import (
    numbered_sets,
    sample_share,
    share_by_split,
    split_cases,
    without_lookalikes,
)
from tests.fixtures import real_data


def cases(group_size=1, **sizes):
    """So many images of each class, in groups within the class."""
    return [
        {"image": f"{name}/{index:03d}.png", "class": name, "group": f"{name}{index // group_size}"}
        for name, number in sizes.items()
        for index in range(number)
    ]


def groups(share):
    return {case["group"] for case in share}


def count(share, name):
    return sum(case["class"] == name for case in share)


def images(share):
    return sorted(case["image"] for case in share)


def mixed(every):
    return random.Random(1).sample(every, len(every))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.5, 0.25, 0.25)])
def test_shares_keep_groups_whole_and_lose_no_case(seed, fractions):
    every = cases(2, a=39)
    shares = split_cases(every, fractions, seed)
    found = [groups(share) for share in shares]
    assert not any(a & b for i, a in enumerate(found) for b in found[:i])
    assert images(case for share in shares for case in share) == images(every)
    assert [len(g) for g in found][:-1] == [round(20 * f) for f in fractions][:-1]
    assert [images(share) for share in split_cases(mixed(every), fractions, seed)] == [images(s) for s in shares]
    assert shares != split_cases(every, fractions, seed + 1)


def test_classes_are_chosen_after_the_split_of_all():
    every = cases(2, a=20, b=20)
    chosen = split_cases(every, [0.8, 0.2], seed=3, classes=["b"])
    for share, whole in zip(chosen, split_cases(every, [0.8, 0.2], seed=3)):
        assert share == [case for case in whole if case["class"] == "b"]


@pytest.mark.parametrize(
    ("fractions", "classes", "message"),
    [
        ((0.8, 0.1), None, "add up to 1"),
        ((0.99, 0.01), None, "Too few cases"),
        ((0.8, 0.2), ["a", "c"], r"'c' were expected in every share.*there are \['a', 'b'\] in 40 cases"),
    ],
)
def test_shares_that_cannot_be_are_refused(fractions, classes, message):
    with pytest.raises(ValueError, match=message):
        split_cases(cases(2, a=20, b=20), fractions, classes=classes)


def test_sets_are_numbered_and_limited_at_equal_strides():
    every = cases(a=40)
    found = numbered_sets({"x": every, "y": every[:3]}, limit=4)
    assert images(found[:4]) == [every[i]["image"] for i in (0, 10, 20, 30)]
    assert [(case["set_name"], case["set"]) for case in found] == [("x", 0)] * 4 + [("y", 1)] * 3
    assert len(numbered_sets({"x": every})) == 40
    with pytest.raises(ValueError, match="The set 'y' has no case"):
        numbered_sets({"x": every, "y": []})


def test_each_class_gives_its_fraction_and_nothing_is_lost_or_doubled():
    every = cases(5, a=49, b=49, c=31)
    sample, rest = sample_share(every, 0.2, seed=1)
    assert [count(sample, name) for name in "abc"] == [10, 10, 6]
    assert images(sample + rest) == images(every)
    assert sample == [case for case in every if case in sample], "the order is that of the cases"


def test_the_sample_depends_on_seed_and_class_alone():
    every = cases(5, a=50, b=50)
    sample, _ = sample_share(every, seed=3)
    assert images(sample_share(mixed(every), seed=3)[0]) == images(sample)
    alone, _ = sample_share([case for case in every if case["class"] == "b"], seed=3)
    assert alone == [case for case in sample if case["class"] == "b"]
    assert sample_share(every, seed=4)[0] != sample


def test_groups_stay_whole_and_single_images_split_them():
    every = cases(5, a=50, b=50) + [{"image": f"big/{i}.png", "class": "a", "group": "big"} for i in range(30)]
    every.append({"image": "b/shared.png", "class": "b", "group": "a0"})  # a group of two classes
    sample, rest = sample_share(every, 0.2, by="group")
    assert not groups(sample) & groups(rest)
    assert count(sample, "a") == 15, "16 are wanted, groups have 5, and the large one does not fit"
    sample, rest = sample_share(every, 0.2)
    assert groups(sample) & groups(rest)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (cases(5, a=50, b=50), {"fraction": 1.0}, "between 0 and 1, got 1.0"),
        (cases(5, a=50, b=50), {"classes": ["a", "z"]}, r"No image of \['z'\] .* there are \['a', 'b'\] in 100 cases"),
        ([], {}, "No image of any class"),
        (cases(5, a=1, b=1), {}, "Class 'a' has 1 images, too few for 0.2"),
        (cases(10, a=10, b=10), {"by": "group"}, "in groups of 'group', too few"),
        (cases(1, a=10, b=10), {"by": "group"}, "every image is a group of its own"),
        (cases(5, a=50, b=50), {"by": "patient"}, "100 cases have no 'patient' to split by, such as a/000.png"),
    ],
)
def test_what_cannot_be_sampled_is_said(given, options, message):
    with pytest.raises(ValueError, match=message):
        sample_share(given, **options)


def series(seed=0, **sizes):
    """Series of five images a class, some of which look like one of another series or another class."""
    every = cases(5, **sizes)
    draw = random.Random(seed)
    return [{**case, "lookalike": f"n{draw.randrange(4 * len(every))}"} for case in every]


def lookalikes(share):
    return {case["lookalike"] for case in share}


@pytest.mark.parametrize("seed", range(5))
def test_a_strict_split_has_whole_series_and_no_lookalike_across(seed):
    every = series(seed, a=100, b=100)
    sample, rest = share_by_split(every, "strict", seed=seed)
    assert sample == share_by_split(every, "group", seed=seed)[0], "the sample is that of the split by group"
    assert not groups(sample) & groups(rest)
    assert not lookalikes(sample) & lookalikes(rest)
    left_out = [case for case in every if case not in sample and case not in rest]
    assert left_out, "or this shows nothing"
    assert lookalikes(left_out) <= lookalikes(sample), "nothing else is left out"
    again = share_by_split(mixed(every), "strict", seed=seed)
    assert [images(share) for share in again] == [images(sample), images(rest)]
    assert share_by_split(every, "strict", seed=seed + 1)[0] != sample


@pytest.mark.parametrize("seed", range(5))
def test_a_validation_share_is_as_strange_to_the_sample_as_the_test_share(seed):
    every = series(seed, a=200, b=200)
    sample, rest = share_by_split(every, "strict", seed=seed)
    validation, test = share_by_split(rest, "strict", fraction=0.3, seed=seed)
    shares = [sample, validation, test]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not groups(shares[first]) & groups(shares[second])
        assert not lookalikes(shares[first]) & lookalikes(shares[second])
    assert all(count(validation, name) > 0.2 * count(rest, name) for name in "ab")


@pytest.mark.parametrize("seed", range(5))
def test_later_shares_leave_out_lookalikes_of_earlier_ones(seed):
    every = series(seed, a=100, b=100)
    whole = split_cases(every, [0.6, 0.2, 0.2], seed)
    shares = split_cases(every, [0.6, 0.2, 0.2], seed, apart="lookalike")
    assert shares[0] == whole[0]
    for number in (1, 2):
        earlier = [case for share in shares[:number] for case in share]
        assert shares[number] == without_lookalikes(whole[number], earlier)
        assert not lookalikes(shares[number]) & lookalikes(earlier)
    assert sum(map(len, shares)) < len(every)
    again = split_cases(mixed(every), [0.6, 0.2, 0.2], seed, apart="lookalike")
    assert [images(share) for share in again] == [images(share) for share in shares]
    alone = split_cases(every, [0.6, 0.2, 0.2], seed, classes=["b"], apart="lookalike")
    assert alone == [[case for case in share if case["class"] == "b"] for share in shares]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (cases(5, a=50, b=50), "cases have no 'lookalike', such as a/0.*: set lookalike_by to the column"),
        ([{**case, "lookalike": case["image"]} for case in cases(5, a=50)], "no two images look alike.*split by group"),
        (
            [{**case, "lookalike": case["image"] if case["class"] == "a" else "x"} for case in cases(5, a=50, b=50)],
            r"No image of \['b'\] is left in share 1: by 'lookalike'",
        ),
    ],
)
def test_a_strict_split_that_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        share_by_split(given, "strict")
    with pytest.raises(ValueError, match=message):
        split_cases(given, [0.5, 0.5], apart="lookalike")


def test_a_split_of_another_name_or_without_series_is_refused():
    with pytest.raises(ValueError, match=r"split must be one of \['random', 'group', 'strict'\], got 'patient'"):
        share_by_split(series(a=50), "patient")
    alone = [{**case, "group": case["image"]} for case in series(a=50)]
    with pytest.raises(ValueError, match="every image is a group of its own"):
        share_by_split(alone, "strict")


def test_the_brain_set_by_series_leaves_lookalikes_out():
    every = image_cases(real_data("brain_tumor_mri"), "series", lookalike_by="lookalike")
    sample, rest = share_by_split(every, "strict")
    names = ("glioma", "meningioma", "notumor", "pituitary")
    assert [count(sample, name) for name in names] == [251, 259, 318, 290]
    assert [count(rest, name) for name in names] == [1036, 930, 1273, 982]
    plain = image_cases(real_data("brain_tumor_mri"), "series")
    assert images(sample) == images(sample_share(plain, by="group")[0]), "the sample that by group draws of series"
    assert [len(share) for share in split_cases(every, [0.8, 0.2], apart="lookalike")] == [4665, 696]


def test_the_brain_set_by_image_and_by_group():
    every = image_cases(real_data("brain_tumor_mri"), "group")
    for by in (None, "group"):
        sample, rest = sample_share(every, by=by)
        assert [count(sample, c) for c in ("glioma", "meningioma", "notumor", "pituitary")] == [264, 268, 318, 291]
        assert bool(groups(sample) & groups(rest)) == (by is None)
