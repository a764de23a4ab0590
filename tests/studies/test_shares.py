from __future__ import annotations

import pytest

from common.data.splits import split_cases
from common.studies.shares import numbered_sets, split_of_classes

CASES = [
    {"case": f"{name}_{group}_{index}", "class": name, "group": f"{name}_{group}"}
    for name in ("a", "b")
    for group in range(10)
    for index in range(2)
]


def test_classes_are_chosen_after_the_split_of_all():
    every = split_cases(CASES, [0.8, 0.2], seed=3)
    chosen = split_of_classes(CASES, [0.8, 0.2], seed=3, classes=["b"])
    for share, whole in zip(chosen, every):
        assert share == [case for case in whole if case["class"] == "b"]
    assert split_of_classes(CASES, [0.8, 0.2], seed=3) == every


def test_a_class_that_a_share_lacks_is_named():
    with pytest.raises(ValueError, match=r"'c' were expected in every share.*there are \['a', 'b'\] in 40 cases"):
        split_of_classes(CASES, [0.8, 0.2], classes=["a", "c"])


def test_sets_are_numbered_and_limited_at_equal_strides():
    cases = numbered_sets({"x": CASES, "y": CASES[:3]}, limit=4)
    assert [case["case"] for case in cases[:4]] == [CASES[i]["case"] for i in (0, 10, 20, 30)]
    assert [(case["set_name"], case["set"]) for case in cases] == [("x", 0)] * 4 + [("y", 1)] * 3
    assert len(numbered_sets({"x": CASES})) == 40
    with pytest.raises(ValueError, match="The set 'y' has no case"):
        numbered_sets({"x": CASES, "y": []})
