"""Whole-head label maps without a patient: a phantom of chance, or the head of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.transforms.utils import get_largest_connected_component_mask
from scipy import ndimage
from skimage.filters import threshold_otsu

HEAD, LESION = 1, 2
FIELD_OF_VIEW = 192.0
# Centre and half axes in mm of the parts of a head, from the middle of the volume; RAS.
_SKULL = ((0.0, -2.0, 8.0), (70.0, 84.0, 78.0))
_NOSE = ((0.0, 76.0, -22.0), (15.0, 16.0, 22.0))
_CHIN = ((0.0, 40.0, -52.0), (42.0, 44.0, 38.0))
_NECK = ((0.0, -14.0, -60.0), (48.0, 52.0))
_SCALP = 14.0
_ROUNDING = 6.0


def head_phantom(
    size: int | Sequence[int] = 128,
    spacing: float | None = None,
    seed: int = 0,
    lesion: bool = True,
) -> np.ndarray:
    """
    A head with neck, of a shape and (where wanted) with a lesion of chance.

    Args:
        size: voxels, one a side or three.
        spacing: mm; by default the one at which 192 mm fill the shortest side (1.5 mm for 128).
        seed: the same seed gives the same label map.
        lesion: with one lesion (2) of about 16 to 50 mm somewhere in the brain; False for a healthy head.

    Returns:
        (X, Y, Z), uint8, RAS: 0 outside, 1 head, 2 lesion. The neck runs through the lower border; no other border
        is touched.

    Raises:
        ValueError: when the volume is smaller than a head or has fewer than 16 voxels a side.
    """
    shape = (int(size),) * 3 if isinstance(size, (int, np.integer)) else tuple(int(side) for side in size)
    if len(shape) != 3 or min(shape) < 16:
        raise ValueError(f"size must be three sides of at least 16 voxels, got {size}.")
    step = FIELD_OF_VIEW / min(shape) if spacing is None else float(spacing)
    if min(shape) * step < FIELD_OF_VIEW - 1e-6:
        raise ValueError(
            f"A head needs {FIELD_OF_VIEW:.0f} mm a side, {shape} voxels of {step} mm are {min(shape) * step:.0f}."
        )
    rng = np.random.default_rng(seed)
    ticks = [((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n in shape]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"))
    skull, brain = _skull(points, rng)
    neck_centre, neck_radii = _NECK
    neck = level(points[:2], neck_centre[:2], np.array(neck_radii) * rng.uniform(0.9, 1.1, 2)) < 1
    neck &= points[2] < neck_centre[2] + 40
    features = [level(points, c, np.array(r) * rng.uniform(0.8, 1.05)) < 1 for c, r in (_NOSE, _CHIN)]
    parts = (skull | neck | features[0] | features[1]).astype(np.float32)
    # Rounds the creases where the parts meet.
    rounded = ndimage.gaussian_filter(parts, _ROUNDING / step, mode="nearest") > 0.5
    head = get_largest_connected_component_mask(rounded | brain, connectivity=1)
    mask = head.astype(np.uint8) * HEAD
    if lesion:
        mask[draw_lesion(points, brain, step, rng)] = LESION
    return mask


def head_mask_from_image(
    image: np.ndarray, lesion: np.ndarray | None = None, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """
    The head in an MR volume: Otsu's threshold, a closing, holes filled slice by slice, the largest piece.

    Args:
        image: (X, Y, Z), any range, air darker than tissue.
        lesion: (X, Y, Z), 0 and another value, what is to become label 2; None for none.
        spacing: (3,), mm, of a voxel.

    Returns:
        (X, Y, Z), uint8: 0 outside, 1 head, 2 lesion.

    Raises:
        ValueError: when the image is not 3D, not finite or constant, or when the lesion has another shape, more than
            one value, or more than a tenth of its voxels outside the head.

    Source: Otsu 1979 (threshold of largest variance between two classes).
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 3 or not np.isfinite(image).all() or image.min() == image.max():
        raise ValueError(f"A 3D image of finite, varying values was expected, got shape {image.shape}.")
    clipped = np.clip(image, None, np.percentile(image, 99.5))
    # scikit-image names the middle of the last dark bin of 256; its upper edge parts the two classes
    bright = image > threshold_otsu(clipped) + (clipped.max() - clipped.min()) / 512
    # Twice three millimetres (or a voxel) bridge the dark bone between scalp and brain.
    radius = max(3.0, *(float(s) for s in spacing))
    pad = [int(np.ceil(2 * radius / s)) for s in spacing]
    grown = ndimage.distance_transform_edt(~np.pad(bright, [(p, p) for p in pad]), spacing) <= radius
    closed = ndimage.distance_transform_edt(grown, spacing) > radius
    head = closed[tuple(slice(p, -p) for p in pad)]
    for axis in range(3):
        for section in np.moveaxis(head, axis, 0):
            section[:] = ndimage.binary_fill_holes(section)
    head = get_largest_connected_component_mask(head, connectivity=1)
    mask = head.astype(np.uint8) * HEAD
    if lesion is not None:
        mask[_checked_lesion(np.asarray(lesion), head)] = LESION
    return mask


