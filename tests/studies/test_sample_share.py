from __future__ import annotations

import random

import pytest

from common.data.lists import image_cases
from common.studies.sample_share import sample_share
from tests.fixtures import real_data


def cases(each=50, group_size=5, classes=("a", "b")):
    return [
        {"image": f"{name}/{index:03d}.png", "class": name, "group": f"{name}{index // group_size}"}
        for name in classes
        for index in range(each)
    ]


def count(share, name):
    return sum(case["class"] == name for case in share)


def test_each_class_gives_its_fraction_and_nothing_is_lost_or_doubled():
    every = cases(49) + cases(31, classes=("c",))
    sample, rest = sample_share(every, 0.2, seed=1)
    assert [count(sample, name) for name in "abc"] == [10, 10, 6]
    assert sorted(case["image"] for case in sample + rest) == sorted(case["image"] for case in every)
    assert sample == [case for case in every if case in sample], "the order is that of the cases"


def test_the_draw_depends_on_seed_and_class_alone():
    every = cases()
    sample, _ = sample_share(every, seed=3)
    shuffled = random.Random(0).sample(every, len(every))
    assert {case["image"] for case in sample_share(shuffled, seed=3)[0]} == {case["image"] for case in sample}
    alone, _ = sample_share([case for case in every if case["class"] == "b"], seed=3)
    assert alone == [case for case in sample if case["class"] == "b"]
    assert sample_share(every, seed=4)[0] != sample


def test_groups_stay_whole_and_single_images_split_them():
    every = cases(50) + [{"image": f"big/{i}.png", "class": "a", "group": "big"} for i in range(30)]
    every.append({"image": "b/shared.png", "class": "b", "group": "a0"})  # a group of two classes
    sample, rest = sample_share(every, 0.2, by="group")
    assert not {case["group"] for case in sample} & {case["group"] for case in rest}
    assert count(sample, "a") == 15, "16 are wanted, groups have 5, and the large one does not fit"
    sample, rest = sample_share(every, 0.2)
    assert {case["group"] for case in sample} & {case["group"] for case in rest}


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (cases(), {"fraction": 1.0}, "between 0 and 1, got 1.0"),
        (cases(), {"classes": ["a", "z"]}, r"No image of \['z'\] .* there are \['a', 'b'\] in 100 cases"),
        ([], {}, "No image of any class"),
        (cases(1), {}, "Class 'a' has 1 images, too few for 0.2"),
        (cases(10, 10), {"by": "group"}, "in groups of 'group', too few"),
        (cases(10, 1), {"by": "group"}, "every image is a group of its own"),
        (cases(), {"by": "patient"}, "100 cases have no 'patient' to split by, such as a/000.png"),
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
