"""Pictures without a patient, to try the bundles with: a head in section, and a chest as an X-ray would show it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def head_slice(size: int = 128, seed: int = 0) -> np.ndarray:
    """
    An axial section of a head made of ellipses: scalp, skull, folded grey and white matter, ventricles.

    Args:
        size: pixels a side.
        seed: the same seed gives the same picture.

    Returns:
        (rows, columns), uint8, the forehead up.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tilt = rng.uniform(-0.1, 0.1)
    x, y = x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)
    radius = np.hypot(x / rng.uniform(0.70, 0.76), y / rng.uniform(0.86, 0.92))
    folds = _smooth(rng, size, 0.022)
    picture = np.full((size, size), 4.0)
    picture[radius < 1.0] = 190
    picture[radius < 0.93] = 25
    picture[radius < 0.86] = 55
    inside = radius < 0.84
    grey = 95 + 12 * _smooth(rng, size, 0.1)
    white = 140 + 10 * _smooth(rng, size, 0.15)
    depth = 0.74 + 0.09 * folds
    picture = np.where(inside, np.where(radius < depth, white, grey), picture)
    picture[inside & (np.abs(x) < 0.012)] = 55
    horns = ((np.abs(x) - 0.10) / 0.055) ** 2 + ((y + 0.02) / 0.26) ** 2 < 1
    picture[horns] = 30
    return _finished(picture, rng)


def chest_picture(size: int = 128, seed: int = 0) -> np.ndarray:
    """
    A frontal chest as an X-ray shows it: lungs dark, heart, spine and ribs bright.

    Args:
        size: pixels a side.
        seed: the same seed gives the same picture.

    Returns:
        (rows, columns), uint8, the patient's right on the left.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = ndimage.gaussian_filter(((np.abs(x) / 0.92) ** 4 + ((y - 0.25) / 1.15) ** 6 < 1).astype(float), size / 60)
    picture = 20 + 135 * body
    lungs = np.zeros_like(picture)
    for side in (-1, 1):
        lung = ((x - side * 0.40) / 0.27) ** 2 + ((y - 0.02) / 0.66) ** 2 < 1
        lungs = np.maximum(lungs, lung & (y < 0.50 + 0.5 * (np.abs(x) - 0.4) ** 2))
    picture -= 90 * ndimage.gaussian_filter(lungs, size / 80)
    heart = ((x - 0.12) / 0.30) ** 2 + ((y - 0.30) / 0.30) ** 2 < 1
    picture += 60 * ndimage.gaussian_filter((heart & (lungs > 0)).astype(float), size / 60)
    picture += 35 * np.exp(-((x / 0.10) ** 2))
    for rib in np.arange(-0.72, 0.55, 0.155):
        course = rib + 0.28 * np.abs(x) ** 1.5 + 0.02 * rng.standard_normal()
        picture += 17 * np.exp(-(((y - course) / 0.022) ** 2)) * (np.abs(x) < 0.80) * (np.abs(x) > 0.06)
    picture += 6 * lungs * _smooth(rng, size, 0.02)
    return _finished(picture, rng)


def _smooth(rng: np.random.Generator, size: int, width: float) -> np.ndarray:
    """Noise of unit deviation whose grains are ``width`` of the picture."""
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), width * size)
    return noise / noise.std()


def _finished(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    soft = ndimage.gaussian_filter(picture, 0.6) + rng.normal(0, 1.5, picture.shape)
    return np.clip(np.rint(soft), 0, 255).astype(np.uint8)
