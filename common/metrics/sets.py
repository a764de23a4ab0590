"""What the metrics share: finite images, common sizes, whole sets of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from ..utils.images import plain_images


def same_shape(y_pred: Tensor, y: Tensor | None) -> Tensor:
    """``y``, or ValueError when it is missing or not of the shape of ``y_pred``."""
    if y is None or y.shape != y_pred.shape:
        shape = None if y is None else tuple(y.shape)
        raise ValueError(f"Generated and real image must have one shape, got {tuple(y_pred.shape)} and {shape}.")
    return y


def check_range(data_range: float, *images: Tensor) -> None:
    """
    Refuse images that span more than the range that is declared for them.

    Args:
        data_range: largest minus smallest possible value.
        images: whose values are compared, together.

    Raises:
        ValueError: for a range that is not positive, or for values further apart; names the range found.
    """
    if data_range <= 0:
        raise ValueError(f"data_range must be positive, got {data_range}.")
    low = min(float(i.min()) for i in images)
    high = max(float(i.max()) for i in images)
    if high - low > data_range * (1 + 1e-5):
        raise ValueError(f"Values span [{low:g}, {high:g}], more than the declared data_range of {data_range:g}.")


def check_values(value_range: Sequence[float], *images: Tensor) -> None:
    """
    Refuse images with values outside the range that is declared for them.

    Raises:
        ValueError: names the range found.
    """
    low, high = value_range
    slack = 1e-5 * (high - low)
    found = min(float(i.min()) for i in images), max(float(i.max()) for i in images)
    if found[0] < low - slack or found[1] > high + slack:
        raise ValueError(f"Values lie in [{found[0]:g}, {found[1]:g}], declared was [{low:g}, {high:g}].")


def in_order_of_mean(volumes: Sequence[Tensor]) -> list[Tensor]:
    """``volumes`` sorted by their mean, so that a seeded draw does not hang on the number of processes."""
    return sorted(volumes, key=lambda v: float(v.double().mean()))


def common_size(volumes: Sequence[Tensor]) -> tuple[int, ...]:
    """
    Smallest side of (C, *spatial) ``volumes``, a dimension.

    Raises:
        ValueError: when they differ in their number of channels or dimensions.
    """
    kinds = sorted({(v.shape[0], v.ndim - 1) for v in volumes})
    if len(kinds) > 1:
        found = ", ".join(f"{channels} in {dims}D" for channels, dims in kinds)
        raise ValueError(f"Images of one number of channels and dimensions were expected, got channels: {found}.")
    return tuple(min(sides) for sides in zip(*(v.shape[1:] for v in volumes)))


def centre_crop(volume: Tensor, size: Sequence[int]) -> Tensor:
    """The central ``size`` of a (C, *spatial) volume; the odd voxel is left off at the end."""
    starts = [(side - target) // 2 for side, target in zip(volume.shape[1:], size)]
    return volume[(slice(None), *(slice(start, start + target) for start, target in zip(starts, size)))]


class VolumeSetMetric(CumulativeIterationMetric):
    """
    Base of metrics that look at two whole sets: keeps the volumes on the CPU until ``aggregate``.

    Volumes may differ in size. Memory grows with the set, so at most ``max_volumes`` a process are kept, the first.

    Args:
        max_volumes: kept of each set.
    """

    def __init__(self, max_volumes: int = 256) -> None:
        super().__init__()
        self.max_volumes = max_volumes

    def reset(self) -> None:
        """Forget all volumes."""
        super().reset()
        self._generated: list[Tensor] = []
        self._real: list[Tensor] = []
        self._result: dict[str, Any] | None = None

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        self.keep(y_pred, y)
        return torch.ones(len(y_pred), 1)

    def keep(self, generated: Tensor | None = None, real: Tensor | None = None) -> None:
        """
        Take in images of either set, or of both in any numbers.

        Args:
            generated: (N, C, *spatial).
            real: (M, C, *spatial).
        """
        self._result = None
        for kept, images in ((self._generated, generated), (self._real, real)):
            if images is not None:
                room = self.max_volumes - len(kept)
                kept.extend(v.cpu().float().clone() for v in plain_images(images)[:room])

    def report(self) -> dict[str, Any]:
        """Value and what it takes to judge it; computed once for what has been seen."""
        if self._result is None:
            self._result = self._evaluate()
        return self._result

    def _evaluate(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement _evaluate.")

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the value of the report, a float64 scalar."""
        return torch.tensor(self.report()["value"], dtype=torch.float64)

    def volumes(self) -> tuple[list[Tensor], list[Tensor]]:
        """Generated and real volumes of all processes, each (C, *spatial) float32 on the CPU."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._generated, self._real
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, (self._generated, self._real))
        return [v for part in gathered for v in part[0]], [v for part in gathered for v in part[1]]
