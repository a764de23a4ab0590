"""Brains without a patient: tissue maps deformed at random, with a tumour grown inside that pushes tissue aside."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.transforms.utils import get_largest_connected_component_mask
from scipy import ndimage

from ..data.reader import read_image
from .phantom import draw_lesion

NECROSIS, OEDEMA, ENHANCING, BRAIN = 1, 2, 4, 4
"""Labels of a segmentation as BraTS publishes it; in a mask to generate from, the enhancing part is 3 and brain 4."""

_MIDDLE = np.array([0.0, -17.0, 5.0])  # of the brain in the space of MNI, mm
_PATTERNS = {"grey": "*gm*.nii*", "white": "*wm*.nii*", "brain": "*t1*.nii*"}
_KINDS = {"ring": 0.75, "solid": 0.15, "not enhancing": 0.1}


@dataclass(frozen=True)
class TissueMaps:
    """
    Where tissues are in an average brain.

    Attributes:
        grey, white, brain: (X, Y, Z), float32, share of each voxel in [0, 1]; what of the brain is neither is fluid.
        affine: (4, 4), voxel to mm.

    >>> TissueMaps.load("no_such_folder")
    Traceback (most recent call last):
    FileNotFoundError: no_such_folder holds no *gm*.nii* (one of grey matter, white matter, T1 of the brain alone) ...
    """

    grey: np.ndarray
    white: np.ndarray
    brain: np.ndarray
    affine: np.ndarray

    @classmethod
    @functools.cache
    def load(cls, folder: str | Path | None = None) -> TissueMaps:
        """
        Read maps of grey and white matter, scaled by their largest value, and a T1 of the brain alone (above 0).

        Args:
            folder: with one file each whose names hold gm, wm and t1; None: those of MNI152 2009a in the package
                nilearn, which needs to be there but is not imported.

        Raises:
            ModuleNotFoundError: when ``folder`` is None and nilearn is not installed.
            FileNotFoundError: when a map is missing.
            ValueError: when maps lie on different grids.
        """
        if folder is None:
            spec = find_spec("nilearn")
            if spec is None or spec.origin is None:
                raise ModuleNotFoundError(
                    "Simulated heads need tissue maps: pip install --no-deps nilearn==0.14.1 (its maps "
                    "of MNI152), or tissues=FOLDER."
                )
            folder = Path(spec.origin).parent / "datasets" / "data"
        images = {}
        for name, pattern in _PATTERNS.items():
            found = sorted(Path(folder).glob(pattern))
            if not found:
                what = "one of grey matter, white matter, T1 of the brain alone"
                raise FileNotFoundError(f"{folder} holds no {pattern} ({what}) for simulated heads.")
            images[name] = read_image(found[0])
        shapes = {name: image.values.shape for name, image in images.items()}
        if len(set(shapes.values())) != 1:
            raise ValueError(f"{folder}: tissue maps on one grid were expected, got {shapes}.")
        values = {name: image.values[0].astype(np.float32) for name, image in images.items()}
        grey, white = (values[name] / values[name].max() for name in ("grey", "white"))
        return cls(grey, white, (values["brain"] > 0).astype(np.float32), images["grey"].affine)

    def at(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Shares of "grey", "white" and "fluid" at points in mm, (3, X, Y, Z); 0 outside of the brain."""
        voxels = nib.affines.apply_affine(np.linalg.inv(self.affine), np.moveaxis(points, 0, -1))
        where = np.moveaxis(voxels, -1, 0).astype(np.float32)
        grey, white, brain = (
            ndimage.map_coordinates(one, where, order=1) for one in (self.grey, self.white, self.brain)
        )
        scale = np.minimum(1, brain / np.maximum(grey + white, 1e-6))
        return {"grey": grey * scale, "white": white * scale, "fluid": np.maximum(brain - (grey + white) * scale, 0)}


