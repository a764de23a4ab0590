"""Seeded degradations of 2D images: fewer pixels, noise, holes. Each writes to the case what it did."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.nn import functional as F

from .checks import name_of
from .holes import KINDS, random_hole


def downsampled(image: Tensor, factor: float, mode: str = "bilinear") -> Tensor:
    """
    ``image`` on a grid ``factor`` times coarser an axis, and back on its own grid.

    Args:
        image: (C, H, W), or a stack of slices (C, H, W, Z), of which each is brought to it; float.
        factor: at least 1, need not be whole; the coarse sides are rounded.
        mode: of the way back, "bilinear" or "bicubic". The way down is bicubic with anti-aliasing.

    Returns:
        The same shape.

    Raises:
        ValueError: for a factor below 1.

    Source: Med-cDiff, section 4.3.
    """
    if factor < 1:
        raise ValueError(f"The factor must be at least 1, got {factor}.")
    size = image.shape[1:3]
    coarse = [max(1, round(side / factor)) for side in size]
    slices = image[None] if image.ndim == 3 else image.permute(3, 0, 1, 2)
    small = F.interpolate(slices, coarse, mode="bicubic", antialias=True)
    fine = F.interpolate(small, size, mode=mode)
    return fine[0] if image.ndim == 3 else fine.permute(1, 2, 3, 0).contiguous()


def noisy(image: Tensor, sigma: float, share: float, random: np.random.RandomState) -> Tensor:
    """
    ``image`` with Gaussian noise, then salt and pepper, within its own range.

    Args:
        image: (C, H, W), float.
        sigma: standard deviation of the Gaussian noise, as a share of the image's range.
        share: of the pixels that become salt (the largest value) or pepper (the smallest), half each, in [0, 1].
        random: source of the noise.

    Returns:
        The same shape, clipped to the image's range.

    Source: Med-cDiff, section 4.1 (kinds of noise; it gives no strength).
    """
    low, high = float(image.min()), float(image.max())
    gaussian = torch.from_numpy(random.normal(0.0, 1.0, image.shape).astype(np.float32))
    result = (image + sigma * (high - low) * gaussian).clamp(low, high)
    drawn = torch.from_numpy(random.uniform(size=image.shape).astype(np.float32))
    result[drawn < share / 2] = low
    result[drawn > 1 - share / 2] = high
    return result


class _Degraded(RandomizableTransform, MapTransform):
    """
    Base: degrades the image of ``keys`` into ``result_key`` and writes the parameters to ``<result_key>_parameters``.

    With ``seed``, what is drawn depends on it and on the case's name alone, so that every evaluation sees the same;
    without, every call draws anew.
    """

    dimensions: tuple[int, ...] = (3,)  # axes that an image may have

    def __init__(self, keys: KeysCollection, result_key: str, seed: int | None) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        if len(self.keys) != 1:
            raise ValueError(f"One image key was expected, got {self.keys}.")
        self.result_key = result_key
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with the degraded image and its parameters added."""
        image = convert_to_tensor(data[self.keys[0]])
        name = str(data.get("case") or name_of(data[self.keys[0]]))
        if image.ndim not in self.dimensions:
            raise ValueError(f"{name}: a 2D image (C, H, W) was expected, got shape {tuple(image.shape)}.")
        degraded, parameters = self.degrade(image.float(), self._random(name))
        return {**data, self.result_key: degraded, f"{self.result_key}_parameters": parameters}

    def degrade(self, image: Tensor, random: np.random.RandomState) -> tuple[Tensor, dict[str, float | str]]:
        """Returns the degraded image and what was drawn."""
        raise NotImplementedError

    def _random(self, name: str) -> np.random.RandomState:
        if self.seed is None:
            return self.R
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return np.random.RandomState(int.from_bytes(digest[:4], "little"))


