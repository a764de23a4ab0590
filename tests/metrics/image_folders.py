"""Folders of small images to measure, made here."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.fixtures import write_nifti


def pictures(folder, count, seed=0, side=24, suffix=".png", names="image_{:02d}"):
    """8-bit pictures of a soft blob with noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ramp = np.linspace(-1, 1, side)
    blob = 160 * np.exp(-4 * (ramp[:, None] ** 2 + ramp**2))
    for number in range(count):
        pixels = np.clip(blob + rng.normal(50, 20, (side, side)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / (names.format(number) + suffix))
    return folder


def volumes(folder, count, seed=0):
    """NIfTI volumes of differing sizes with an oblique affine."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        array = rng.normal(300, 50, (12 + number % 3, 13, 14)).astype(np.float32)
        array[3:8, 4:9, 4:9] += 400
        write_nifti(folder / f"volume_{number:02d}.nii.gz", array)
    return folder
