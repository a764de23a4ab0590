"""
What a classifier is trained on and tested on: synthetic, real or both images, never a test image among them.

``python -m common.studies.study_sets --help`` links a study's images into flat folders, as ``common.evaluation``
compares them.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.dataset import problem_of
from ..data.finder import MANIFEST
from ..data.lists import Case, image_cases
from ..data.splits import SPLITS, by_key, share_by_split
from ..utils.commands import with_last_line
from ..utils.files import write_csv
from .synthetic import names_digest, refuse_synthetic, synthetic_cases

TRAIN_ON = ("synthetic", "real", "real_plus_synthetic")

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
    validation_fraction: float = 0.0,
) -> dict[str, list[Case]]:
    """
    The images to train on, and the real images that the diffusion model has not seen, to test on.

    Args:
        real: all real cases, see ``image_cases``.
        synthetic_dir: folder of generated images; not read for ``train_on`` "real".
        train_on: "synthetic", "real" (the sample that the diffusion model was trained on) or "real_plus_synthetic".
        split: "random", by image as in the paper, "group" or "strict", see ``share_by_split``.
        fraction: of the real images of each class, the sample; as the diffusion model was trained.
        seed: of the sample; as the diffusion model was trained.
        per_class: synthetic images a class at size 1.
        synthetic_size: factor of ``per_class``; the images of the lowest numbers are taken.
        keep: (these images, the sample) -> those of them that are trained on; None for all.
        validation_fraction: of the rest, drawn from it as the sample is from all: real images to choose on, as strange
            to the sample as the test images are; 0 for none.

    Returns:
        "train", "test", "sample" (the real images that the diffusion model was trained on) and "validation".

    Raises:
        FileNotFoundError: when there are no synthetic images.
        ValueError: for another ``train_on`` or ``split``, synthetic images among the real ones, classes that differ, or
            fewer synthetic images than asked for, or drawn by a model of another sample; or when ``keep`` leaves none
            of a class.
    """
    if train_on not in TRAIN_ON or split not in SPLITS:
        raise ValueError(
            f"train_on must be one of {TRAIN_ON} and split of {tuple(SPLITS)}, got {train_on!r} and {split!r}."
        )
    refuse_synthetic(real)
    sample, test = share_by_split(real, split, fraction=fraction, seed=seed)
    validation: list[Case] = []
    if validation_fraction:
        validation, test = share_by_split(test, split, fraction=validation_fraction, seed=seed)
    train = [] if train_on == "synthetic" else list(sample)
    if train_on != "real":
        if synthetic_dir is None:
            raise ValueError(f"train_on is {train_on!r}: set synthetic_dir to the folder that generate.json wrote.")
        drawn = _first_of_each_class(synthetic_cases(synthetic_dir), per_class, synthetic_size, synthetic_dir)
        _check_origin(drawn, sample, synthetic_dir)
        kept = drawn if keep is None else keep(drawn, list(sample))
        if lost := lost_classes(drawn, kept):
            raise ValueError(f"None of the synthetic images of {lost} is kept: is the classifier one of these classes?")
        train += kept
    if by_key(train).keys() != by_key(test).keys():
        raise ValueError(
            f"The classes to train on and to test on differ: {lost_classes(train, test)} only in the former, "
            f"{lost_classes(test, train)} only in the latter. Folder names are classes (synthetic_dir is "
            f"{synthetic_dir})."
        )
    return {"train": train, "test": list(test), "sample": list(sample), "validation": validation}


def load_images(
    cases: Sequence[Case], transform: Callable[[Any], Any], skip_unreadable: bool = False
) -> list[dict[str, Any]]:
    """``load_sets`` of one set."""
    return load_sets([cases], transform, skip_unreadable)[0]


def load_sets(
    sets: Sequence[Sequence[Case]], transform: Callable[[Any], Any], skip_unreadable: bool = False
) -> list[list[dict[str, Any]]]:
    """
    All cases of each set with ``transform`` applied once; files that cannot be read are counted and listed together.

    Args:
        sets: cases, with the path at "image".
        transform: loads, checks and resizes a case.
        skip_unreadable: go on without them, with a warning, instead of an error.

    Returns:
        The loaded cases of each set, in their order, each with its "path".

    Raises:
        ValueError: when files cannot be read or do not fit, unless they are skipped; or when a class has none left.
    """
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
        if lost := lost_classes(cases, kept):
            raise ValueError(f"No image of {lost} can be used.")
    return loaded


def copies_of_sample(test: Sequence[Mapping[str, Any]], sample: Sequence[Mapping[str, Any]]) -> list[bool]:
    """
    Whether each test image has a near copy in the sample: one of its "lookalike" where cases have it, else of its
    "group". Never with the split that keeps these apart.
    """
    key = "lookalike" if all("lookalike" in case for case in (*test, *sample)) else "group"
    values = {case[key] for case in sample}
    return [case[key] in values for case in test]


def class_counts(cases: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Number of images of each class, by name."""
    return dict(sorted(Counter(str(case["class"]) for case in cases).items()))


def lost_classes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    """Classes of cases ``before`` that none of the cases ``after`` has."""
    return sorted({case["class"] for case in before} - {case["class"] for case in after})


