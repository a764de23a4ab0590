"""Images as panels: a 2D image, or slices of a volume in three planes, with the label map whose contours are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import Orientation, ResampleToMatch
from monai.utils import convert_to_numpy, convert_to_tensor
from scipy import ndimage

from ..data.reader import read_image

# Planes of a RAS volume (x to the right, y to the front, z up): the axis across, then the axes drawn to the right and
# down, both from their high end, so that the patient's right is on the viewer's left and the front or the top is up;
# the letters at the left, right, upper and lower edge.
THREE_PLANES = (("axial", (2, 0, 1), "RLAP"), ("coronal", (1, 0, 2), "RLSI"), ("sagittal", (0, 1, 2), "APSI"))


class Panel(NamedTuple):
    """
    One picture on a sheet.

    Args:
        pixels: (rows, columns) or, in colour, (rows, columns, 3), from the top left.
        size: width and height, in mm or in pixels; all panels of a sheet are drawn at one scale.
        window: values shown black and white.
        labels: label map on the same pixels, whose contours are drawn; None for none.
        letters: at the left, right, upper and lower edge.
        title: written above.
        frame: colour of a frame and of the title; None for no frame and a white title.
        name: of the row, written at its left side.

    Example:
        >>> Panel(np.zeros((8, 16)), (16.0, 8.0)).window
        (0.0, 1.0)
    """

    pixels: np.ndarray
    size: tuple[float, float]
    window: tuple[float, float] = (0.0, 1.0)
    labels: np.ndarray | None = None
    letters: str = ""
    title: str = ""
    frame: str | None = None
    name: str = ""


def slice_panels(volume: Any, mask: Any = None, affine: np.ndarray | None = None) -> list[list[Panel]]:
    """
    Axial, coronal and sagittal slice through the middle of a volume, or through the labels of its mask.

    Args:
        volume: (C, X, Y, Z) or (X, Y, Z), any range, shown black and white at percentiles 0.5 and 99.5; or a file.
        mask: label map (1, X, Y, Z) or (X, Y, Z), or one channel a label, (C', X, Y, Z), above 0 inside; a
            ``MetaTensor`` on another grid than ``volume`` is brought to it; or a file. None for no contours.
        affine: voxel to RAS millimetres, (4, 4); by default that of ``volume``, or 1 mm.

    Returns:
        Three panels a channel, sizes in mm; oblique volumes along their own axes, the patient's right on the left.

    Raises:
        ValueError: when ``volume`` is not 3D.
    """
    image, labels = _with_labels(volume, mask, affine)
    centre = _centre(labels)
    return [
        [_slice(channel, labels, plane, centre[plane[1][0]], image.affine) for plane in THREE_PLANES]
        for channel in np.nan_to_num(image.numpy())
    ]


def stack_panels(volume: Any, mask: Any = None, affine: np.ndarray | None = None) -> list[Panel]:
    """Every axial slice of the first channel, from the feet up; arguments as of ``slice_panels``."""
    image, labels = _with_labels(volume, mask, affine)
    channel = np.nan_to_num(image.numpy()[0])
    return [_slice(channel, labels, THREE_PLANES[0], index, image.affine) for index in range(channel.shape[2])]


def _with_labels(volume: Any, mask: Any, affine: np.ndarray | None) -> tuple[MetaTensor, np.ndarray]:
    """Volume (C, X, Y, Z), RAS, and the label map (X, Y, Z) on its grid, 0 everywhere without a mask."""
    if isinstance(volume, (str, Path)):
        file = read_image(volume)
        volume, affine = file.values, file.affine
    if isinstance(mask, (str, Path)):
        file = read_image(mask)
        mask = MetaTensor(torch.as_tensor(file.values), affine=torch.as_tensor(file.affine))
    matrix = getattr(volume, "affine", np.eye(4)) if affine is None else affine
    image = _ras(volume, matrix)
    if mask is None:
        return image, np.zeros(image.shape[1:], dtype=np.int64)
    alike = mask.shape[-3:] == volume.shape[-3:]
    return image, _label_map(_ras(mask, getattr(mask, "affine", matrix if alike else np.eye(4))), image)


def _slice(channel: np.ndarray, labels: np.ndarray, plane: Any, index: int, affine: Any) -> Panel:
    """A slice of a RAS volume, in mm, black and white at percentiles 0.5 and 99.5 of the volume."""
    _, (axis, across, down), letters = plane
    spacing = affine_to_spacing(affine)
    low, high = np.percentile(channel, (0.5, 99.5))
    size = (float(labels.shape[across] * spacing[across]), float(labels.shape[down] * spacing[down]))
    pixels, contours = (np.flip(np.take(item, index, axis), (0, 1)).T for item in (channel, labels))
    return Panel(pixels, size, (float(low), float(high if high > low else low + 1)), contours, letters)


def image_panel(image: Any, window: tuple[float, float] = (-1, 1), upright: bool = False, mask: Any = None) -> Panel:
    """
    A 2D image, a unit a pixel.

    Args:
        image: (C, X, Y) in MONAI's order of axes; three channels are a colour image, otherwise the first is shown.
        window: values shown black and white.
        upright: the image is (C, rows, columns).
        mask: label map (1, X, Y), or one channel a label, above 0 inside, whose contours are drawn; None for none.

    Raises:
        ValueError: for another number of axes.
    """
    array = convert_to_numpy(image).astype(np.float32)
    if array.ndim != 3:
        raise ValueError(f"2D images (C, X, Y) were expected, got shape {array.shape}.")
    array = array if upright else array.swapaxes(1, 2)
    pixels = np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]
    labels = None if mask is None else _as_label_map(convert_to_numpy(mask))
    labels = labels if labels is None or upright else labels.T
    return Panel(pixels, (float(array.shape[2]), float(array.shape[1])), window, labels)


def _ras(item: Any, affine: Any) -> MetaTensor:
    """(C, X, Y, Z) float32, with axes that point nearly to the right, the front and the top."""
    array = convert_to_tensor(item, dtype=torch.float32, device="cpu")
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4:
        raise ValueError(f"A preview needs a 3D volume (C, X, Y, Z), got shape {tuple(array.shape)}.")
    volume = MetaTensor(array, affine=convert_to_tensor(affine, dtype=torch.float64, device="cpu"))
    return Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(volume)  # type: ignore[return-value]


def _label_map(mask: MetaTensor, image: MetaTensor) -> np.ndarray:
    """(X, Y, Z) whole numbers on the grid of ``image``; later channels lie over earlier ones."""
    if mask.shape[1:] != image.shape[1:] or not torch.allclose(mask.affine, image.affine, rtol=0, atol=1e-3):
        mask = ResampleToMatch(mode="nearest", padding_mode="zeros")(mask, image)  # type: ignore[assignment]
    return _as_label_map(mask.numpy())


def _as_label_map(array: np.ndarray) -> np.ndarray:
    """(C, *spatial), a label map or one channel a label, as whole numbers (*spatial)."""
    if len(array) == 1:
        return np.maximum(np.rint(array[0]), 0).astype(np.int64)
    return np.max([(channel > 0) * (index + 1) for index, channel in enumerate(array)], axis=0)


def _centre(mask: np.ndarray) -> np.ndarray:
    """Voxel at the centre of the foreground, or of the smallest label that the three slices there would miss."""
    if not mask.any():
        return np.array(mask.shape) // 2
    centre = np.rint(ndimage.center_of_mass(mask > 0)).astype(int)
    shown = set().union(*(np.unique(np.take(mask, index, axis)) for axis, index in enumerate(centre)))
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    missed = [value for _, value in sorted(zip(counts, values)) if value not in shown]
    return np.rint(ndimage.center_of_mass(mask == missed[0])).astype(int) if missed else centre
