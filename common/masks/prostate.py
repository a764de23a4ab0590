"""Simulated prostates with their zones as T2-weighted MR shows them, to try a zonal study without a patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .heads import smooth_noise
from .phantom import bumps, level

PERIPHERAL, TRANSITION = 1, 2
# T2-weighted signal and apparent diffusion coefficient (10⁻⁶ mm²/s), chosen by us within the order of MR at 3 T.
_TISSUES = {
    "muscle": (120, 1200),
    "fat": (330, 300),
    "bladder": (620, 2700),
    "rectum": (60, 900),
    "capsule": (90, 900),
    "peripheral": (480, 1750),
    "transition": (260, 1300),
}


def prostate_phantom(
    size: Sequence[int] = (128, 128, 16), spacing: Sequence[float] = (1.0, 1.0, 3.6), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """
    A prostate between bladder and rectum, of a shape, contrast and noise of chance.

    Args:
        size: voxels a side, RAS: at least 16 within a slice and 4 slices.
        spacing: mm of a voxel; the field should be 60 mm or more a side for the prostate to be whole.
        seed: the same seed gives the same prostate.

    Returns:
        The image, (X, Y, Z, 2), int16, T2-weighted and apparent diffusion coefficient as in the Decathlon's
        Task05_Prostate; and the label map, (X, Y, Z), uint8: 0 outside, 1 peripheral zone, 2 transition zone.

    Raises:
        ValueError: for another number of sides, or too few voxels.

    Example:
        >>> image, zones = prostate_phantom((32, 32, 8), (3.0, 3.0, 8.0))
        >>> image.shape, sorted(np.unique(zones).tolist())
        ((32, 32, 8, 2), [0, 1, 2])
    """
    shape, step = tuple(int(side) for side in size), np.asarray(spacing, dtype=np.float64)
    if len(shape) != 3 or len(step) != 3 or min(shape[:2]) < 16 or shape[2] < 4:
        raise ValueError(
            f"Three sides of at least 16, 16 and 4 voxels were expected, got {shape} and {tuple(step)} mm."
        )
    rng = np.random.default_rng(seed)
    ticks = [((np.arange(n) - (n - 1) / 2) * s).astype(np.float32) for n, s in zip(shape, step)]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"))
    zones, capsule = _zones(points, rng)
    tissue = np.full(shape, "fat", dtype="<U10")
    tissue[np.abs(points[0]) > rng.uniform(34, 40)] = "muscle"
    tissue[level(points, (0, 4, 38), (30, 24, 18)) < 1] = "bladder"
    tissue[level(points[:2], (rng.uniform(-3, 3), -34), (15, rng.uniform(10, 14))) < 1] = "rectum"
    for name, inside in (
        ("peripheral", zones == PERIPHERAL),
        ("transition", zones == TRANSITION),
        ("capsule", capsule),
    ):
        tissue[inside] = name
    coarse, fine = (smooth_noise(shape, length / step[0], rng) for length in (6.0, 2.0))
    nodules = np.where(zones == TRANSITION, 0.22, 0.08) * coarse + 0.06 * fine
    bias = np.exp(rng.uniform(0.02, 0.12) * smooth_noise(shape, max(shape) / 2, rng))
    channels = []
    for channel in range(2):
        signal = np.zeros(shape, np.float32)
        for name, values in _TISSUES.items():
            signal[tissue == name] = values[channel] * rng.normal(1, 0.06)
        signal = ndimage.gaussian_filter(signal * (1 + nodules) * bias, 0.4 / step)
        channels.append(signal + rng.normal(0, 0.04 * np.median(signal), shape))
    return np.rint(np.clip(np.stack(channels, axis=-1), 0, 32000)).astype(np.int16), zones


def _zones(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Label map, and the dark rim between the zones and around both."""
    centre = np.array([0.0, 2.0, 0.0]) + rng.normal(0, 2, 3)
    radii = np.array([25.0, 19.0, 22.0]) * rng.uniform(0.85, 1.15, 3)
    whole = level(points, centre, radii) / (1 + bumps(points, centre, rng, 0.08))
    inner_centre = centre + np.array([0.0, rng.uniform(3, 5), rng.uniform(1, 4)])
    inner = level(points, inner_centre, radii * rng.uniform(0.55, 0.8, 3)) / (
        1 + bumps(points, inner_centre, rng, 0.12)
    )
    inside = whole < 1
    zones = np.where(inside, np.where(inner < 1, TRANSITION, PERIPHERAL), 0).astype(np.uint8)
    rim = (np.abs(inner - 1) < 0.06) | (whole > 0.95)
    return zones, inside & rim
