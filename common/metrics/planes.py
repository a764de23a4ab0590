"""FID of volumes slice by slice (2.5D): a 2D network across each of the three axes, one distance a plane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from ..features.features import FeatureNetwork
from .fid import FrechetDistanceMetric, fid
from .frechet import mean_distance
from .sets import plain_images

AXES = (0, 1, 2)


def plane_slices(volume: Tensor, axis: int, share: float = 1.0) -> Tensor:
    """
    Slices of a volume across one axis.

    Args:
        volume: (C, X, Y, Z).
        axis: 0, 1 or 2; sagittal, coronal and axial slices of a volume in RAS.
        share: of the slices that are taken, the central ones, in (0, 1]; at least one.

    Returns:
        (slices, C, a, b), the remaining axes in their order.

    Raises:
        ValueError: for another axis or share, or when this is no volume.
    """
    if volume.ndim != 4 or axis not in AXES or not 0 < share <= 1:
        raise ValueError(
            f"A volume (C, X, Y, Z), an axis of {AXES} and a share in (0, 1] were expected, got "
            f"{tuple(volume.shape)}, {axis} and {share}."
        )
    slices = volume.movedim(1 + axis, 0)
    count = max(1, round(share * len(slices)))
    start = (len(slices) - count) // 2
    return slices[start : start + count]


def planes_fid(
    generated: Sequence[Tensor], real: Sequence[Tensor], features: FeatureNetwork, share: float = 1.0
) -> float:
    """
    2.5D FID of two sets of volumes: mean over the axes of the Fréchet distance of all slices across an axis.

    Args:
        generated: (C, X, Y, Z) each, in [-1, 1]; any number and sizes.
        real: likewise.
        features: a 2D network.
        share: of the slices that are taken, see ``plane_slices``.
    """

    def of(volumes: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat([features(plane_slices(volume, axis, share)).cpu() for volume in volumes])

    return sum(fid(of(generated, axis), of(real, axis)) for axis in AXES) / len(AXES)


class PlanesFrechetDistance(FrechetDistanceMetric):
    """
    2.5D FID: Fréchet distance of the slices' features across each axis, and the mean of the three.

    All slices of all volumes across an axis are one set. Streaming as the 2D and 3D distance. Slices of one volume are
    alike, so the interval leaves out whole volumes, and the number of volumes stands beside that of the slices.

    Args:
        features: a 2D network and its preprocessing; its name stands in the result.
        share: of the slices across an axis that count, the central ones; many volumes are empty at their ends.
        batch_size: slices that the network sees at once.
        groups: of the jackknife interval, as in ``FrechetDistanceMetric``.

    Raises:
        ValueError: for a network that does not read 2D images, or a share outside (0, 1].

    Source: the slices of three planes as in the 2.5D perceptual loss and FID of MONAI's generative models.
    """

    def __init__(
        self, features: FeatureNetwork, share: float = 1.0, batch_size: int = 64, groups: int | None = None
    ) -> None:
        if features.spec.spatial_dims not in (None, 2):
            raise ValueError(f"2.5D needs a network of 2D images; {features.name} reads {features.spec.spatial_dims}D.")
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share}.")
        super().__init__(features, groups)
        self.share, self.batch_size = share, batch_size

    @property
    def label(self) -> str:
        """Such as ``fid_2.5d[radimagenet_resnet50]``."""
        return f"fid_2.5d[{self.features.label}]"

    def views(self, images: Tensor) -> Iterator[tuple[int, str, Tensor]]:
        """Feature vectors of the slices of each volume across each axis."""
        plain = plain_images(images)
        if plain.ndim != 5:
            raise ValueError(f"{self.label} measures volumes (N, C, X, Y, Z), got {tuple(plain.shape)}.")
        for index, volume in enumerate(plain):
            for axis in AXES:
                slices = plane_slices(volume, axis, self.share).split(self.batch_size)
                yield index, f"axis_{axis}", torch.cat([self.features(part).cpu() for part in slices])

    def report(self) -> dict[str, Any]:
        """Mean of the planes, its interval, each plane, number of volumes, slices and features, network."""
        merged = self.merged()
        counts = {plane: [own.without().n for own in pair] for plane, pair in merged.items()}
        size = len(next(iter(merged.values()))[0].parts[0].mean)
        generated, real = evenly_divisible_all_gather(torch.tensor([self._cases]), concat=True).sum(0).tolist()
        return {
            **self._measured(list(merged.values()), "volumes"),
            "planes": {plane: mean_distance([pair]) for plane, pair in merged.items()},
            "n": {"generated": generated, "real": real},
            "slices": {plane: dict(zip(("generated", "real"), n)) for plane, n in counts.items()},
            "share_of_slices": self.share,
            "feature_size": size,
            "network": self.features.describe(),
            **self._warning(min(min(n) for n in counts.values()), size, "slices"),
        }