def _checked_lesion(lesion: np.ndarray, head: np.ndarray) -> np.ndarray:
    values = np.unique(lesion)
    if lesion.shape != head.shape or len(values) != 2 or values[0] != 0:
        raise ValueError(
            f"A lesion mask of shape {head.shape} with 0 and one other value was expected, got shape {lesion.shape} "
            f"and the values {values[:8].tolist()}."
        )
    inside = lesion > 0
    if (inside & ~head).sum() > 0.1 * inside.sum():
        raise ValueError(
            f"{(inside & ~head).sum()} of {inside.sum()} lesion voxels lie outside the head: is it the same grid?"
        )
    return inside


def level(points: np.ndarray, centre: Any, radii: Any) -> np.ndarray:
    """Distance from ``centre`` in units of the half axes: below 1 inside the ellipsoid."""
    return np.sqrt(np.sum([((p - c) / r) ** 2 for p, c, r in zip(points, centre, radii)], axis=0))


def bumps(points: np.ndarray, centre: Any, rng: np.random.Generator, amplitude: float) -> np.ndarray:
    """Smooth relative change of a radius over the directions from ``centre``, within about ``amplitude``."""
    directions = np.stack([p - c for p, c in zip(points, centre)])
    directions /= np.maximum(np.linalg.norm(directions, axis=0), 1e-6)
    waves = [(rng.normal(0, 2.0, 3).astype(np.float32), rng.uniform(0, 2 * np.pi)) for _ in range(6)]
    return amplitude / 6 * np.sum([np.sin(np.tensordot(k, directions, axes=1) + phase) for k, phase in waves], axis=0)


def _skull(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Skull with scalp, and the brain in its upper part."""
    centre, radii = np.array(_SKULL[0]), np.array(_SKULL[1]) * rng.uniform(0.93, 1.03, 3)
    away = level(points, centre, radii) / (1 + bumps(points, centre, rng, 0.06))
    brain = (away < 1 - _SCALP / radii.min()) & (points[2] > centre[2] - 0.45 * radii[2])
    return away < 1, brain


def draw_lesion(
    points: np.ndarray,
    inside: np.ndarray,
    spacing: float | Sequence[float] | np.ndarray,
    rng: np.random.Generator,
    radius: float | None = None,
    centre: np.ndarray | None = None,
) -> np.ndarray:
    """
    One bumpy ellipsoid, cut to what it lies in.

    Args:
        points: (3, X, Y, Z), mm, of the voxels.
        inside: (X, Y, Z) bool, what the lesion lies in; not empty.
        spacing: mm of a voxel, one a side or three.
        rng: source of the draws.
        radius: mm; each half axis is between 0.8 and 1.2 of it; None draws it between 8 and 25.
        centre: (3,), mm, as ``points``; None draws a place that is deep enough.

    Returns:
        (X, Y, Z) bool, the largest connected piece; empty only where ``centre`` is given and too far outside.

    >>> points = np.stack(np.meshgrid(*[np.arange(16.0)] * 3, indexing="ij"))
    >>> found = draw_lesion(points, points[0] < 12, 1.0, np.random.default_rng(0), radius=3)
    >>> bool(found.any()), bool(found[12:].any())
    (True, False)
    """
    steps = np.broadcast_to(np.asarray(spacing, dtype=float), 3)
    radii = np.maximum((rng.uniform(8.0, 25.0) if radius is None else radius) * rng.uniform(0.8, 1.2, 3), steps)
    if centre is None:
        centres = np.argwhere(inside)
        depth = ndimage.distance_transform_edt(inside, steps)
        deep = depth[tuple(centres.T)] >= min(0.7 * radii.max(), 0.8 * depth.max())
        centre = points[(slice(None), *rng.choice(centres[deep]))]
    away = level(points, centre, radii) / (1 + bumps(points, centre, rng, 0.3))
    return get_largest_connected_component_mask((away < 1) & inside, connectivity=1)