class RandDownsampled(_Degraded):
    """
    ``downsampled`` with a factor from a list.

    Args:
        keys: the image, (C, H, W), or a stack of slices, (C, H, W, Z), all with one factor.
        result_key: for the degraded image.
        factors: one is drawn; a single one is fixed. The paper's are 2√2, 4, 4√2, 8, 8√2 and 16.
        mode: see ``downsampled``.
        seed: see the base; None draws anew at each call.

    Example:
        >>> RandDownsampled("image", factors=[2, 4], seed=0)({"image": torch.ones(1, 8, 8)})["condition_parameters"]
        {'factor': 4.0}
    """

    dimensions = (3, 4)

    def __init__(
        self,
        keys: KeysCollection,
        result_key: str = "condition",
        factors: Sequence[float] = (4.0,),
        mode: str = "bilinear",
        seed: int | None = None,
    ) -> None:
        super().__init__(keys, result_key, seed)
        if not factors or min(factors) < 1:
            raise ValueError(f"factors must be at least 1 each, got {factors}.")
        self.factors = tuple(factors)
        self.mode = mode

    def degrade(self, image: Tensor, random: np.random.RandomState) -> tuple[Tensor, dict[str, float | str]]:
        """Returns the image and {"factor"}."""
        factor = float(self.factors[random.randint(len(self.factors))])
        return downsampled(image, factor, self.mode), {"factor": factor}


class RandNoisyd(_Degraded):
    """
    ``noisy`` with strengths drawn from ranges.

    Args:
        keys: the image, (C, H, W).
        result_key: for the degraded image.
        sigma: range of the Gaussian noise's standard deviation, as a share of the image's range.
        share: range of the share of salt and pepper.
        seed: see the base; None draws anew at each call.

    Example:
        >>> case = {"image": torch.linspace(0, 1, 64).reshape(1, 8, 8)}
        >>> RandNoisyd("image", sigma=(0.1, 0.1), share=(0, 0), seed=0)(case)["condition_parameters"]
        {'sigma': 0.1, 'share': 0.0}
    """

    def __init__(
        self,
        keys: KeysCollection,
        result_key: str = "condition",
        sigma: tuple[float, float] = (0.02, 0.2),
        share: tuple[float, float] = (0.0, 0.1),
        seed: int | None = None,
    ) -> None:
        super().__init__(keys, result_key, seed)
        if not (0 <= sigma[0] <= sigma[1] and 0 <= share[0] <= share[1] <= 1):
            raise ValueError(f"Ranges in order were expected, got sigma {sigma} and share {share}.")
        self.sigma = tuple(sigma)
        self.share = tuple(share)

    def degrade(self, image: Tensor, random: np.random.RandomState) -> tuple[Tensor, dict[str, float | str]]:
        """Returns the image, {"sigma", "share"}."""
        sigma, share = (
            float(random.uniform(self.sigma[0], self.sigma[1])),
            float(random.uniform(self.share[0], self.share[1])),
        )
        return noisy(image, sigma, share, random), {"sigma": sigma, "share": share}


class RandHoled(_Degraded):
    """
    A hole of boxes or strokes: 1 inside, 0 outside, under ``result_key``.

    Args:
        keys: the image, (C, H, W).
        result_key: for the hole, (1, H, W) float32.
        area: range of the hole's share of the image.
        kinds: of holes, one is drawn: "boxes", "strokes".
        seed: see the base; None draws anew at each call.

    Example:
        >>> hole = RandHoled("image", area=(0.25, 0.25), kinds=["boxes"], seed=2)
        >>> hole({"image": torch.ones(1, 8, 8)})["hole"].mean()
        tensor(0.2500)
    """

    def __init__(
        self,
        keys: KeysCollection,
        result_key: str = "hole",
        area: tuple[float, float] = (0.05, 0.3),
        kinds: Sequence[str] = KINDS,
        seed: int | None = None,
    ) -> None:
        super().__init__(keys, result_key, seed)
        if not 0 < area[0] <= area[1] < 1:
            raise ValueError(f"0 < area < 1 in order was expected, got {area}.")
        self.area = tuple(area)
        self.kinds = tuple(kinds)

    def degrade(self, image: Tensor, random: np.random.RandomState) -> tuple[Tensor, dict[str, float | str]]:
        """Returns the hole, {"kind", "area"}."""
        kind = self.kinds[random.randint(len(self.kinds))]
        hole = random_hole(
            (image.shape[1], image.shape[2]), float(random.uniform(self.area[0], self.area[1])), kind, random
        )
        return torch.from_numpy(hole)[None].float(), {"kind": kind, "area": float(hole.mean())}
