"""Shares of the cases of some classes, cut as those of all classes are; several sets of cases in one list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.lists import Case
from ..data.splits import at_strides, split_cases


def split_of_classes(
    cases: Sequence[Case], fractions: Sequence[float], seed: int = 0, classes: Sequence[str] | None = None
) -> list[list[Case]]:
    """
    ``split_cases`` of all cases, then those of ``classes``.

    Splitting the chosen classes alone would draw other patients: a model of one class and a model or feature network of
    all classes would then not hold out the same images.

    Args:
        cases: each with a "group" and a "class".
        fractions: see ``split_cases``, as ``seed`` and errors.
        seed: of the shuffle of the groups.
        classes: to keep; None for all.

    Returns:
        One list a fraction.

    Raises:
        ValueError: when a share has no case of one of the classes; names the classes that there are.
    """
    shares = split_cases(cases, fractions, seed)
    for name in classes or ():
        if not all(any(case["class"] == name for case in share) for share in shares):
            found = sorted({case["class"] for case in cases})
            raise ValueError(
                f"Cases of class {name!r} were expected in every share of {list(fractions)}; there are {found} in "
                f"{len(cases)} cases. The class of an image is its folder, or stands in the manifest; "
                "--classes '$None' takes all."
            )
    return [[case for case in share if classes is None or case["class"] in classes] for share in shares]


def numbered_sets(sets: Mapping[str, Sequence[Case]], limit: int | None = None) -> list[dict[str, Any]]:
    """
    Several sets of cases in one list, each case with its set.

    Args:
        sets: name -> cases.
        limit: most cases of a set, at equal strides; None for all.

    Returns:
        The cases with "set_name" and "set", the number of the set in the order given.

    Raises:
        ValueError: for an empty set, by name.
    """
    result: list[dict[str, Any]] = []
    for number, (name, cases) in enumerate(sets.items()):
        if not cases:
            raise ValueError(f"The set {name!r} has no case; there are { ({k: len(v) for k, v in sets.items()}) }.")
        result += [{**case, "set_name": name, "set": number} for case in at_strides(cases, limit)]
    return result
