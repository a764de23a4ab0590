"""New label maps from the statistics of many: principal components of signed distance maps."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms.utils import get_largest_connected_component_mask
from scipy import ndimage

from ..utils.files import written_whole

FORMAT = "shape_model_1"
FEW_SHAPES = 30
_TRUNCATION = 2.0  # standard deviations

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShapeModel:
    """
    The mean shape of aligned label maps and the ways in which they differ.

    A shape is a stack of signed distance maps in millimetres, positive inside: one of the whole foreground, then one a
    label, on a grid of ``grid_spacing`` whose centre is the foreground's centre of mass. The foreground has its own
    map because labels that touch would otherwise open gaps between them. No shape and no coefficients of a training
    case are kept.

    Attributes:
        mean: (1 + labels, X, Y, Z), mm.
        modes: (K, 1 + labels, X, Y, Z), orthonormal.
        deviations: (K,), standard deviation along each mode, mm.
        labels: name -> value in the label map.
        grid_spacing: mm a step of the grid of ``mean`` and ``modes``.
        spacing: (3,), mm, of the label maps that are drawn.
        shape: (3,), voxels, of a typical label map.
        position: (3,), voxels, of the foreground's centre of mass in a typical label map.
        info: how it was fitted: number of shapes, variance explained and so on.

    Source: Leventon, Grimson and Faugeras 2000 (PCA of signed distance maps).

    >>> balls = [np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0) < radius for radius in (6, 7, 8)]
    >>> model = ShapeModel.fit([ball.astype(np.uint8) for ball in balls], [(1, 1, 1)] * 3, {"ball": 1})
    >>> bool(balls[0].sum() <= (model.sample(seed=0) == 1).sum() <= balls[2].sum())
    True
    """

    mean: np.ndarray
    modes: np.ndarray
    deviations: np.ndarray
    labels: dict[str, int]
    grid_spacing: float
    spacing: np.ndarray
    shape: np.ndarray
    position: np.ndarray
    info: dict[str, Any]

    @classmethod
    def fit(
        cls,
        masks: Sequence[np.ndarray],
        spacings: Sequence[Sequence[float]],
        labels: Mapping[str, int],
        variance: float = 0.95,
        grid_spacing: float = 2.0,
        limit: float = 10.0,
        names: Sequence[str] | None = None,
    ) -> ShapeModel:
        """
        Learn the mean and the modes of label maps of any sizes.

        Args:
            masks: (X, Y, Z) each, whole numbers, all on alike axes (RAS).
            spacings: (3,), mm, of each mask.
            labels: name -> value; every mask must hold each, and no other value but 0.
            variance: share of the variance that the modes keep, in (0, 1].
            grid_spacing: mm; the maps are smooth, so a coarse grid does.
            limit: mm; distances are cut there, so that what is far from the surface does not make the modes.
            names: of the masks, for messages; by default their numbers.

        Raises:
            ValueError: for fewer than 3 masks, or other values than ``labels``, by name.
        """
        _check_number(len(masks))
        names = names or [f"Mask {index}" for index in range(len(masks))]
        cases = [_Case.of(*case, labels) for case in zip(names, masks, spacings, strict=True)]
        half = np.max([case.reach for case in cases], axis=0) + grid_spacing
        size = 2 * np.ceil(half / grid_spacing).astype(int) + 1
        rows = np.stack([case.distances(size, grid_spacing, limit) for case in cases])
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        mean = flat.mean(axis=0)
        _, singular, modes = np.linalg.svd(flat - mean, full_matrices=False)
        powers = singular**2
        kept = int(np.searchsorted(np.cumsum(powers) / powers.sum(), variance - 1e-12)) + 1
        info = {
            "shapes": len(masks),
            "modes": kept,
            "variance": round(float(powers[:kept].sum() / powers.sum()), 4),
            "first_modes": [round(float(p / powers.sum()), 4) for p in powers[:5]],
            "volumes": {n: np.percentile([c.volumes[n] for c in cases], (0, 50, 100)).tolist() for n in labels},
        }
        return cls(
            mean=mean.reshape(rows.shape[1:]),
            modes=modes[:kept].reshape(kept, *rows.shape[1:]),
            deviations=singular[:kept] / np.sqrt(len(rows) - 1),
            labels=dict(labels),
            grid_spacing=float(grid_spacing),
            spacing=np.median([case.spacing for case in cases], axis=0),
            shape=np.rint(np.median([case.mask.shape for case in cases], axis=0)).astype(int),
            position=np.median([case.centre for case in cases], axis=0),
            info=info,
        )

    def sample(self, seed: int, margin: int = 3) -> np.ndarray:
        """
        Draw a new label map: normal coefficients, redrawn where beyond two standard deviations.

        Args:
            seed: the same seed gives the same label map.
            margin: voxels of background that are left at each border at least.

        Returns:
            (X, Y, Z), uint8, of ``shape`` (larger where the drawn shape needs it) and ``spacing``, RAS. Each label's
            volume lies between the smallest and the largest of training: shapes beyond are drawn again.

        Raises:
            RuntimeError: when a hundred shapes in a row lie beyond.
        """
        rng = np.random.default_rng(seed)
        for _ in range(100):
            coefficients = rng.standard_normal(len(self.deviations))
            while (beyond := np.abs(coefficients) > _TRUNCATION).any():
                coefficients[beyond] = rng.standard_normal(int(beyond.sum()))
            mask = self.decode(coefficients, margin)
            sizes = {n: float((mask == v).sum() * self.spacing.prod()) for n, v in self.labels.items()}
            if all(low <= sizes[n] <= high for n, (low, _, high) in self.info["volumes"].items()):
                return mask
        raise RuntimeError(f"No shape of seed {seed} has label volumes as in training: {self.info['volumes']} mm³.")

    def decode(self, coefficients: np.ndarray, margin: int = 3) -> np.ndarray:
        """
        The label map of a shape.

        Args:
            coefficients: (K,), in standard deviations; zeros give the mean shape.
            margin: as in ``sample``.

        Returns:
            As ``sample``: inside where the foreground's distance is positive, each voxel of the label whose own
            distance is largest, and of each label its largest connected piece.
        """
        distances = self.mean + np.tensordot(coefficients * self.deviations, self.modes, axes=1)
        step = self.spacing / self.grid_spacing
        size = np.floor((np.array(self.mean.shape[1:]) - 1) / step).astype(int) + 1
        fine = [ndimage.affine_transform(d, step, output_shape=tuple(size), order=1, mode="nearest") for d in distances]
        best = np.argmax(fine[1:], axis=0)
        mask = np.zeros(size, dtype=np.uint8)
        for index, value in enumerate(self.labels.values()):
            mask[get_largest_connected_component_mask((best == index) & (fine[0] > 0), connectivity=1)] = value
        return self._placed(mask, margin)

    def save(self, path: str | Path) -> Path:
        """Write the model as a compressed .npz without pickles, distances in half precision."""
        if Path(path).suffix != ".npz":
            raise ValueError(f"A shape model is written as .npz, got {path}.")
        header = {"format": FORMAT, "labels": self.labels, "grid_spacing": self.grid_spacing, "info": self.info}
        arrays: dict[str, Any] = {"mean": self.mean.astype(np.float16), "modes": self.modes.astype(np.float16)}
        exact = {k: getattr(self, k) for k in ("deviations", "spacing", "shape", "position")}
        with written_whole(path) as temporary:
            np.savez_compressed(temporary, header=np.array(json.dumps(header)), **(arrays | exact))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> ShapeModel:
        """
        Read what ``save`` wrote.

        Raises:
            FileNotFoundError: when the file is missing.
            ValueError: when it is no shape model of this format; the message names the file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"No shape model at {path}.")
        try:
            with np.load(path, allow_pickle=False) as stored:
                header = json.loads(str(stored["header"]))
                arrays = {k: stored[k] for k in ("mean", "modes", "deviations", "spacing", "shape", "position")}
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is no shape model (.npz of ShapeModel.save): {error}") from error
        if header.get("format") != FORMAT:
            raise ValueError(f"{path}: format {FORMAT} was expected, got {header.get('format')}.")
        arrays.update(mean=arrays["mean"].astype(np.float64), modes=arrays["modes"].astype(np.float64))
        return cls(labels=header["labels"], grid_spacing=header["grid_spacing"], info=header["info"], **arrays)

    def _placed(self, mask: np.ndarray, margin: int) -> np.ndarray:
        """``mask`` in the typical box, its centre of mass at the typical place as far as the margin lets it."""
        inside = np.argwhere(mask)
        if not len(inside):
            return np.zeros(self.shape, dtype=np.uint8)
        low, high = inside.min(axis=0), inside.max(axis=0) + 1
        shape = np.maximum(self.shape, high - low + 2 * margin)
        start = np.rint(self.position - inside.mean(axis=0) + low).astype(int)
        start = np.clip(start, margin, shape - margin - (high - low))
        placed = np.zeros(shape, dtype=np.uint8)
        placed[tuple(inside.T + (start - low)[:, None])] = mask[mask > 0]
        return placed