def link_folders(
    dataset_dir: str | Path,
    out: str | Path,
    synthetic_dir: str | Path | None = None,
    group_by: str | None = None,
    split: str = "random",
    fraction: float = 0.2,
    seed: int = 0,
    every: int = 1,
    lookalike_by: str | None = None,
    validation_fraction: float = 0.0,
) -> dict[str, int]:
    """
    Link the sample, the real images unlike any of it, and the generated ones into a folder each; print their numbers.

    Args:
        dataset_dir: real images, see ``image_cases``.
        out: new folder for "sample", "real" and, with ``synthetic_dir``, "synthetic"; links named <class>_<file>.
        synthetic_dir: a complete synthetic set.
        group_by: column of the manifest that joins near copies; those of sample images are left out of "real". A
            ``manifest.csv`` beside the links holds it, for ``compare --group_by``.
        split: "random", "group" or "strict", as the diffusion model was trained; "group" needs ``group_by``, "strict"
            takes the columns "series" and "lookalike" where no others are given.
        fraction: of the real images of each class, the sample; as the diffusion model was trained.
        seed: of the sample; as the diffusion model was trained.
        every: n, to link every n-th image of "real" and "synthetic" only.
        lookalike_by: column of the manifest that joins look-alikes; they, not those of ``group_by``, are then left out.
        validation_fraction: above 0, so much of the rest goes into "validation" instead, see ``study_sets``.

    Returns:
        Number of links in each folder.

    Raises:
        FileExistsError: when ``out`` is there.
        FileNotFoundError: for missing images, or a synthetic set that is not complete.
        ValueError: for wrong arguments, synthetic images among the real ones, changed synthetic ones, or two images
            that would get one name.
    """
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a whole number above 0, got {every!r}.")
    if Path(out).exists():
        raise FileExistsError(f"{out} is there already: give the name of a new folder.")
    if split == "strict":
        group_by, lookalike_by = group_by or "series", lookalike_by or "lookalike"
    cases = image_cases(dataset_dir, group_by, lookalike_by=lookalike_by)
    shares = {"split": split, "fraction": fraction, "seed": seed, "validation_fraction": validation_fraction}
    sets = study_sets(cases, train_on="real", **shares)  # type: ignore[arg-type]
    seen = copies_of_sample(sets["test"], sets["sample"])
    unlike = [case for case, is_copy in zip(sets["test"], seen) if not is_copy]
    folders = {"sample": sets["sample"], "real": unlike[::every]}
    if sets["validation"]:
        folders["validation"] = sets["validation"]
    if synthetic_dir is not None:
        folders["synthetic"] = synthetic_cases(synthetic_dir)[::every]
    links = {name: _links(cases) for name, cases in folders.items()}
    _print_counts(sets, unlike if group_by or lookalike_by else None)
    for name, targets in links.items():
        Path(out, name).mkdir(parents=True)
        for link, target in targets.items():
            os.symlink(target, Path(out, name, link))
        if group_by and name != "synthetic":
            rows = [(link, case["class"], case["group"]) for link, case in zip(targets, folders[name])]
            write_csv(Path(out, name, MANIFEST), ("path", "class", group_by), rows)
    return {name: len(targets) for name, targets in links.items()}


@with_last_line
def main(command: Sequence[str] | None = None) -> None:
    """The command line; mistakes end it before any work."""
    parser = argparse.ArgumentParser(
        prog="python -m common.studies.study_sets",
        description=inspect.getdoc(link_folders),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, parameter in inspect.signature(link_folders).parameters.items():
        if parameter.default is parameter.empty:
            parser.add_argument(name)
        else:
            kind = str if parameter.default is None else type(parameter.default)
            parser.add_argument(f"--{name}", type=kind, default=parameter.default)
    print(link_folders(**vars(parser.parse_args(command))))


def _check_origin(drawn: Sequence[Mapping[str, Any]], sample: Sequence[Case], folder: str | Path) -> None:
    """Refuse synthetic images of a model that has seen other real images than ``sample``."""
    told = {case.get("sample") for case in drawn}
    if told - {None, names_digest(sample)}:
        raise ValueError(
            f"{folder} was drawn by a model that was trained on another sample of the real images, so it may have seen "
            "images that are tested on: give the set of this split, fraction and split_seed."
        )
    if None in told:
        logger.warning(f"{folder} does not say which real images its model has seen: make sure that none is tested on.")


def _attempt(case: Case, transform: Callable[[Any], Any]) -> dict[str, Any] | str:
    try:
        return transform({**case, "path": case["image"]})
    except Exception as error:  # readers of damaged files raise anything
        return problem_of(case, error)


def _first_of_each_class(cases: Sequence[Case], per_class: int, size: float, folder: str | Path) -> list[Case]:
    wanted = round(per_class * size)
    if wanted < 1:
        raise ValueError(f"At least one synthetic image a class was expected, got {size} times {per_class}.")
    few = {name: found for name, found in class_counts(cases).items() if found < wanted}
    if few:
        raise ValueError(
            f"{folder} has {few} images of these classes, {wanted} of each were expected ({size:g} times {per_class}): "
            "generate more of them, or lower synthetic_size or per_class."
        )
    # the cases of a set are sorted by class and number
    return [case for found in by_key(cases).values() for case in found[:wanted]]


def _links(cases: Sequence[Case]) -> dict[str, Path]:
    links = {f"{case['class']}_{Path(case['image']).name}": Path(case["image"]).resolve() for case in cases}
    if len(links) < len(cases):
        raise ValueError(f"{len(cases)} images of the classes have only {len(links)} names: give them different ones.")
    return links


def _print_counts(sets: Mapping[str, Sequence[Case]], unlike: Sequence[Case] | None) -> None:
    validated = ", validation" if sets["validation"] else ""
    print(
        f"class: sample{validated}, rest{', of the rest with a near copy in the sample' if unlike is not None else ''}"
    )
    for name in [*class_counts(sets["test"]), "all"]:
        parts = ("sample", *(["validation"] if validated else []), "test")
        shown = [sum(name in (case["class"], "all") for case in sets[part]) for part in parts]
        if unlike is not None:
            shown.append(shown[-1] - sum(name in (case["class"], "all") for case in unlike))
        print(f"{name}: {', '.join(map(str, shown))}")


if __name__ == "__main__":
    sys.exit(main())