@dataclass
class Head:
    """
    One brain.

    Attributes:
        shares: tissue -> (X, Y, Z), float32, share of each voxel: grey, white, fluid, necrosis, oedema, enhancing.
        labels: (X, Y, Z), uint8: 0, and 1 necrotic core, 2 oedema, 4 enhancing tumour, as BraTS has them.
        brain: (X, Y, Z), bool.
        spacing: mm of a voxel.
    """

    shares: dict[str, np.ndarray]
    labels: np.ndarray
    brain: np.ndarray
    spacing: float

    @property
    def mask(self) -> np.ndarray:
        """The label map to generate from, uint8: tumour parts 1 to 3, the rest of the brain 4."""
        parts = np.where(self.labels == ENHANCING, 3, self.labels)
        return np.where((parts == 0) & self.brain, BRAIN, parts).astype(np.uint8)


@dataclass(frozen=True)
class HeadMasks:
    """
    Masks of simulated heads to generate from, as a shape model draws masks.

    Attributes:
        size: voxels, one a side or three.
        step: mm of a voxel.
        tissues: folder of tissue maps, see ``TissueMaps.load``; read when the first mask is drawn.

    >>> HeadMasks(16, 12.0).spacing
    (12.0, 12.0, 12.0)
    """

    size: int | Sequence[int]
    step: float
    tissues: str | None = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm of a voxel."""
        return (self.step, self.step, self.step)

    def sample(self, seed: int) -> np.ndarray:
        """The mask of ``draw_head`` with this seed, uint8: tumour parts 1 to 3, the rest of the brain 4."""
        return draw_head(TissueMaps.load(self.tissues), self.size, self.step, seed).mask


def draw_head(
    maps: TissueMaps, size: int | Sequence[int] = 96, spacing: float | None = None, seed: int = 0, tumour: bool = True
) -> Head:
    """
    A brain of a shape of chance, in RAS, its middle in the middle of the volume.

    Args:
        maps: of tissues.
        size: voxels, one a side or three.
        spacing: mm; by default 192 mm over the shortest side (2 for 96).
        seed: the same seed gives the same brain.
        tumour: False for a healthy one.

    Raises:
        ValueError: for fewer than 16 voxels a side.
    """
    shape = (int(size),) * 3 if isinstance(size, (int, np.integer)) else tuple(int(side) for side in size)
    if len(shape) != 3 or min(shape) < 16:
        raise ValueError(f"size must be three sides of at least 16 voxels, got {size}.")
    step = 192.0 / min(shape) if spacing is None else float(spacing)
    rng = np.random.default_rng(seed)
    ticks = [((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n in shape]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"))
    matrix = _affine(rng)
    bent = np.stack([smooth_noise(shape, 28 / step, rng) for _ in range(3)]) * rng.uniform(1.0, 3.0)

    def shares_at(places: np.ndarray) -> dict[str, np.ndarray]:
        return maps.at(np.tensordot(matrix, places + bent, axes=1) + _MIDDLE[:, None, None, None])

    shares = shares_at(points)
    core = np.zeros(shape, dtype=bool)
    if tumour:
        core, centre = _core(points, shares, step, rng)
        shares = shares_at(_before_growth(points, core, centre, _brain(shares), step, rng))
    brain = _brain(shares) | core
    labels = _parts(core, shares, brain, step, rng) if tumour else np.zeros(shape, np.uint8)
    return Head(_with_tumour(shares, labels, brain), labels, brain, step)


def smooth_noise(shape: Sequence[int], length: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of mean 0 and deviation 1 that changes over about ``length`` voxels, float32."""
    coarse = rng.standard_normal([max(2, round(side / max(length, 1)) + 2) for side in shape])
    zoom = [side / known for side, known in zip(shape, coarse.shape)]
    noise = ndimage.zoom(coarse, zoom, order=3, mode="nearest", grid_mode=True)
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def _affine(rng: np.random.Generator) -> np.ndarray:
    """From the new brain to the average one: rotations up to 10 degrees, scales and shears within 8 and 4 %."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-10, 10, 3))):
        a, b = [i for i in range(3) if i != axis]
        one = np.eye(3)
        one[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = turn @ one
    shear = np.eye(3) + np.triu(rng.uniform(-0.04, 0.04, (3, 3)), 1)
    return turn @ shear @ np.diag(1 / rng.uniform(0.92, 1.03, 3))


def _brain(shares: dict[str, np.ndarray]) -> np.ndarray:
    """The largest piece that is brain by half."""
    return get_largest_connected_component_mask(np.sum([*shares.values()], axis=0) > 0.5, connectivity=1)


def _core(
    points: np.ndarray, shares: dict[str, np.ndarray], step: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What is tumour but for its oedema, and its centre in mm, in white matter."""
    brain = _brain(shares)
    depth = ndimage.distance_transform_edt(brain, step)
    radius = rng.uniform(8.0, 22.0)
    places = np.argwhere((shares["white"] > 0.6) & (depth > min(0.6 * radius, 0.6 * depth.max())))
    places = np.argwhere(depth == depth.max()) if not len(places) else places
    centre = points[(slice(None), *rng.choice(places))]
    inner = ndimage.binary_erosion(brain) if step < 4 else brain
    return draw_lesion(points, inner, step, rng, radius, centre), centre


