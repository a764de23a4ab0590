"""Slices of a volume as a radiologist looks at them: nearly RAS axes, sizes in millimetres."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage

PLANES = ("axial", "coronal", "sagittal")
# Of a RAS volume (x to the right, y to the front, z up): the axis across a plane, then the axes drawn to the right and
# down, both from their high end. So the patient's right is on the viewer's left and the front or the top is up.
AXES = ((2, 0, 1), (1, 0, 2), (0, 1, 2))


class Grid(NamedTuple):
    """A volume (C, X, Y, Z) and a label map (X, Y, Z) on nearly RAS axes, with the voxel's size in mm."""

    volume: np.ndarray
    mask: np.ndarray
    spacing: np.ndarray

    def slice(self, array: np.ndarray, plane: int, index: int) -> np.ndarray:
        """(rows from the top, columns from the viewer's left) of plane ``plane`` of an (X, Y, Z) array."""
        return np.flip(np.take(array, index, axis=AXES[plane][0]), (0, 1)).T

    def extent(self, plane: int) -> tuple[float, float]:
        """Width and height of a plane in mm."""
        _, across, down = AXES[plane]
        shape = self.mask.shape
        return float(shape[across] * self.spacing[across]), float(shape[down] * self.spacing[down])


def loaded(volume: Any) -> tuple[Any, None, np.ndarray | None]:
    """Volume (C, X, Y, Z) of a file or array, no mask, and the file's affine: the arguments of ``ras_grid``."""
    if isinstance(volume, (str, Path)):
        image: Any = nib.load(str(volume))
        array = np.asarray(image.dataobj, dtype=np.float32)
        return (np.moveaxis(array, -1, 0) if array.ndim == 4 else array), None, image.affine
    return volume, None, None


def _array(item: Any) -> np.ndarray:
    array = (
        item.detach().cpu().float().numpy() if isinstance(item, torch.Tensor) else np.asarray(item, dtype=np.float32)
    )
    return array[None] if array.ndim == 3 else array


def _affine(item: Any) -> np.ndarray:
    return np.asarray(item.affine.cpu(), dtype=np.float64) if isinstance(item, MetaTensor) else np.eye(4)


def _label_map(mask: Any) -> np.ndarray:
    """(X, Y, Z) whole numbers; later channels lie over earlier ones."""
    array = _array(mask)
    if len(array) == 1:
        return np.maximum(np.rint(array[0]), 0).astype(np.int64)
    return np.max([(channel > 0) * (index + 1) for index, channel in enumerate(array)], axis=0)


def ras_grid(volume: Any, mask: Any, affine: np.ndarray | None) -> Grid:
    """The grid of ``preview_figure``'s arguments; a ``MetaTensor`` mask on another grid is brought to the volume's."""
    array = np.nan_to_num(_array(volume))
    if array.ndim != 4:
        raise ValueError(f"A preview needs a 3D volume (C, X, Y, Z), got shape {array.shape}.")
    matrix = _affine(volume) if affine is None else np.asarray(affine, dtype=np.float64)
    labels = np.zeros(array.shape[1:], dtype=np.int64)
    if mask is not None:
        labels = _label_map(mask)
        known = isinstance(mask, MetaTensor)
        if labels.shape != array.shape[1:] or (known and not np.allclose(_affine(mask), matrix, atol=1e-3)):
            to_mask = np.linalg.inv(_affine(mask)) @ matrix
            labels = ndimage.affine_transform(labels, to_mask, output_shape=array.shape[1:], order=0)
    orientation = nib.orientations.io_orientation(matrix)
    channels = [nib.orientations.apply_orientation(channel, orientation) for channel in array]
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = np.linalg.norm(matrix[:3, :3], axis=0)
    return Grid(np.stack(channels), nib.orientations.apply_orientation(labels, orientation), spacing)


def mask_centre(mask: np.ndarray) -> np.ndarray:
    """Voxel at the centre of the foreground, or of the smallest label that the three slices there would miss."""
    if not mask.any():
        return np.array(mask.shape) // 2
    centre = np.rint(ndimage.center_of_mass(mask > 0)).astype(int)
    shown = set().union(*(np.unique(np.take(mask, index, axis)) for axis, index in enumerate(centre)))
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    missed = [value for _, value in sorted(zip(counts, values)) if value not in shown]
    return np.rint(ndimage.center_of_mass(mask == missed[0])).astype(int) if missed else centre
