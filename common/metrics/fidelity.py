"""How near an image is to its reference: MSE, MAE, PSNR, over the image or over a region such as a hole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.images import plain_images
from .base import CaseMetric, check_range, check_values, inside_mask, same_shape

REGIONS = ("image", "inside", "outside")


def mse(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Mean squared error, in float64; without a mask the number of MONAI's ``MSEMetric`` (tested).

    Args:
        x: (N, C, *spatial).
        y: the same shape.
        mask: (N, 1 or C, *spatial); only voxels where it is positive count.

    Returns:
        (N,), float64, in intensity squared; NaN where the mask of a case is empty.

    Raises:
        ValueError: for different shapes, NaN, or a mask of another size.
    """
    return _mean_error(x, y, mask, torch.square)


def mae(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Mean absolute error, in float64; without a mask the number of MONAI's ``MAEMetric`` (tested).

    Args:
        x: (N, C, *spatial).
        y: the same shape.
        mask: (N, 1 or C, *spatial); only voxels where it is positive count.

    Returns:
        (N,), float64, in units of the intensity; NaN where the mask of a case is empty.

    Raises:
        ValueError: for different shapes, NaN, or a mask of another size.
    """
    return _mean_error(x, y, mask, torch.abs)


def psnr(x: Tensor, y: Tensor, data_range: float = 2.0, mask: Tensor | None = None) -> Tensor:
    """
    Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), in float64.

    Without a mask the number of MONAI's ``PSNRMetric`` (tested).

    Args:
        x: (N, C, *spatial).
        y: the same shape.
        data_range: largest minus smallest possible value; 2 for images in [-1, 1].
        mask: (N, 1 or C, *spatial); only voxels where it is positive count.

    Returns:
        (N,), float64, in dB; infinity for identical images, NaN where the mask of a case is empty.

    Raises:
        ValueError: for different shapes, NaN, a mask of another size, or values that span more than ``data_range``.
    """
    error = mse(x, y, mask)
    check_range(data_range, plain_images(x), plain_images(y))
    return 10 * torch.log10(data_range**2 / error)


def _mean_error(x: Tensor, y: Tensor, mask: Tensor | None, size_of: Callable[[Tensor], Tensor]) -> Tensor:
    y = same_shape(x, y)
    error = size_of(plain_images(x).double() - plain_images(y).double())
    if mask is None:
        return error.flatten(1).mean(1)
    inside = inside_mask(mask, error)
    # Not a product with the mask: voxels outside must not count, whatever they hold.
    return torch.where(inside, error, 0.0).flatten(1).sum(1) / inside.flatten(1).sum(1)


class FidelityMetric(CaseMetric):
    """
    Base of the metrics of pairs: one value a pair.

    A region needs a mask, and a MONAI handler passes two tensors only. So with a region the reference carries the mask
    as its last channel, (N, C + 1, *spatial), as ``ConcatItemsd`` of reference and mask makes it.

    Args:
        value_range: smallest and largest possible value; images with values outside it are refused.
        region: "image"; "inside" or "outside" of the mask.

    Raises:
        ValueError: for another region, or a range that is not two ascending numbers.

    >>> metric = MeanSquaredError(region="inside")
    >>> mask = torch.tensor([[1.0, 0.0]])[None, None]
    >>> _ = metric(torch.ones(1, 1, 1, 2), torch.cat([torch.zeros(1, 1, 1, 2), mask], dim=1))
    >>> metric.label, metric.per_case().tolist()
    ('mse[inside]', [1.0])
    """

    def __init__(self, value_range: Sequence[float] = (-1.0, 1.0), region: str = "image") -> None:
        super().__init__()
        if len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise ValueError(f"value_range must be the smallest and the largest possible value, got {value_range}.")
        if region not in REGIONS:
            raise ValueError(f"region must be one of {REGIONS}, got {region!r}.")
        self.value_range = (float(value_range[0]), float(value_range[1]))
        self.data_range = self.value_range[1] - self.value_range[0]
        self.region = region

    @property
    def label(self) -> str:
        """Such as ``psnr`` or ``psnr[inside]``."""
        return self.name if self.region == "image" else f"{self.name}[{self.region}]"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        if self.region == "image":
            y, mask = same_shape(y_pred, y), None
        else:
            y, mask = self._without_mask(y_pred, y)
        check_values(self.value_range, plain_images(y_pred), plain_images(y))
        return self._of_pairs(y_pred, y, mask)

    def _without_mask(self, y_pred: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        if y is None or y.shape[1] != y_pred.shape[1] + 1:
            shape = None if y is None else tuple(y.shape)
            raise ValueError(
                f"{self.label} needs a reference with the mask as its last channel; images have the shape "
                f"{tuple(y_pred.shape)}, the reference {shape}."
            )
        mask = y[:, -1:] > 0
        return y[:, :-1], (mask if self.region == "inside" else ~mask).float()

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must implement _of_pairs.")

    def report(self) -> dict[str, Any]:
        """Range and region."""
        return {"value_range": list(self.value_range), "region": self.region}


class MeanSquaredError(FidelityMetric):
    """
    Mean squared error of each pair; see ``mse`` and ``FidelityMetric``.

    >>> metric = MeanSquaredError()
    >>> _ = metric(torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4))
    >>> float(metric.aggregate())
    0.25
    """

    name = "mse"

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return mse(x, y, mask)


class MeanAbsoluteError(FidelityMetric):
    """
    Mean absolute error of each pair; see ``mae`` and ``FidelityMetric``.

    >>> metric = MeanAbsoluteError()
    >>> _ = metric(torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4))
    >>> float(metric.aggregate())
    0.5
    """

    name = "mae"

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return mae(x, y, mask)


class PeakSignalToNoise(FidelityMetric):
    """
    PSNR of each pair in dB; see ``psnr`` and ``FidelityMetric``.

    Identical pairs, whose PSNR is infinite, stay out of the mean and its interval; the report counts them.

    >>> metric = PeakSignalToNoise()
    >>> _ = metric(torch.tensor([[0.2], [0.0]]).reshape(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    >>> round(float(metric.aggregate()), 6), metric.report()["identical_pairs"]
    (20.0, 1)
    """

    name = "psnr"

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return psnr(x, y, self.data_range, mask)

    def per_case(self) -> Tensor:
        """PSNR of each pair, (n,), float64; NaN for identical pairs and where a region is empty."""
        values = super().per_case()
        return torch.where(values.isinf(), torch.nan, values)

    def report(self) -> dict[str, Any]:
        """Range, region, and the number of identical pairs."""
        return {**super().report(), "identical_pairs": int(self.rows().isinf().sum())}


class BackgroundDeviation(FidelityMetric):
    """
    Root mean square error inside the mask where the reference and its surroundings are background, in grey levels.

    What was filled in there should not be seen. Background is what lies within 4 grey levels of the smallest possible
    value, with all pixels up to three away. Grey levels are 255ths of the range.

    Args:
        value_range: see ``FidelityMetric``.

    Source: this project.

    >>> metric, mask = BackgroundDeviation(), torch.ones(1, 1, 8, 8)
    >>> _ = metric(torch.full((1, 1, 8, 8), 2 / 255 - 1), torch.cat([torch.full((1, 1, 8, 8), -1.0), mask], dim=1))
    >>> metric.label, round(float(metric.aggregate()), 3)
    ('background_rms[inside]', 1.0)
    """

    name = "background_rms"

    def __init__(self, value_range: Sequence[float] = (-1.0, 1.0)) -> None:
        super().__init__(value_range, "inside")

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        level = self.data_range / 255
        largest = F.max_pool2d(plain_images(y).amax(1, keepdim=True), 7, 1, 3)
        background = (largest <= self.value_range[0] + 4 * level) & (mask > 0)  # type: ignore[operator]
        return mse(x, y, background.float()).sqrt() / level
