"""The share of each class that a generative model sees; a classifier is tested on the rest."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from ..data.lists import Case

logger = logging.getLogger(__name__)


def sample_share(
    cases: Sequence[Case],
    fraction: float = 0.2,
    seed: int = 0,
    by: str | None = None,
    classes: Sequence[str] | None = None,
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

    Returns:
        The sample and the rest, each sorted as ``cases`` are.

    Raises:
        ValueError: for a fraction outside (0, 1), a class with no image or too few, cases without ``by``, or a ``by``
            in which no two images belong together.

    Source: Nafi et al. 2024, section 4.2 and table 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
    found = sorted({case["class"] for case in cases})
    absent = sorted(set(classes or ()) - set(found))
    if absent or not cases:
        raise ValueError(f"No image of {absent or 'any class'} to draw from; there are {found} in {len(cases)} cases.")
    unmarked = [case["image"] for case in cases if by is not None and by not in case]
    if unmarked:
        raise ValueError(f"{len(unmarked)} cases have no {by!r} to split by, such as {unmarked[0]}.")
    if by is not None and len({case[by] for case in cases}) == len(cases):
        raise ValueError(
            f"By {by!r} every image is a group of its own, so nothing says what belongs together: set group_by to a "
            "column of the manifest, or split at random."
        )
    side: dict[str, bool] = {}
    for name in found:
        _draw([case for case in cases if case["class"] == name], name, fraction, seed, by or "image", side)
    sample = [case for case in cases if side[case[by or "image"]]]
    rest = [case for case in cases if not side[case[by or "image"]]]
    for name in found:
        counts = [sum(case["class"] == name for case in share) for share in (sample, rest)]
        if not all(counts):
            raise ValueError(
                f"Class {name!r} has {sum(counts)} images{f' in groups of {by!r}' if by else ''}, too few for "
                f"{fraction} of them: {counts[0]} in the sample and {counts[1]} in the rest."
            )
    return sample, rest


def of_class(sample: Sequence[Case], name: str | None, classes: Sequence[str]) -> list[Case]:
    """
    The images of one class, or all for None.

    Raises:
        ValueError: for a name that is not among ``classes``.
    """
    if name is not None and name not in classes:
        raise ValueError(f"class_name must be one of {list(classes)}, got {name!r}.")
    if name is not None:
        logger.info(f"One model a class: training on {name}")
    return [case for case in sample if name in (None, case["class"])]


def _draw(cases: Sequence[Case], name: str, fraction: float, seed: int, key: str, side: dict[str, bool]) -> None:
    """Give each group of a class its ``side``, True for the sample; groups that another class placed stay there."""
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[case[key]] = sizes.get(case[key], 0) + 1
    order = sorted(sizes)
    random.Random(f"{seed} {name}").shuffle(order)
    wanted = max(1, round(fraction * len(cases)))
    taken = sum(size for group, size in sizes.items() if side.get(group, False))
    for group in order:
        if group not in side:
            # a group too large for what is left is passed over, so that the share is met to the image where it can be
            side[group] = taken + sizes[group] <= wanted
            taken += sizes[group] * side[group]
