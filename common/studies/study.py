"""What a classifier is trained on and tested on: synthetic, real or both images, never a test image among them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.lists import Case
from .sample_record import check_origin
from .sample_share import sample_share
from .synthetic import refuse_synthetic, synthetic_cases

TRAIN_ON = ("synthetic", "real", "real_plus_synthetic")
SPLITS = ("random", "group")

logger = logging.getLogger(__name__)
_LISTED = 100


def study_sets(
    real: Sequence[Case],
    synthetic_dir: str | Path | None = None,
    train_on: str = "synthetic",
    split: str = "random",
    fraction: float = 0.2,
    seed: int = 0,
    per_class: int = 1000,
    synthetic_size: float = 1.0,
    keep: Callable[[list[Case], list[Case]], list[Case]] | None = None,
) -> dict[str, list[Case]]:
    """
    The images to train on, and the real images that the diffusion model has not seen, to test on.

    Args:
        real: all real cases, see ``image_cases``.
        synthetic_dir: folder of generated images; not read for ``train_on`` "real".
        train_on: "synthetic", "real" (the sample that the diffusion model was trained on) or "real_plus_synthetic".
        split: "random", by image as in the paper, or "group": near copies stay together.
        fraction: of the real images of each class, the sample; as the diffusion model was trained.
        seed: of the sample; as the diffusion model was trained.
        per_class: synthetic images a class at size 1.
        synthetic_size: factor of ``per_class``; the images of the lowest numbers are taken.
        keep: (these images, the sample) -> those of them that are trained on; None for all.

    Returns:
        "train", "test" and "sample" (the real images that the diffusion model was trained on).

    Raises:
        FileNotFoundError: when there are no synthetic images.
        ValueError: for another ``train_on`` or ``split``, synthetic images among the real ones, classes that differ, or
            fewer synthetic images than asked for, or drawn by a model of another sample; or when ``keep`` leaves none
            of a class.
    """
    if train_on not in TRAIN_ON or split not in SPLITS:
        raise ValueError(f"train_on must be one of {TRAIN_ON} and split of {SPLITS}, got {train_on!r} and {split!r}.")
    refuse_synthetic(real)
    sample, test = sample_share(real, fraction=fraction, seed=seed, by="group" if split == "group" else None)
    train = [] if train_on == "synthetic" else list(sample)
    if train_on != "real":
        if synthetic_dir is None:
            raise ValueError(f"train_on is {train_on!r}: set synthetic_dir to the folder that generate.json wrote.")
        drawn = _first_of_each_class(synthetic_cases(synthetic_dir), per_class, synthetic_size, synthetic_dir)
        check_origin(drawn, sample, synthetic_dir)
        train += drawn if keep is None else _kept(drawn, keep(drawn, list(sample)))
    _check_classes(train, test, synthetic_dir)
    return {"train": train, "test": list(test), "sample": list(sample)}


def load_images(
    cases: Sequence[Case], transform: Callable[[Any], Any], skip_unreadable: bool = False
) -> list[dict[str, Any]]:
    """
    All cases with ``transform`` applied once; files that cannot be read are counted and listed together.

    Args:
        cases: with the path at "image".
        transform: loads, checks and resizes a case.
        skip_unreadable: go on without them, with a warning, instead of an error.

    Returns:
        The loaded cases, in the order of ``cases``, each with its "path".

    Raises:
        ValueError: when files cannot be read or do not fit, unless they are skipped; or when a class has none left.
    """
    return load_sets([cases], transform, skip_unreadable)[0]


def load_sets(
    sets: Sequence[Sequence[Case]], transform: Callable[[Any], Any], skip_unreadable: bool = False
) -> list[list[dict[str, Any]]]:
    """``load_images`` of several sets; the files of all that cannot be read are listed together."""
    results = [[_attempt(case, transform) for case in cases] for cases in sets]
    broken = [result for found in results for result in found if isinstance(result, str)]
    if broken:
        shown = "\n".join(f"  {line}" for line in broken[:_LISTED])
        more = f"\n  and {len(broken) - _LISTED} more" if len(broken) > _LISTED else ""
        message = f"{len(broken)} of {sum(map(len, sets))} images cannot be used:\n{shown}{more}"
        if not skip_unreadable:
            raise ValueError(f"{message}\n--skip_unreadable True goes on without them.")
        logger.warning("%s\nThey are skipped.", message)
    loaded = [[result for result in found if not isinstance(result, str)] for found in results]
    for cases, kept in zip(sets, loaded):
        lost = sorted({case["class"] for case in cases} - {case["class"] for case in kept})
        if lost:
            raise ValueError(f"No image of {lost} can be used.")
    return loaded


def copies_of_sample(test: Sequence[Mapping[str, Any]], sample: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Whether each test image has a near copy (one of its group) in the sample; never with a split by group."""
    groups = {case["group"] for case in sample}
    return [case["group"] in groups for case in test]


def class_counts(cases: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Number of images of each class, by name."""
    return dict(sorted(Counter(str(case["class"]) for case in cases).items()))


def _attempt(case: Case, transform: Callable[[Any], Any]) -> dict[str, Any] | str:
    try:
        return transform({**case, "path": case["image"]})
    except Exception as error:  # readers of damaged files raise anything; MONAI chains what went wrong
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return f"{case['image']}: {str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__}"


def _first_of_each_class(cases: Sequence[Case], per_class: int, size: float, folder: str | Path) -> list[Case]:
    wanted = round(per_class * size)
    if wanted < 1:
        raise ValueError(f"At least one synthetic image a class was expected, got {size} times {per_class}.")
    by_class: dict[str, list[Case]] = {}
    for case in cases:
        by_class.setdefault(case["class"], []).append(case)
    few = {name: len(found) for name, found in sorted(by_class.items()) if len(found) < wanted}
    if few:
        raise ValueError(
            f"{folder} has {few} images of these classes, {wanted} of each were expected ({size:g} times {per_class}): "
            "generate more of them, or lower synthetic_size or per_class."
        )
    return [
        case for name in sorted(by_class) for case in sorted(by_class[name], key=lambda c: int(c["number"]))[:wanted]
    ]


def _kept(drawn: list[Case], kept: list[Case]) -> list[Case]:
    lost = sorted({case["class"] for case in drawn} - {case["class"] for case in kept})
    if lost:
        raise ValueError(f"None of the synthetic images of {lost} is kept: is the classifier one of these classes?")
    return kept


def _check_classes(train: Sequence[Case], test: Sequence[Case], folder: str | Path | None) -> None:
    ours, theirs = ({case["class"] for case in part} for part in (train, test))
    if ours != theirs:
        raise ValueError(
            f"The classes to train on and to test on differ: {sorted(ours - theirs)} only in the former, "
            f"{sorted(theirs - ours)} only in the latter. Folder names are classes (synthetic_dir is {folder})."
        )
