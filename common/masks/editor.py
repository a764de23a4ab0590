"""Edit label maps: a lesion or another label moved, scaled, removed or inserted within the label around it."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from nibabel.affines import voxel_sizes
from scipy import ndimage

from ..transforms.checks import name_of
from ..transforms.geometry import like
from .phantom import draw_lesion

logger = logging.getLogger(__name__)


class EditLabels(MapTransform):
    """
    What the edits share: some labels are taken out of the map, changed as one piece, and put back within their parent.

    Args:
        keys: label maps, (1, X, Y, Z), whole numbers, on a grid of their own affine (or of 1 mm).
        labels: values that are edited together, as one piece; each must be there.
        parent: value of what surrounds the piece. It fills the place that the piece leaves, and the piece goes no
            further than it: what would lie on another label or outside the volume is cut off, with a notice.

    Raises:
        ValueError: (when called) when a label is not in the map or nothing of it would be left, by file.
    """

    def __init__(self, keys: KeysCollection, labels: Sequence[int], parent: int = 0) -> None:
        super().__init__(keys)
        self.labels = [int(label) for label in labels]
        self.parent = int(parent)
        if not self.labels or self.parent in self.labels:
            raise ValueError(f"labels other than the parent {parent} were expected, got {self.labels}.")

    @property
    def settings(self) -> dict[str, Any]:
        """What the edit does, for a record."""
        own = {k: v for k, v in vars(self).items() if k not in ("keys", "allow_missing_keys")}
        return {"edit": type(self).__name__, **{k: v.tolist() if hasattr(v, "tolist") else v for k, v in own.items()}}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with the edited label maps."""
        result = dict(data)
        for key in self.key_iterator(result):
            image, name = result[key], name_of(result[key], str(key))
            mask = convert_to_tensor(image).cpu().numpy()
            edited = self._edit(mask[0], _affine_of(image), name)[None]
            result[key] = like(torch.as_tensor(edited, device=image.device).to(image.dtype), image)
        return result

    def _edit(self, mask: np.ndarray, affine: np.ndarray, name: str) -> np.ndarray:
        """The edited map, (X, Y, Z)."""
        piece = self._piece(mask, name)
        return self._placed(np.where(piece != 0, self.parent, mask), self._changed(piece, affine), name)

    def _piece(self, mask: np.ndarray, name: str) -> np.ndarray:
        """The labels alone, (X, Y, Z), 0 around them."""
        piece = np.where(np.isin(mask, self.labels), mask, 0)
        missing = sorted(set(self.labels) - set(np.unique(piece).tolist()))
        if missing:
            raise ValueError(f"{name}: the labels {missing} are to be edited and are not in the label map.")
        return piece

    def _changed(self, piece: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """The piece after the edit, (X, Y, Z), 0 around it."""
        raise NotImplementedError

    def _placed(self, emptied: np.ndarray, changed: np.ndarray, name: str) -> np.ndarray:
        """The map without the piece, with the changed piece where its parent is."""
        inside = (changed != 0) & (emptied == self.parent)
        lost = sorted(set(self.labels) - set(np.unique(changed[inside]).tolist()))
        if lost:
            raise ValueError(f"{name}: nothing of the labels {lost} would lie within {self.parent}.")
        cut = int((changed != 0).sum() - inside.sum())
        if cut:
            logger.warning(
                "%s: %d voxels of %s lie outside of %s and are cut off.", name, cut, self.labels, self.parent
            )
        return np.where(inside, changed, emptied)


class MoveLabelsd(EditLabels):
    """
    Move labels.

    Args:
        keys: as ``EditLabels``, as ``labels`` and ``parent``.
        by: way to the right, to the front and up, mm (RAS).

    Raises:
        ValueError: as ``EditLabels``.

    Source: Med-DDPM, Fig. 4 (manipulated masks).

    Example:
        >>> mask = torch.zeros(1, 4, 4, 4); mask[0, 1, 1, 1] = 2
        >>> moved = MoveLabelsd("label", labels=[2], by=(1, 0, 0))({"label": mask})["label"]
        >>> moved.nonzero().tolist()
        [[0, 2, 1, 1]]
    """

    def __init__(self, keys: KeysCollection, labels: Sequence[int], by: Sequence[float], parent: int = 0) -> None:
        super().__init__(keys, labels, parent)
        self.by = np.asarray(by, dtype=float)
        if self.by.shape != (3,):
            raise ValueError(f"by must be three distances in mm, got {by}.")

    def _changed(self, piece: np.ndarray, affine: np.ndarray) -> np.ndarray:
        way = np.linalg.solve(affine[:3, :3], self.by)
        return ndimage.affine_transform(piece, np.eye(3), -way, order=0)


class ScaleLabelsd(EditLabels):
    """
    Make labels larger or smaller around their centre of mass.

    Args:
        keys: as ``EditLabels``, as ``labels`` and ``parent``.
        factor: of the length, above 0.

    Raises:
        ValueError: as ``EditLabels``.

    Source: Med-DDPM, Fig. 4 (manipulated masks).

    Example:
        >>> mask = torch.zeros(1, 9, 9, 9); mask[0, 3:6, 3:6, 3:6] = 2
        >>> int((ScaleLabelsd("label", labels=[2], factor=1.7)({"label": mask})["label"] == 2).sum())
        125
    """

    def __init__(self, keys: KeysCollection, labels: Sequence[int], factor: float, parent: int = 0) -> None:
        super().__init__(keys, labels, parent)
        self.factor = float(factor)
        if not self.factor > 0:
            raise ValueError(f"factor must be above 0, got {factor}.")

    def _changed(self, piece: np.ndarray, affine: np.ndarray) -> np.ndarray:
        centre = np.argwhere(piece).mean(axis=0)
        return ndimage.affine_transform(piece, np.eye(3) / self.factor, centre * (1 - 1 / self.factor), order=0)


class RemoveLabelsd(EditLabels):
    """
    Remove labels; their parent takes their place.

    Args:
        keys: as ``EditLabels``, as ``labels`` and ``parent``.

    Raises:
        ValueError: as ``EditLabels``.

    Source: Med-DDPM, Fig. 4 (manipulated masks).

    Example:
        >>> RemoveLabelsd("label", labels=[2], parent=1)({"label": torch.tensor([[[[1, 2, 1]]]])})["label"].flatten()
        tensor([1, 1, 1])
    """

    def _edit(self, mask: np.ndarray, affine: np.ndarray, name: str) -> np.ndarray:
        return np.where(self._piece(mask, name) != 0, self.parent, mask)


class InsertLesiond(EditLabels):
    """
    Insert a bumpy ellipsoid within its parent.

    Args:
        keys: as ``EditLabels``.
        label: value of what is inserted; it may be in the map already.
        parent: value of what it lies in.
        radius: mm; each of the three half axes is between 0.8 and 1.2 of it. None draws it between 8 and 25.
        centre: RAS mm, as the file's affine has them; None draws a place that is deep enough for the radius.
        seed: the same seed gives the same lesion in the same map.

    Raises:
        ValueError: as ``EditLabels``; when the parent is not in the map.

    Example:
        >>> mask = torch.ones(1, 24, 24, 24)
        >>> insert = InsertLesiond("label", label=2, parent=1, radius=4, centre=(12, 12, 12))
        >>> inserted = insert({"label": mask})["label"]
        >>> 180 < int((inserted == 2).sum()) < 360, int(inserted[0, 12, 12, 12])
        (True, 2)
    """

    def __init__(
        self,
        keys: KeysCollection,
        label: int,
        parent: int,
        radius: float | None = None,
        centre: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(keys, [label], parent)
        self.radius = radius
        self.centre = None if centre is None else np.asarray(centre, dtype=float)
        self.seed = seed

    def _edit(self, mask: np.ndarray, affine: np.ndarray, name: str) -> np.ndarray:
        parent = mask == self.parent
        if not parent.any():
            raise ValueError(f"{name}: the label {self.parent}, in which a lesion is to lie, is not in the label map.")
        spacing = voxel_sizes(affine)
        ticks = [(np.arange(n) * step).astype(np.float32) for n, step in zip(mask.shape, spacing)]
        points = np.stack(np.meshgrid(*ticks, indexing="ij"))
        centre = None if self.centre is None else np.linalg.solve(affine, [*self.centre, 1])[:3] * spacing
        found = draw_lesion(points, parent, spacing, np.random.default_rng(self.seed), self.radius, centre)
        changed = np.where(found, self.labels[0], 0).astype(mask.dtype)
        return self._placed(mask, changed, name)


class ChangedRegiond(MapTransform):
    """
    Where a label map differs from the case's "before", and a margin around it.

    Args:
        keys: the map after the edit, (1, X, Y, Z).
        margin: mm.
        blend: mm of the margin, from its outer border inwards, in which the region rises from 0 to 1.
        result_key: for the region, (1, X, Y, Z), float32, above 0 inside.

    Raises:
        ValueError: (when called) when the maps are equal, by file.

    Example:
        >>> before = torch.zeros(1, 5, 5, 5); after = before.clone(); after[0, 2, 2, 2] = 1
        >>> int(ChangedRegiond("mask", margin=1)({"mask": after, "before": before})["hole"].sum())
        7
    """

    def __init__(self, keys: KeysCollection, margin: float = 3.0, blend: float = 0.0, result_key: str = "hole") -> None:
        super().__init__(keys)
        if not 0 <= blend <= margin:
            raise ValueError(f"blend: mm between 0 and the margin of {margin:g} were expected, got {blend!r}.")
        self.margin = margin
        self.blend = blend
        self.result_key = result_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with the region added."""
        mask, before = data[self.keys[0]], data["before"]
        same = (convert_to_tensor(mask) == convert_to_tensor(before))[0].cpu().numpy()
        if same.all():
            raise ValueError(f"{name_of(mask)}: an edited label map was expected, and nothing of it has changed.")
        sides = voxel_sizes(_affine_of(mask))
        away = ndimage.distance_transform_edt(same, sides)
        inside = ((self.margin - away + min(sides)) / (self.blend + min(sides))).clip(max=1)
        region = np.where(away <= self.margin, inside, 0)
        return {**data, self.result_key: like(torch.as_tensor(region, dtype=torch.float32)[None], mask)}


def _affine_of(image: Any) -> np.ndarray:
    """Voxel to RAS millimetres, (4, 4); voxels of 1 mm where nothing is known."""
    return np.asarray(image.affine, dtype=float) if isinstance(image, MetaTensor) else np.eye(4)
