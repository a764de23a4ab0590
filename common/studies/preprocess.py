"""Volumes prepared for training: read, transformed by a config, and written as a data set of images and labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.checks import check_folder, opens
from ..data.finder import find_images
from ..data.image_file import check_same, source_record
from ..data.names import find_partner
from ..masks.files import SUFFIX, write_mask
from ..utils.files import sha256_of, written_whole

FOLDERS = {"image": "images", "label": "labels"}

logger = logging.getLogger(__name__)


def raw_cases(dataset_dir: str | Path, template: str | Path | None = None) -> list[dict[str, str]]:
    """
    A case for each volume in ``dataset_dir/images``, with its label map in ``labels`` where there is such a folder.

    Args:
        dataset_dir: the folder of both.
        template: goes to each case; None for none.

    Raises:
        FileNotFoundError: for no volume, no label map of one, or no template.
    """
    root = Path(dataset_dir)
    volumes = find_images(root / FOLDERS["image"], kinds=("nifti",)) if (root / FOLDERS["image"]).is_dir() else []
    if not volumes:
        raise FileNotFoundError(f"{root / FOLDERS['image']}: a folder of NIfTI volumes was expected.")
    given = {} if template is None else {"template": str(template)}
    cases = []
    for volume in volumes:
        labelled = (root / FOLDERS["label"]).is_dir()
        partner = {"label": find_partner(root / FOLDERS["label"], volume)} if labelled else {}
        cases.append({"image": volume, **partner, **given})
    missing = [path for case in cases for path in case.values() if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: no such file ({len(set(missing))} files are missing).")
    return cases


def preprocess(
    cases: Sequence[Mapping[str, str]],
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
        name = Path(case["image"]).name.split(".")[0] + SUFFIX
        paths = {key: root / FOLDERS[key] / name for key in FOLDERS if key in case}
        written.append(paths["image"])
        record = paths["image"].with_name(name.removesuffix(SUFFIX) + ".json")
        about: dict[str, Any] = {"synthetic": False, "preprocessing": dict(settings)}
        for key, file in case.items():
            about |= source_record(key, file, sha256_of(file))
        if not overwrite and _is_there(list(paths.values()), record, about):
            continue
        done = transform(dict(case))
        with written_whole(record) as temporary:
            temporary.write_text(json.dumps(about, indent=4) + "\n", encoding="utf-8")
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
