"""Writing label maps."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike

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
