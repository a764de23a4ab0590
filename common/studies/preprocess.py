"""Volumes prepared for training: read, transformed by a config, and written as a data set of images and labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.checks import check_folder, opens
from ..data.image_file import check_same, source_record
from ..data.lists import Case, paired_cases
from ..masks.files import SUFFIX, write_mask
from ..utils.files import sha256_of, write_json

FOLDERS = {"image": "images", "label": "labels"}

logger = logging.getLogger(__name__)


def raw_cases(dataset_dir: str | Path, template: str | Path | None = None) -> list[Case]:
    """
    A case for each volume in ``dataset_dir/images``, with its label map in ``labels`` where there is that folder.

    Args:
        dataset_dir: the folder of both.
        template: goes to each case; None for none.

    Returns:
        As ``paired_cases``, with "template" where there is one.

    Raises:
        FileNotFoundError: for no volume, or no template.
        ValueError: for volumes without label map, and label maps without volume.
    """
    folders = {key: name for key, name in FOLDERS.items() if key == "image" or (Path(dataset_dir) / name).is_dir()}
    if template is not None and not Path(template).is_file():
        raise FileNotFoundError(f"{template}: no such file; a template was expected.")
    given = {} if template is None else {"template": str(template)}
    return [{**case, **given} for case in paired_cases(dataset_dir, folders)]


def preprocess(
    cases: Sequence[Case],
    transform: Callable[[Any], Any],
    output_dir: str | Path,
    settings: Mapping[str, Any],
    overwrite: bool = False,
) -> list[Path]:
    """
    Write ``images/NAME.nii.gz`` (int16) and ``labels/NAME.nii.gz`` (uint8), with a record of how each was made.

    Args:
        cases: see ``raw_cases``.
        transform: of a case, whose "image" and "label" become (1, X, Y, Z) with their affine.
        output_dir: of the data set.
        settings: of the transform, for the record; a run that was ended goes on with what is missing.
        overwrite: make again what is there.

    Returns:
        The volumes.

    Raises:
        FileExistsError: when one is there that was made otherwise.
        ValueError: for a volume that cannot be used, by file.
    """
    root, written = Path(output_dir), []
    for folder in FOLDERS.values():
        check_folder(root / folder)
    for number, case in enumerate(cases, start=1):
        name = case["case"] + SUFFIX
        paths = {key: root / FOLDERS[key] / name for key in FOLDERS if key in case}
        written.append(paths["image"])
        record = paths["image"].with_name(name.removesuffix(SUFFIX) + ".json")
        about: dict[str, Any] = {"synthetic": False, "preprocessing": dict(settings)}
        for key in ("image", "label", "template"):
            about |= source_record(key, case[key], sha256_of(case[key])) if key in case else {}
        if not overwrite and _is_there(list(paths.values()), record, about):
            continue
        done = transform(dict(case))
        write_json(record, about)
        for key, path in reversed(paths.items()):  # the volume last: where it stands, everything does
            values = np.rint(done[key].as_tensor()[0].numpy())
            write_mask(path, values, np.asarray(done[key].affine), np.int16 if key == "image" else np.uint8)
        logger.info(f"{number} of {len(cases)}: {paths['image']}")
    return written


def _is_there(paths: Sequence[Path], record: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether all files are whole and made as wanted; FileExistsError where they were made otherwise."""
    if not record.is_file():
        if foreign := [path for path in paths if path.exists()]:
            raise FileExistsError(f"{foreign[0]} is there without a record: choose another output_dir.")
        return False
    check_same(paths[0], json.loads(record.read_text(encoding="utf-8")), wanted)
    return all(map(opens, paths))
