"""Lists of 2D images from a folder tree, with the class and the group of each."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .datalist import Case

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".nii", ".nii.gz", ".dcm")


def image_cases(
    dataset_dir: str | Path,
    group_by: str | None = None,
    classes: Sequence[str] | None = None,
    manifest: str = "manifest.csv",
    key: str = "image",
) -> list[Case]:
    """
    One case an image, sorted by path.

    Args:
        dataset_dir: folder with images, at any depth; the class of an image is the folder it lies in.
        group_by: column of the manifest that says what must not be split (patient, group of near copies); an empty
            entry is a group of its own. None: each image is its own group.
        classes: the classes to take; None for all.
        manifest: a CSV file in ``dataset_dir`` with the columns "path" (relative to it), "class" and ``group_by``.
        key: of the image's path in a case.

    Returns:
        ``{key: path, "case": name, "class": class, "group": group}`` an image.

    Raises:
        FileNotFoundError: when there is no folder, no image, no manifest for ``group_by``, or a file of it is missing.
        ValueError: when the manifest lacks a column or lists an image twice, or a class has no image.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}: set dataset_dir to a folder of images.")
    listed = (root / manifest).is_file()
    if group_by and not listed:
        raise FileNotFoundError(
            f"No {root / manifest}, which says what belongs together ({group_by}); "
            "--group_by '$None' takes every image for itself."
        )
    if listed:
        rows = _manifest_rows(root / manifest, group_by)
    else:
        rows = [(p.relative_to(root).as_posix(), p.parent.name, "") for p in root.rglob("*") if _is_image(p)]
    twice = sorted(path for path, times in Counter(row[0] for row in rows).items() if times > 1)
    if twice:
        raise ValueError(f"{root / manifest} lists {len(twice)} images more than once, such as {twice[0]}.")
    others = Counter(name for _, name, _ in rows if classes is not None and name not in classes)
    if others:
        logger.info(f"Classes of {root} that are left out: {dict(sorted(others.items()))}")
    cases = [
        {key: str(root / path), "case": _stem(Path(path)), "class": name, "group": group or path}
        for path, name, group in sorted(rows)
        if classes is None or name in classes
    ]
    empty = sorted(set(classes or ()) - {case["class"] for case in cases})
    if empty:
        raise ValueError(f"No image of the classes {empty} in {root}; there are {sorted({row[1] for row in rows})}.")
    if not cases:
        raise FileNotFoundError(f"No image ({', '.join(SUFFIXES)}) in {root}.")
    missing = [case[key] for case in cases if listed and not Path(case[key]).is_file()]
    if missing:
        raise FileNotFoundError(f"{root / manifest} lists {len(missing)} files that are missing, such as {missing[0]}.")
    return cases


def _manifest_rows(path: Path, group_by: str | None) -> list[tuple[str, str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        wanted = ["path", "class", *([group_by] if group_by else [])]
        absent = [name for name in wanted if name not in (reader.fieldnames or [])]
        if absent:
            raise ValueError(f"{path} has no column {absent}; it has {reader.fieldnames}.")
        return [(row["path"], row["class"], row[group_by] if group_by else "") for row in reader]


def _is_image(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(SUFFIXES)


def _stem(path: Path) -> str:
    """The file name without its suffix; other dots stay."""
    name = path.name
    suffix = next(end for end in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(end))
    return name[: -len(suffix)]
