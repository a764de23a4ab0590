"""Splits of a data set that are the same on every machine: whole groups, shares of each class, strides."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from .lists import Case

# What each split keeps together ("by") and apart ("apart"), as keys of a case.
SPLITS: dict[str, dict[str, str]] = {
    "random": {},
    "group": {"by": "group"},
    "strict": {"by": "group", "apart": "lookalike"},
}

logger = logging.getLogger(__name__)
_AnyCase = TypeVar("_AnyCase", bound=Mapping[str, Any])


def split_cases(
    cases: Sequence[Case],
    fractions: Sequence[float],
    seed: int = 0,
    classes: Sequence[str] | None = None,
    apart: str | None = None,
) -> list[list[Case]]:
    """
    Shares of the cases with whole groups, the same for the same groups and seed whatever the order.

    Args:
        cases: each with a "group" and, for ``classes``, a "class".
        fractions: of the groups, one a share, adding up to 1.
        seed: of the shuffle of the groups.
        classes: to keep; None for all. They are chosen after the split of all, so that a model of one class and a model
            of all classes hold out the same images.
        apart: key of a case, such as "lookalike": a share leaves out the cases that share a value of it with one of an
            earlier share; the first share is the same with and without. None leaves out nothing.

    Returns:
        One list a fraction, each sorted as ``cases`` are.

    Raises:
        ValueError: when the fractions do not add up to 1, a share would be empty, or a share has no case of a class;
            for ``apart``, also as ``without_lookalikes``.
    """
    if abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must add up to 1, got {list(fractions)}.")
    groups = sorted({case["group"] for case in cases})
    random.Random(seed).shuffle(groups)
    shares, start = [], 0
    for index, fraction in enumerate(fractions):
        end = len(groups) if index == len(fractions) - 1 else start + round(fraction * len(groups))
        chosen = set(groups[start:end])
        if not chosen:
            raise ValueError(
                f"Too few cases to hold some out: there are only {len(groups)} subjects or groups for shares of "
                f"{list(fractions)}."
            )
        shares.append([case for case in cases if case["group"] in chosen])
        start = end
    if apart is not None:
        shares = _kept_apart(cases, shares, apart)
    for name in classes or ():
        if not all(any(case["class"] == name for case in share) for share in shares):
            raise ValueError(
                f"Cases of class {name!r} were expected in every share of {list(fractions)}; there are "
                f"{sorted(by_key(cases))} in {len(cases)} cases. The class of an image is its folder, or stands in the "
                "manifest; --classes '$None' takes all."
            )
    return [[case for case in share if classes is None or case["class"] in classes] for share in shares]


def sample_share(
    cases: Sequence[Case],
    fraction: float = 0.2,
    seed: int = 0,
    by: str | None = None,
    classes: Sequence[str] | None = None,
    apart: str | None = None,
) -> tuple[list[Case], list[Case]]:
    """
    Draw a share of the images of each class, the same for the same images and seed whatever their order.

    Args:
        cases: each with an "image" and a "class", as ``image_cases`` gives them.
        fraction: of the images of a class, in (0, 1), rounded; at least one image on each side.
        seed: of the draw; without ``by``, a class is drawn alike whatever other classes there are.
        by: key of a case that says what must not be split, such as "group": whole groups, of all classes, then go to
            one side. None draws single images, near copies of which stay on the other side (the paper).
        classes: that must be there; None for those that are.
        apart: key of a case, such as "lookalike": the rest leaves out what shares a value of it with the sample. The
            sample is the same with and without. None leaves out nothing.

    Returns:
        The sample and the rest, each sorted as ``cases`` are.

    Raises:
        ValueError: for a fraction outside (0, 1), a class with no image or too few, cases without ``by``, or a ``by``
            in which no two images belong together; for ``apart``, also as ``without_lookalikes``.

    Source: Nafi et al. 2024, section 4.2 and table 1.
    """
    found = by_key(cases)
    _check_share(cases, fraction, by, sorted(set(classes or ()) - set(found)))
    side: dict[str, bool] = {}
    for name in sorted(found):
        _draw(found[name], name, fraction, seed, by or "image", side)
    sample, rest = ([case for case in cases if side[case[by or "image"]] == taken] for taken in (True, False))
    for name in sorted(found):
        counts = [sum(case["class"] == name for case in share) for share in (sample, rest)]
        if not all(counts):
            raise ValueError(
                f"Class {name!r} has {sum(counts)} images{f' in groups of {by!r}' if by else ''}, too few for "
                f"{fraction} of them: {counts[0]} in the sample and {counts[1]} in the rest."
            )
    if apart is not None:
        sample, rest = _kept_apart(cases, [sample, rest], apart)
    return sample, rest


def share_by_split(
    cases: Sequence[Case],
    split: str = "random",
    fraction: float = 0.2,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> tuple[list[Case], list[Case]]:
    """
    ``sample_share`` by the name of a split.

    A validation share that is as strange to the sample as the test share is comes from a second call on the rest: its
    groups are whole, it holds no look-alike of the sample, and the test share holds none of either.

    Args:
        cases: as ``image_cases`` gives them; for "strict" with ``group_by`` a series or patient and ``lookalike_by``.
        split: "random", by image as in the paper; "group", whole groups; or "strict", whole groups, and no look-alike
            of the sample in the rest.
        fraction: see ``sample_share``.
        seed: see ``sample_share``.
        classes: see ``sample_share``.

    Returns:
        The sample and the rest.

    Raises:
        ValueError: for another ``split``, and as ``sample_share``.

    >>> cases = [
    ...     {"image": f"{i}.png", "class": "a", "group": str(i // 2), "lookalike": str(i // 3)} for i in range(40)
    ... ]
    >>> sample, rest = share_by_split(cases, "strict")
    >>> validation, test = share_by_split(rest, "strict", fraction=0.3)
    >>> [len(share) for share in (sample, rest, validation, test)]
    [8, 24, 7, 9]
    >>> len(without_lookalikes(test, [*sample, *validation])) == len(test)
    True
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}.")
    return sample_share(cases, fraction=fraction, seed=seed, classes=classes, **SPLITS[split])


def without_lookalikes(
    cases: Sequence[_AnyCase], others: Sequence[Mapping[str, Any]], key: str = "lookalike"
) -> list[_AnyCase]:
    """
    The cases that share no value of ``key`` with any of ``others``, in their order.

    Raises:
        ValueError: when a case on either side has no ``key``; says how many, and names the first.

    >>> without_lookalikes([{"lookalike": "x"}, {"lookalike": "y"}], [{"lookalike": "x"}])
    [{'lookalike': 'y'}]
    """
    every: list[Mapping[str, Any]] = [*cases, *others]
    unmarked = [case for case in every if key not in case]
    if unmarked:
        name = unmarked[0].get("image", unmarked[0])
        raise ValueError(
            f"{len(unmarked)} cases have no {key!r}, such as {name}: set lookalike_by to the column of the manifest "
            "that says which images look alike."
        )
    values = {case[key] for case in others}
    return [case for case in cases if case[key] not in values]


def of_class(sample: Sequence[Case], name: str | None, classes: Sequence[str]) -> list[Case]:
    """The images of one class, or all for None; ValueError for a name that is not among ``classes``."""
    if name is not None and name not in classes:
        raise ValueError(f"class_name must be one of {list(classes)}, got {name!r}.")
    if name is not None:
        logger.info(f"One model a class: training on {name}")
    return [case for case in sample if name in (None, case["class"])]


def at_strides(cases: Sequence[_AnyCase], limit: int | None) -> list[_AnyCase]:
    """At most ``limit`` of the cases, at equal strides from the first; all of them for None."""
    stride = 1 if limit is None else max(1, len(cases) // limit)
    return list(cases[::stride][:limit])


def numbered_sets(sets: Mapping[str, Sequence[Case]], limit: int | None = None) -> list[dict[str, Any]]:
    """
    Several sets of cases in one list, each case with its "set_name" and the number of its "set".

    Args:
        sets: name -> cases.
        limit: most cases of a set, at equal strides; None for all.

    Raises:
        ValueError: for an empty set, by name.
    """
    result: list[dict[str, Any]] = []
    for number, (name, cases) in enumerate(sets.items()):
        if not cases:
            raise ValueError(f"The set {name!r} has no case; there are { ({k: len(v) for k, v in sets.items()}) }.")
        result += [{**case, "set_name": name, "set": number} for case in at_strides(cases, limit)]
    return result


def by_key(cases: Sequence[_AnyCase], key: str = "class") -> dict[str, list[_AnyCase]]:
    """The cases of each value of ``key``, in their order."""
    found: dict[str, list[_AnyCase]] = {}
    for case in cases:
        found.setdefault(case[key], []).append(case)
    return found


def _kept_apart(cases: Sequence[Case], shares: Sequence[list[Case]], key: str) -> list[list[Case]]:
    """Each share without the look-alikes of those before it; ValueError where this leaves nothing of a class."""
    kept: list[list[Case]] = []
    for number, share in enumerate(shares):
        kept.append(without_lookalikes(share, [case for earlier in shares[:number] for case in earlier], key))
        lost = {case.get("class") for case in share} - {case.get("class") for case in kept[-1]}
        if lost:
            raise ValueError(
                f"No image of {sorted(map(str, lost))} is left in share {number}: by {key!r}, each looks like one of "
                "an earlier share. Set lookalike_by to a column that joins fewer images, or take another fraction."
            )
    if len(by_key(cases, key)) == len(cases):
        raise ValueError(
            f"By {key!r} no two images look alike, so nothing says what to leave out: set lookalike_by to a column of "
            "the manifest, or split by group."
        )
    if dropped := sum(map(len, shares)) - sum(map(len, kept)):
        logger.info(f"{dropped} of {len(cases)} images are in no share: they look like one of an earlier share.")
    return kept


def _check_share(cases: Sequence[Case], fraction: float, by: str | None, absent: Sequence[str]) -> None:
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
    if absent or not cases:
        found = sorted(by_key(cases))
        raise ValueError(f"No image of {absent or 'any class'} to draw from; there are {found} in {len(cases)} cases.")
    unmarked = [case["image"] for case in cases if by is not None and by not in case]
    if unmarked:
        raise ValueError(f"{len(unmarked)} cases have no {by!r} to split by, such as {unmarked[0]}.")
    if by is not None and len(by_key(cases, by)) == len(cases):
        raise ValueError(
            f"By {by!r} every image is a group of its own, so nothing says what belongs together: set group_by to a "
            "column of the manifest, or split at random."
        )


def _draw(cases: Sequence[Case], name: str, fraction: float, seed: int, key: str, side: dict[str, bool]) -> None:
    """Give each group of a class its ``side``, True for the sample; groups that another class placed stay there."""
    sizes = {group: len(members) for group, members in by_key(cases, key).items()}
    order = sorted(sizes)
    random.Random(f"{seed} {name}").shuffle(order)
    wanted = max(1, round(fraction * len(cases)))
    taken = sum(size for group, size in sizes.items() if side.get(group, False))
    for group in order:
        if group not in side:
            # a group too large for what is left is passed over, so that the share is met to the image where it can be
            side[group] = taken + sizes[group] <= wanted
            taken += sizes[group] * side[group]
