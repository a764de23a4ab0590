"""Lists of cases from folders: pairs, labelled images, slices of volumes."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.files import read_csv
from .finder import ENDINGS, EXPECTED, MANIFEST, find_images, stem_of
from .nifti import nifti_shape
from .subjects import subject_rule

Case = dict[str, str]

logger = logging.getLogger(__name__)


def paired_cases(
    dataset_dir: str | Path,
    folders: dict[str, str],
    group_of: str | Callable[[str], object] = "file",
    had_at: str | None = None,
) -> list[Case]:
    """
    One case for each name that stands in every folder, at any depth, sorted by name.

    Args:
        dataset_dir: the folder that holds ``folders``.
        folders: key of the case -> folder of NIfTI files, e.g. ``{"image": "images", "label": "labels"}``.
        group_of: name -> what it must not be split from (the subject), see ``subject_rule``.
        had_at: which data are meant and where they are had, for the error that says that a folder is missing.

    Returns:
        ``{key: path, …, "case": name, "group": group}`` a case. The name is the file's without its ending, after the
        names of its sub-folders: "site_a_001" for ``site_a/001.nii.gz``.

    Raises:
        FileNotFoundError: when a folder is missing or holds no such file.
        ValueError: when a file has no partner, or a folder holds two of one name; the message names the first ones.
    """
    files: dict[str, dict[str, str]] = {}
    for key, folder in folders.items():
        path = Path(dataset_dir) / folder
        if not path.is_dir():
            raise FileNotFoundError(
                f"No folder {path}: set dataset_dir to a folder that holds {sorted(folders.values())}."
                + (f" It is {had_at}." if had_at else "")
            )
        found = find_images(path, kinds=("nifti",), recursive=True)
        if not found:
            raise FileNotFoundError(f"No NIfTI file ({', '.join(ENDINGS['nifti'])}) in {path}.")
        named = ["_".join([*Path(file).relative_to(path).parts[:-1], stem_of(file)]) for file in found]
        twice = [name for name, times in Counter(named).items() if times > 1]
        if twice:
            raise ValueError(f"{path} holds several files of one name: {twice[:5]} ({len(twice)} in all).")
        files[key] = dict(zip(named, found))
    names = sorted(set().union(*files.values()))
    for key, stems in files.items():
        missing = [name for name in names if name not in stems]
        if missing:
            raise ValueError(
                f"No {key} in {Path(dataset_dir) / folders[key]} for {missing[:5]} ({len(missing)} in all)."
            )
    group = subject_rule(group_of)
    return [{**{key: files[key][name] for key in folders}, "case": name, "group": str(group(name))} for name in names]


def folder_cases(
    dataset_dir: str | Path, files: Mapping[str, Sequence[str]], group_of: str | Callable[[str], object] = "file"
) -> list[Case]:
    """
    One case for each folder of NIfTI files, sorted by name, as BraTS publishes them.

    Args:
        dataset_dir: the folder of the folders.
        files: key of the case -> how its file's name may end before the ending, after "_" or "-", such as
            ``{"t1": ["t1", "t1n"], "label": ["seg"]}`` for ``BraTS2021_00000_t1.nii.gz``.
        group_of: name of the folder -> what it must not be split from (the subject), see ``subject_rule``.

    Returns:
        ``{key: path, …, "case": name of the folder, "group": group}`` a case.

    Raises:
        FileNotFoundError: when there is no folder, or none in it that holds such a file.
        ValueError: when folders lack files, or hold several for one key; the message names the first ones.
    """
    root, cases, problems = Path(dataset_dir), [], []
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}: set dataset_dir to a folder with a folder a case.")
    group = subject_rule(group_of)
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files_here = find_images(folder, kinds=("nifti",), generated=True)  # a drawn set is a data set too
        inside = {file: re.split("[_-]", stem_of(file))[-1] for file in files_here}
        found = {key: [file for file, end in inside.items() if end in ends] for key, ends in files.items()}
        if not any(found.values()):
            continue
        wrong = [f"{len(own)} for {key} ({' or '.join(files[key])})" for key, own in found.items() if len(own) != 1]
        problems += [f"{folder} holds {', '.join(wrong)}"] if wrong else []
        known = {key: own[0] for key, own in found.items() if own}
        cases.append({**known, "case": folder.name, "group": str(group(folder.name))})
    if problems:
        raise ValueError(f"One file each was expected: {'; '.join(problems[:3])} ({len(problems)} cases in all).")
    if not cases:
        raise FileNotFoundError(
            f"{root} holds no folder with files that end in {sorted(end for ends in files.values() for end in ends)}."
        )
    return cases


def volume_cases(
    dataset_dir: str | Path,
    folders: dict[str, str],
    files: Mapping[str, Sequence[str]] | None = None,
    group_of: str | Callable[[str], object] = "file",
) -> list[Case]:
    """The cases of ``folder_cases`` where ``files`` are named, a folder a case, and else those of ``paired_cases``."""
    return folder_cases(dataset_dir, files, group_of) if files else paired_cases(dataset_dir, folders, group_of)


def image_cases(
    dataset_dir: str | Path,
    group_by: str | None = None,
    classes: Sequence[str] | None = None,
    manifest: str = MANIFEST,
    key: str = "image",
    lookalike_by: str | None = None,
) -> list[Case]:
    """
    One case an image, sorted by path.

    Args:
        dataset_dir: folder with images, at any depth; the class of an image is the folder it lies in.
        group_by: column of the manifest that says what must not be split (patient, group of near copies); an empty
            entry is a group of its own. None: each image is its own group.
        classes: the classes to take; None for all.
        manifest: a CSV file in ``dataset_dir`` with the columns "path" (relative to it), "class" and those asked for.
        key: of the image's path in a case.
        lookalike_by: column of the manifest that says which images look alike, for a strict split; an empty entry looks
            like none. None: cases have no "lookalike".

    Returns:
        ``{key: path, "case": name, "class": class, "group": group}`` an image, with ``lookalike_by`` its "lookalike".

    Raises:
        FileNotFoundError: when there is no folder, no image, no manifest for a column, or a file of it is missing.
        ValueError: when the manifest lacks a column or lists an image twice, or a class has no image.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}: set dataset_dir to a folder of images.")
    listed = (root / manifest).is_file()
    columns = {"group": group_by, "lookalike": lookalike_by}
    if any(columns.values()) and not listed:
        raise FileNotFoundError(
            f"No {root / manifest}, which says what belongs together ({', '.join(filter(None, columns.values()))}). "
            f"To do without: {_without(columns)}."
        )
    if listed:
        rows = _manifest_rows(root / manifest, columns)
    else:
        found = [Path(path) for path in find_images(root, recursive=True)]
        rows = [(path.relative_to(root).as_posix(), path.parent.name, {}) for path in found]
    marks = [name for name, column in columns.items() if name == "group" or column]
    twice = sorted(path for path, times in Counter(row[0] for row in rows).items() if times > 1)
    if twice:
        raise ValueError(f"{root / manifest} lists {len(twice)} images more than once, such as {twice[0]}.")
    others = Counter(name for _, name, _ in rows if classes is not None and name not in classes)
    if others:
        logger.info(f"Classes of {root} that are left out: {dict(sorted(others.items()))}")
    cases = [
        {key: str(root / path), "case": stem_of(path), "class": name, **{m: values.get(m) or path for m in marks}}
        for path, name, values in sorted(rows, key=lambda row: row[:2])
        if classes is None or name in classes
    ]
    empty = sorted(set(classes or ()) - {case["class"] for case in cases})
    if empty:
        raise ValueError(f"No image of the classes {empty} in {root}; there are {sorted({row[1] for row in rows})}.")
    if not cases:
        raise FileNotFoundError(f"No image in {root}: {EXPECTED} was expected.")
    missing = [case[key] for case in cases if listed and not Path(case[key]).is_file()]
    if missing:
        raise FileNotFoundError(f"{root / manifest} lists {len(missing)} files that are missing, such as {missing[0]}.")
    return cases


