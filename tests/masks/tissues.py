"""Tissue maps of a brain that is a ball: grey around white around fluid, and a T1 above 0 inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fixtures import write_nifti


def write_tissues(folder: Path) -> str:
    """Three files in ``folder`` as ``TissueMaps.load`` takes them; returns the folder."""
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = np.array([0.0, -17.0, 5.0]) - 6 * 15.5
    grid = np.stack(np.meshgrid(*[np.arange(32.0)] * 3, indexing="ij")) - 15.5
    radius = 6 * np.linalg.norm(grid, axis=0)
    shares = {"gm": (radius < 68) & (radius >= 48), "wm": (radius < 48) & (radius >= 24), "t1": radius < 72}
    for name, inside in shares.items():
        write_nifti(folder / f"ball_{name}.nii.gz", (255 * inside).astype(np.uint8), affine)
    return str(folder)