def _before_growth(
    points: np.ndarray, core: np.ndarray, centre: np.ndarray, brain: np.ndarray, step: float, rng: np.random.Generator
) -> np.ndarray:
    """Where the tissue at ``points`` was before the tumour pushed it outwards, less with distance and to the skull."""
    way = points - centre[:, None, None, None]
    length = np.maximum(np.linalg.norm(way, axis=0), 1e-3)
    radius = (3 * core.sum() * step**3 / (4 * np.pi)) ** (1 / 3)
    reach = rng.uniform(12.0, 25.0)
    push = rng.uniform(0.15, 0.5) * radius * np.exp(-ndimage.distance_transform_edt(~core, step) / reach)
    push = np.minimum(push, 0.9 * length) * np.minimum(1, ndimage.distance_transform_edt(brain, step) / 12)
    return (points - push * way / length).astype(np.float32)


def _parts(
    core: np.ndarray, shares: dict[str, np.ndarray], brain: np.ndarray, step: float, rng: np.random.Generator
) -> np.ndarray:
    """Necrosis within a rim that enhances, and oedema that spreads along white matter."""
    kind = rng.choice(list(_KINDS), p=list(_KINDS.values()))
    depth = ndimage.distance_transform_edt(core, step)
    rim = max(rng.uniform(2.5, 6.0), 1.01 * step) * (1 + 0.25 * smooth_noise(core.shape, 8 / step, rng))
    enhancing = core & (depth <= {"ring": rim, "solid": np.inf, "not enhancing": 0.0}[kind])
    distance = ndimage.distance_transform_edt(~core, step)
    ease = (0.25 + shares["white"]) * np.exp(0.35 * smooth_noise(core.shape, 14 / step, rng))
    spread = (distance / ease < rng.uniform(3.0, 18.0)) & brain & (shares["fluid"] < 0.5)
    oedema = get_largest_connected_component_mask(spread | core, connectivity=1) & ~core
    return np.select([enhancing, core, oedema], [ENHANCING, NECROSIS, OEDEMA], 0).astype(np.uint8)


def _with_tumour(shares: dict[str, np.ndarray], labels: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    """Shares with soft borders of the tumour's parts; below oedema the tissue shows through."""
    strength = {"necrosis": (NECROSIS, 1.0), "oedema": (OEDEMA, 0.8), "enhancing": (ENHANCING, 1.0)}
    parts = {
        name: (top * ndimage.gaussian_filter((labels == value).astype(np.float32), 0.5) * brain).astype(np.float32)
        for name, (value, top) in strength.items()
    }
    left = np.clip(1 - sum(parts.values()), 0, 1)
    return {**{name: (share * left * brain).astype(np.float32) for name, share in shares.items()}, **parts}
