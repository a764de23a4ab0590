"""Tiny awkward volumes: anisotropic, oblique, odd sizes; made here, so that no test needs a data set."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BUNDLE = REPOSITORY / "bundles" / "med_ddpm_3d"
BRATS = BUNDLE.with_name("med_ddpm_brats")
SHAPE = (17, 22, 13)
# Where the bundles under test run; "cuda" on a machine with a GPU, or on a simulated one (tests/simulated_gpu.py).
TEST_DEVICE = os.environ.get("TEST_DEVICE", "cpu")
DEVICE = f"$torch.device('{TEST_DEVICE}')"


def real_data(name: str) -> Path:
    """A folder of the real image sets (``MEDICAL_DATA_DIR``, by default beside the checkout), or a skipped test."""
    folder = Path(os.environ.get("MEDICAL_DATA_DIR", REPOSITORY.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"real data not at hand: set MEDICAL_DATA_DIR to the folder that holds {name}/")
    return folder


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def network_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """The keys that set ``arguments`` of the network in a config of any bundle, for training and inference alike."""
    return {f"network_def#{name}": value for name, value in arguments.items()}


def oblique_affine() -> np.ndarray:
    """Voxels of 0.8 x 1.2 x 2.5 mm, turned by 20 degrees about S and with an origin away from zero."""
    angle = np.deg2rad(20)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.8, 1.2, 2.5])
    affine[:3, 3] = [-31.0, 12.5, 7.25]
    return affine


def two_part_mask(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """An ellipsoid split in two along the second axis: labels 0, 1 and 2, uint8, never touching the border."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radii = 0.55 + 0.15 * rng.random(3)
    inside = sum((axis / radius) ** 2 for axis, radius in zip(grid, radii)) < 1
    return (inside * np.where(grid[1] > 0.2 * rng.standard_normal(), 1, 2)).astype(np.uint8)


def image_of(mask: np.ndarray, scale: float = 1000.0, seed: int = 0) -> np.ndarray:
    """A noisy image of a mask, float32 in about [0, scale]."""
    noise = np.random.default_rng(seed).standard_normal(mask.shape)
    return (scale * np.clip(0.3 + 0.2 * mask + 0.05 * noise, 0, 1)).astype(np.float32)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write ``array`` with an oblique affine (or ``affine``); returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, oblique_affine() if affine is None else affine), path)
    return path


def write_dataset(folder: Path, cases: int = 6) -> Path:
    """A data set as the train config reads it: ``images/`` and ``labels/`` of differing sizes, named case_NNN."""
    for index in range(1, cases + 1):
        mask = two_part_mask((17 + index % 3, 22, 16 + index % 2), seed=index)
        write_nifti(folder / "labels" / f"case_{index:03d}.nii.gz", mask, np.eye(4))
        write_nifti(folder / "images" / f"case_{index:03d}.nii.gz", image_of(mask, seed=index), np.eye(4))
    return folder
