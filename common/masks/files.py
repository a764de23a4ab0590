"""Label maps, and the volumes that they belong to, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike

from ..data.reader import read_image
from ..utils.files import written_whole

SUFFIX = ".nii.gz"


def write_mask(
    path: str | Path, mask: np.ndarray, affine: np.ndarray, dtype: DTypeLike = np.uint8, about: str = ""
) -> Path:
    """
    Write a label map, or a volume that belongs to one, as NIfTI in millimetres.

    Args:
        path: it appears there only when it is complete.
        mask: (X, Y, Z), or (X, Y, Z, C) for a volume of several channels.
        affine: (4, 4), voxel to mm.
        dtype: of the file.
        about: for its description.

    Returns:
        ``path``.

    Raises:
        ValueError: for values that ``dtype`` cannot hold.
    """
    stored = mask.astype(dtype)
    if not np.array_equal(stored, mask):
        raise ValueError(
            f"{path}: values that {np.dtype(dtype)} holds were expected, got {mask.min()} to {mask.max()}."
        )
    image = nib.Nifti1Image(stored, affine)
    image.header["descrip"] = about
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with written_whole(path) as temporary:
        nib.save(image, temporary)
    return Path(path)


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """A FileExistsError where one of the files is there and must not be overwritten."""
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{there[0]} is there already ({len(there)} of {len(paths)} files): give another name, "
            "folder or seed, or overwrite=True."
        )


def read_volume(path: str | Path) -> nib.Nifti1Image:
    """A 3D volume of one channel with its affine; a ValueError for another image."""
    image = read_image(path)
    if len(image.values) != 1 or image.values.shape[3] < 2:
        raise ValueError(f"{path}: a 3D volume of one channel was expected, got shape {image.values.shape}.")
    return nib.Nifti1Image(image.values[0], image.affine)
