"""Holes for inpainting: random ones, a user's own, the condition they give, and the known pixels put back."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from scipy import ndimage
from skimage.draw import disk

from .checks import CheckSameGridd, name_of, nearly_whole
from .geometry import like

KINDS = ("boxes", "strokes")
_LEAST_WEIGHT = 1e-9  # of known background around a pixel, below which there is none


class CheckHoled(MapTransform):
    """
    Make a mask a hole, 1 inside and 0 outside, or say why it is none.

    Args:
        keys: the mask, (1, X, Y, Z); whatever is not 0 (``nearly_whole``), be it negative, lies in the hole. Lossy
            compression blurs its edges, so half of the largest value is the limit there.
        image_key: the image, on the same grid.

    Raises:
        ValueError: (when called) names the file of a hole that is empty, covers everything, or lies on another grid,
            and of a NIfTI hole for a picture or the other way round.

    Example:
        >>> image, mask = (MetaTensor(torch.zeros(1, 1, 2, 1), meta={"filename_or_obj": f"{n}.png"}) for n in "im")
        >>> mask[:, :, 0] = 255
        >>> CheckHoled()({"image": image, "hole": mask})["hole"].flatten().tolist()
        [1.0, 0.0]
    """

    def __init__(self, keys: KeysCollection = "hole", image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with a float64 hole on the image's affine."""
        result = dict(data)
        image = data[self.image_key]
        for key in self.key_iterator(result):
            mask = data[key]
            name, other = name_of(mask, str(key)), name_of(image, self.image_key)
            if mask.shape != image.shape:
                sizes = [" x ".join(str(side) for side in item.shape[1:]) for item in (image, mask)]
                raise ValueError(f"{name}: a hole of the size of {other}, {sizes[0]}, was expected, got {sizes[1]}.")
            formats = [json.loads(item.meta.get("format") or "{}") for item in (mask, image)]
            nifti = [one.get("kind") == "nifti" for one in formats]
            if nifti[0] != nifti[1]:  # a picture does not say how it lies in a NIfTI file
                wanted = "NIfTI hole" if nifti[1] else "hole as a picture (PNG, JPEG, DICOM)"
                raise ValueError(f"{name}: a {wanted} was expected for {other}.")
            if all(nifti):
                CheckSameGridd([key, self.image_key])(data)
            values = convert_to_tensor(nearly_whole(mask.as_tensor()))
            hole = (values > float(values.max()) / 2 if formats[0].get("lossy") else values != 0).double()
            if not bool(hole.any()):
                raise ValueError(f"{name}: the hole is empty; pixels to be filled, other than 0, were expected.")
            if bool(hole.all()):
                raise ValueError(f"{name}: the hole covers the whole image; known pixels, of value 0, were expected.")
            own = {about: mask.meta[about] for about in ("filename_or_obj", "format") if about in mask.meta}
            result[key] = MetaTensor(hole, meta={**image.meta, **own})
        return result


