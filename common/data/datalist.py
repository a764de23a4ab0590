"""Lists of cases from folders, and splits that keep what belongs together on one side."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

Case = dict[str, str]


def paired_cases(
    dataset_dir: str | Path,
    folders: dict[str, str],
    group_of: Callable[[str], object] | None = None,
    suffix: str = ".nii.gz",
) -> list[Case]:
    """
    One case for each file name that stands in every folder, sorted by name.

    Args:
        dataset_dir: the folder that holds ``folders``.
        folders: key of the case -> folder, e.g. ``{"image": "images", "label": "labels"}``.
        group_of: file name without suffix -> what it must not be split from (the subject); by default the name.
        suffix: ending of the files.

    Returns:
        ``{key: path, …, "case": name, "group": group}`` a case.

    Raises:
        FileNotFoundError: when a folder is missing or holds no such file.
        ValueError: when a file has no partner; the message names the first ones.
    """
    files: dict[str, dict[str, Path]] = {}
    for key, folder in folders.items():
        path = Path(dataset_dir) / folder
        if not path.is_dir():
            raise FileNotFoundError(
                f"No folder {path}: set dataset_dir to a folder that holds {sorted(folders.values())}."
            )
        files[key] = {p.name[: -len(suffix)]: p for p in sorted(path.glob(f"[!.]*{suffix}"))}
        if not files[key]:
            raise FileNotFoundError(f"No *{suffix} file in {path}.")
    names = sorted(set().union(*files.values()))
    for key, found in files.items():
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"No {key} in {Path(dataset_dir) / folders[key]} for {missing[:5]} ({len(missing)} in all)."
            )
    group = group_of or (lambda name: name)
    return [{**{key: str(files[key][n]) for key in folders}, "case": n, "group": str(group(n))} for n in names]


def split_cases(cases: Sequence[Case], fractions: Sequence[float], seed: int = 0) -> list[list[Case]]:
    """
    Shares of the cases with whole groups, the same for the same groups and seed whatever the order.

    Args:
        cases: each with a "group".
        fractions: of the groups, one a share, adding up to 1.
        seed: of the shuffle of the groups.

    Returns:
        One list a fraction, each sorted as ``cases`` are.

    Raises:
        ValueError: when the fractions do not add up to 1 or a share would be empty.
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
            raise ValueError(f"Share {index} of {list(fractions)} is empty: there are only {len(groups)} groups.")
        shares.append([case for case in cases if case["group"] in chosen])
        start = end
    return shares


def at_strides(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """At most ``limit`` of the cases, at equal strides from the first; all of them for None."""
    stride = 1 if limit is None else max(1, len(cases) // limit)
    return list(cases[::stride][:limit])