def _without(columns: Mapping[str, str | None]) -> str:
    """The arguments by which every image stands for itself; nothing where no column joins them."""
    return " ".join(f"--{name}_by '$None'" for name, column in columns.items() if column)


def _manifest_rows(path: Path, columns: Mapping[str, str | None]) -> list[tuple[str, str, dict[str, str]]]:
    """Path, class and the values of ``columns`` (key of a case -> column or None) of each row."""
    asked = {key: column for key, column in columns.items() if column}
    expected = f"the manifest of a data set, or {_without(columns)}," if asked else "the manifest of a data set"
    rows = read_csv(path, ("path", "class", *asked.values()), expected)
    return [(row["path"], row["class"], {key: row[column] for key, column in asked.items()}) for row in rows]


def slice_cases(
    dataset_dir: str | Path, axis: int = 2, channel: int | None = None, skip: int = 0, key: str = "image"
) -> list[dict[str, Any]]:
    """
    One case a slice of each NIfTI volume in a folder, sorted by file name and position; slices of a volume are a group.

    For the Decathlon's Task05_Prostate: ``dataset_dir`` is its imagesTr, ``channel`` 0 the T2-weighted image. A folder
    of single slices is what ``image_cases`` lists.

    Args:
        dataset_dir: folder with .nii.gz or .nii files; subfolders are not searched.
        axis: of the array that the slices are stacked along: 0, 1 or 2.
        channel: of 4D files; None where files are 3D.
        skip: slices to leave out at each end.
        key: of the volume's path in a case.

    Returns:
        ``{key: path, "slice": index, "axis": axis, "channel": channel or -1, "case": name_index, "group": name}``.

    Raises:
        FileNotFoundError: when there is no folder or no such file.
        ValueError: for another axis, a file of other dimensions, or one that has no slice left; names it.
    """
    if axis not in (0, 1, 2) or skip < 0:
        raise ValueError(f"axis 0, 1 or 2 and skip of at least 0 were expected, got {axis} and {skip}.")
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}: set dataset_dir to a folder of NIfTI volumes.")
    files = [Path(path) for path in find_images(root, kinds=("nifti",))]
    if not files:
        raise FileNotFoundError(f"No NIfTI volume ({', '.join(ENDINGS['nifti'])}) in {root}.")
    cases = []
    for path in files:
        name = stem_of(path)
        number = _slices(path, axis, channel)
        if number <= 2 * skip:
            raise ValueError(
                f"{path}: {number} slices along axis {axis} leave none when {skip} are skipped at each end."
            )
        place = {key: str(path), "axis": axis, "channel": -1 if channel is None else channel, "group": name}
        cases += [{**place, "slice": k, "case": f"{name}_{k:03d}"} for k in range(skip, number - skip)]
    return cases


def _slices(path: Path, axis: int, channel: int | None) -> int:
    shape = nifti_shape(path)
    wanted = 3 if channel is None else 4
    if len(shape) != wanted or (channel is not None and not 0 <= channel < shape[3]):
        expected = "a 3D volume" if channel is None else f"a 4D file with channel {channel}"
        hint = f": set channel, 0 to {shape[3] - 1}" if channel is None and len(shape) == 4 else ""
        raise ValueError(f"{path}: {expected} was expected, got shape {tuple(shape)}{hint}.")
    return int(shape[axis])