class HoledConditiond(MapTransform):
    """
    The condition of an inpainting network: the image with 0 in the hole, and the hole, +1 inside and -1 outside.

    Args:
        keys: the image, (1, *spatial) in [-1, 1].
        hole_key: the hole, (1, *spatial), 1 inside.
        result_key: for the condition, (2, *spatial).

    Example:
        >>> case = {"image": torch.tensor([[[0.2, 0.4]]]), "hole": torch.tensor([[[0.0, 1.0]]])}
        >>> HoledConditiond("image")(case)["condition"].flatten(1)
        tensor([[ 0.2000,  0.0000],
                [-1.0000,  1.0000]])
    """

    def __init__(self, keys: KeysCollection, hole_key: str = "hole", result_key: str = "condition") -> None:
        super().__init__(keys)
        self.hole_key = hole_key
        self.result_key = result_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with the condition added."""
        image, inside = convert_to_tensor(data[self.keys[0]]), convert_to_tensor(data[self.hole_key]) > 0.5
        condition = torch.cat([image.masked_fill(inside, 0.0), inside.to(image.dtype) * 2 - 1])
        return {**data, self.result_key: like(condition, data[self.keys[0]])}


class KeepKnownd(MapTransform):
    """
    Put the known pixels back, so that only the hole is new.

    Args:
        keys: restored images, (C, X, Y, Z).
        hole_key: the hole of "original", the image as it was read, (1, X, Y, Z) float64.

    Example:
        >>> case = {"pred": torch.ones(1, 2), "original": torch.zeros(1, 2), "original_hole": torch.eye(2)[:1]}
        >>> KeepKnownd()(case)["pred"]
        tensor([[1., 0.]], dtype=torch.float64)
    """

    def __init__(self, keys: KeysCollection = "pred", hole_key: str = "original_hole") -> None:
        super().__init__(keys)
        self.hole_key = hole_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``; float64, so that every stored value comes through."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = convert_to_tensor(result[key])
            known, hole = (convert_to_tensor(data[of], device=image.device) for of in ("original", self.hole_key))
            result[key] = like(torch.where(hole > 0, image.double(), known.double()), result[key])
        return result


class QuietBackgroundd(MapTransform):
    """
    Where what was drawn is as dark as the background around it, make it as quiet as that background.

    A few grey levels of noise are left of the denoising, and in a black background they show the outline of a hole.
    Each pixel of the hole goes towards the mean of the known dark pixels nearby, the whole way where its surroundings
    are within ``near`` of it, not at all where they are further than twice that, and where that background has a
    texture of its own. Brighter structures and known pixels stay as they are. Without a hole (super-resolution), every
    pixel was drawn, and every pixel of the image is known, though at a lower resolution.

    Args:
        keys: restored images, (C, X, Y) or (C, X, Y, Z) with slices in the first two axes.
        image_key: the image, whose first channel is known outside the hole, in the units of ``keys``.
        hole_key: the hole, above 0.5 inside; None when all was drawn anew from ``image_key``.
        dark: largest distance of background from the smallest known value, as a share of the known range.
        near: see above, as a share of the known range.
        quiet: largest standard deviation of such a background, as a share of the known range.

    Source: this project; the widths (a 32nd of the shorter side for the background, a 64th for the surroundings of a
        pixel) and shares were chosen on 60 slices of the training share of brain MRI; see the studies of both bundles.

    Example:
        >>> image, hole = torch.zeros(1, 32, 32), torch.zeros(1, 32, 32)
        >>> image[:, :, 16:], hole[:, 8:24] = 1.0, 1.0
        >>> case = {"image": image, "hole": hole, "pred": image + 0.02}
        >>> QuietBackgroundd()(case)["pred"][0, 16, [2, 30]]
        tensor([0.0000, 1.0200])
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        hole_key: str | None = "hole",
        dark: float = 4 / 255,
        near: float = 15 / 255,
        quiet: float = 3 / 255,
    ) -> None:
        super().__init__(keys)
        self.image_key, self.hole_key = image_key, hole_key
        self.dark, self.near, self.quiet = dark, near, quiet

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``."""
        result = dict(data)
        known = convert_to_tensor(data[self.image_key])[:1].cpu().double().numpy()
        if self.hole_key is None:
            inside = seen = np.ones(known.shape, dtype=bool)
        else:
            inside = convert_to_tensor(data[self.hole_key])[:1].cpu().numpy() > 0.5
            seen = ~inside
        low, high = np.percentile(known[seen], [0.5, 99.5]) if seen.any() else (0.0, 0.0)
        width = min(known.shape[1:3]) / 32
        if high <= low or width < 0.5:
            return result
        weight = (seen & (known <= low + self.dark * (high - low))).astype(np.float64)
        weights, sums, squares = (_far_mean(weight * known**power, width) for power in range(3))
        level = sums / np.maximum(weights, 1e-12)
        texture = np.sqrt(np.maximum(squares / np.maximum(weights, 1e-12) - level**2, 0.0))
        there = inside & (weights > _LEAST_WEIGHT) & (texture <= self.quiet * (high - low))
        for key in self.key_iterator(result):
            drawn = convert_to_tensor(result[key])
            images = np.where(inside, drawn.cpu().double().numpy(), known)
            above = (_smooth(images, width / 2) - level) / (self.near * (high - low))
            settled = images + np.clip(2.0 - above, 0.0, 1.0) * (level - images)
            changed = torch.from_numpy(np.where(there, settled, drawn.cpu().double().numpy()))
            result[key] = like(changed.to(drawn.device, drawn.dtype), result[key])
        return result


def _smooth(images: np.ndarray, width: float) -> np.ndarray:
    """Gaussian of a standard deviation of ``width`` pixels along the first two spatial axes of (C, X, Y, ...)."""
    return ndimage.gaussian_filter(images, [0, width, width, *[0] * (images.ndim - 3)], mode="nearest")


def _far_mean(images: np.ndarray, width: float) -> np.ndarray:
    """``_smooth``, with little weight for what is far, so that it counts where nothing is near."""
    return sum(share * _smooth(images, scale * width) for scale, share in ((1, 1.0), (4, 1e-3), (16, 1e-6)))  # type: ignore[return-value]


def random_hole(size: tuple[int, int], area: float, kind: str, random: np.random.RandomState) -> np.ndarray:
    """
    A hole of about ``area`` of the image, never empty and never all of it.

    Args:
        size: (H, W) in pixels, at least 4 each.
        area: share of the image, in (0, 1).
        kind: "boxes" (one to four rectangles) or "strokes" (walks of a round brush).
        random: source of the draws.

    Returns:
        (H, W) bool, True inside.

    Raises:
        ValueError: for another kind, a share outside (0, 1), a side below 4.

    Source: Med-cDiff, section 4.1 (random masks; it gives no shapes). Strokes as free-form masks, Yu et al. 2019.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}.")
    if not 0 < area < 1 or min(size) < 4:
        raise ValueError(f"A share in (0, 1) and sides of at least 4 were expected, got {area} and {size}.")
    hole = np.zeros(size, dtype=bool)
    wanted = max(1, round(area * hole.size))
    add = _add_box if kind == "boxes" else _add_stroke
    parts = random.randint(1, 5)
    # Parts overlap, so there may be more of them; the last is cut where the share is reached.
    for _ in range(1000):
        missing = wanted - int(hole.sum())
        if missing <= 0.02 * wanted:
            break
        before = hole.copy()
        add(hole, min(missing, -(-wanted // parts)), random)
        if hole.sum() > 1.2 * wanted or hole.all():
            hole = before
    if not hole.any():
        hole[size[0] // 2, size[1] // 2] = True
    return hole


def _add_box(hole: np.ndarray, pixels: int, random: np.random.RandomState) -> None:
    height, width = hole.shape
    ratio = np.exp(random.uniform(-0.7, 0.7))
    rows = int(np.clip(round(np.sqrt(pixels * ratio)), 1, height - 1))
    columns = int(np.clip(round(pixels / rows), 1, width - 1))
    top, left = random.randint(height - rows + 1), random.randint(width - columns + 1)
    hole[top : top + rows, left : left + columns] = True


def _add_stroke(hole: np.ndarray, pixels: int, random: np.random.RandomState) -> None:
    height, width = hole.shape
    radius = max(1.0, random.uniform(0.02, 0.06) * min(hole.shape))
    position = np.array([random.uniform(0, height), random.uniform(0, width)])
    angle = random.uniform(0, 2 * np.pi)
    target = int(hole.sum()) + pixels
    for _ in range(4 * (height + width)):
        hole[disk(tuple(position), radius, shape=hole.shape)] = True
        if hole.sum() >= target:
            break
        angle += random.normal(0, 0.3)
        position = position + radius * np.array([np.sin(angle), np.cos(angle)])
        if not (0 <= position[0] < height and 0 <= position[1] < width):
            position = np.clip(position, 0, [height - 1, width - 1])
            angle += np.pi / 2 + random.uniform(0, np.pi)
