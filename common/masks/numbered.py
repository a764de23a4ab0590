"""Numbered masks and volumes of chance: a run that was ended goes on with what is missing, and mixes no settings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.finder import ending_of
from ..data.reader import read_description
from .files import SUFFIX


def numbered(out: str | Path, stem: str, count: int, seed: int, ending: str = SUFFIX) -> list[Path]:
    """
    Where number ``seed``, ``seed`` + 1, … of a set belong.

    Args:
        out: folder.
        stem: of the names, before the number.
        count: how many, above 0.
        seed: of the first one, from 0 up; it stands in the name.
        ending: of the names; "" for folders.

    Returns:
        ``count`` paths.

    Raises:
        ValueError: for another count or seed, or a folder that is called as an image, or is a file.

    >>> [path.name for path in numbered("masks", "mask", 2, 9)]
    ['mask_009.nii.gz', 'mask_010.nii.gz']
    """
    if not isinstance(count, int) or count < 1 or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"count must be a whole number above 0 and seed one from 0 up, got {count} and {seed}.")
    if ending_of(out) or Path(out).is_file():
        raise ValueError(f"out must be a folder, got {out}.")
    return [Path(out) / f"{stem}_{number:03d}{ending}" for number in range(seed, seed + count)]


def described(how: str, settings: Sequence[Any], *arrays: np.ndarray) -> str:
    """
    What the header of a volume says of its making; it differs where a setting does.

    Args:
        how: a word.
        settings: numbers, lists of them, or None.
        arrays: of any shape and type.

    Returns:
        Short enough for the header of NIfTI.

    >>> described("drawn", [96, None])
    'drawn: no patient (87a113d3f47bd6ef)'
    """
    digest = hashlib.sha256(repr(tuple(np.asarray(one, dtype=float).tolist() for one in settings)).encode())
    for values in arrays:
        digest.update(np.ascontiguousarray(values).tobytes())
    return f"{how}: no patient ({digest.hexdigest()[:16]})"


def missing(paths: Sequence[Path], about: str, overwrite: bool = False, names: Sequence[str] = ()) -> list[Path]:
    """
    Which of them a run has to make: all that are not there, or not whole to the last voxel.

    Args:
        paths: files, or folders of several.
        about: what the header of each file says, of ``described``.
        overwrite: make all.
        names: of the files in each folder, after its own name; none where ``paths`` are files.

    Raises:
        FileExistsError: when one is there that was made otherwise.
    """
    return [path for path in paths if overwrite or not _is_made(path, names, about)]


def _is_made(path: Path, names: Sequence[str], about: str) -> bool:
    """Whether one is there and whole; FileExistsError for another."""
    if not path.exists():
        return False
    whole = True
    for file in [path / f"{path.name}{name}" for name in names] or [path]:
        try:
            found = read_description(file)
        except FileNotFoundError:
            found = ""
        except ValueError:  # cut or damaged: made again
            whole = False
            continue
        if found != about:
            raise FileExistsError(f"{path} is there, made otherwise: choose another folder or seed, or overwrite=True.")
    return whole