def _check_number(masks: int) -> None:
    if masks < 3:
        raise ValueError(f"A shape model needs at least 3 masks, and {FEW_SHAPES} or more to be of use; got {masks}.")
    if masks < FEW_SHAPES:
        logger.warning("A shape model of only %d masks: its samples stay close to single patients.", masks)


def centred_affine(shape: Sequence[int], spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """Voxel to RAS millimetres of a drawn label map, (4, 4): the volume's centre is at 0."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * np.asarray(spacing)
    return affine


@dataclass(frozen=True)
class _Case:
    """A training mask without stray islands, with what alignment needs."""

    mask: np.ndarray
    spacing: np.ndarray
    centre: np.ndarray
    reach: np.ndarray
    values: tuple[int, ...]
    volumes: dict[str, float]

    @classmethod
    def of(cls, name: str, mask: np.ndarray, spacing: Sequence[float], labels: Mapping[str, int]) -> _Case:
        found = {float(v) for v in np.unique(mask)} - {0.0}
        if mask.ndim != 3 or found != {float(v) for v in labels.values()}:
            raise ValueError(
                f"{name}: a 3D mask with the labels {dict(labels)} was expected, got shape {mask.shape} and the values "
                f"{sorted(found)}."
            )
        clean = np.where(get_largest_connected_component_mask(mask > 0, connectivity=1), mask, 0).astype(np.uint8)
        inside = np.argwhere(clean)
        centre, step = inside.mean(axis=0), np.asarray(spacing, dtype=np.float64)
        reach = np.abs(inside - centre).max(axis=0) * step
        volumes = {name: float((clean == value).sum() * step.prod()) for name, value in labels.items()}
        return cls(clean, step, centre, reach, tuple(labels.values()), volumes)

    def distances(self, size: np.ndarray, grid_spacing: float, limit: float) -> np.ndarray:
        """(1 + labels, *size), mm, float32, around the centre of mass."""
        pad = np.ceil(limit / self.spacing).astype(int)
        padded = np.pad(self.mask, [(int(p), int(p)) for p in pad])
        scale = grid_spacing / self.spacing
        offset = self.centre + pad - scale * (size - 1) / 2
        maps, edt = [], ndimage.distance_transform_edt
        for inside in (padded > 0, *(padded == value for value in self.values)):
            # Half a voxel: the surface runs between the voxels' centres, not through them.
            signed = edt(inside, self.spacing) - edt(~inside, self.spacing)
            signed -= 0.5 * self.spacing.mean() * np.sign(signed)
            aligned = ndimage.affine_transform(signed, scale, offset, tuple(size), order=1, mode="nearest")
            maps.append(np.clip(aligned, -limit, limit))
        return np.stack(maps).astype(np.float32)
