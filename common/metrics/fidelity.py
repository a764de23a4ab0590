"""How near an image is to its reference: MSE, MAE, PSNR, SSIM, over the image or over a region such as a hole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from .ms_ssim import Scales, ssim_terms
from .sets import check_range, check_values, plain_images, same_shape

REGIONS = ("image", "inside", "outside")


def mse(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Mean squared error, in float64.

    Without a mask the number of MONAI's ``MSEMetric`` (tested), which knows no region and lets NaN pass.

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
    Mean absolute error, in float64; arguments and result as of ``mse``, in units of the intensity.

    Without a mask the number of MONAI's ``MAEMetric`` (tested).

    Args:
        x: (N, C, *spatial).
        y: the same shape.
        mask: (N, 1 or C, *spatial); only voxels where it is positive count.

    Returns:
        (N,), float64; NaN where the mask of a case is empty.

    Raises:
        ValueError: for different shapes, NaN, or a mask of another size.
    """
    return _mean_error(x, y, mask, torch.abs)


def psnr(x: Tensor, y: Tensor, data_range: float = 2.0, mask: Tensor | None = None) -> Tensor:
    """
    Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), in float64.

    Without a mask the number of MONAI's ``PSNRMetric`` (tested), whose mean over cases is infinite as soon as one
    pair is identical.

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


def ssim_scales(size: torch.Size | tuple[int, ...]) -> Scales:
    """
    The window of SSIM: 11 voxels with sigma 1.5, or the largest odd one that fits, its sigma in proportion.

    Args:
        size: sides in voxels.

    Raises:
        ValueError: for a side below 3.
    """
    side = min(size)
    if side < 3:
        raise ValueError(f"SSIM needs sides of at least 3 voxels, got {tuple(size)}.")
    window = min(11, side if side % 2 else side - 1)
    return Scales(window, 1.5 * window / 11, (1.0,))


def ssim(x: Tensor, y: Tensor, data_range: float = 2.0) -> Tensor:
    """
    Structural similarity: its map's mean over all places where the Gaussian window fits, and over channels.

    The number of scikit-image's ``structural_similarity`` with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False`` and of MONAI's ``SSIMMetric`` (both tested). MONAI's is not used inside: it fails
    where an image is smaller than its window, computes in float32, and its dense window is slow in 3D.

    The luminance term compares means from 0 upwards: the same images in [-1, 1] and in [0, 2] have different SSIM.
    Published values belong to images from 0; ``StructuralSimilarity`` shifts them so, this function does not.

    Args:
        x: (N, C, *spatial), sides of at least 3; below 11 the window shrinks, see ``ssim_scales``.
        y: the same shape.
        data_range: largest minus smallest possible value.

    Returns:
        (N,), float64, in [-1, 1]. Constant images differ in their luminance term alone; two equal ones give 1.

    Raises:
        ValueError: for different shapes, NaN, sides that are too short, or values that span more than ``data_range``.

    Source: Wang et al. 2004, eq. 13, K = (0.01, 0.03).
    """
    y = same_shape(x, y)
    x, y = plain_images(x).double(), plain_images(y).double()
    check_range(data_range, x, y)
    luminance, contrast = ssim_terms(x, y, ssim_scales(x.shape[2:]), data_range)
    return (luminance * contrast).flatten(1).mean(1)


def _mean_error(x: Tensor, y: Tensor, mask: Tensor | None, size_of: Callable[[Tensor], Tensor]) -> Tensor:
    y = same_shape(x, y)
    error = size_of(plain_images(x).double() - plain_images(y).double())
    if mask is None:
        return error.flatten(1).mean(1)
    if mask.shape[2:] != x.shape[2:] or len(mask) != len(x) or mask.shape[1] not in (1, x.shape[1]):
        raise ValueError(f"mask {tuple(mask.shape)} does not fit images {tuple(x.shape)}.")
    inside = (plain_images(mask, "mask") > 0).expand_as(error)
    # Not a product with the mask: voxels outside must not count, whatever they hold.
    return torch.where(inside, error, 0.0).flatten(1).sum(1) / inside.flatten(1).sum(1)


class FidelityMetric(CumulativeIterationMetric):
    """
    Base of the metrics of pairs: one value a pair.

    A region needs a mask, and a MONAI handler passes two tensors only. So with a region the reference carries the mask
    as its last channel, (N, C + 1, *spatial), as ``ConcatItemsd`` of reference and mask makes it.

    Args:
        value_range: smallest and largest possible value; images with values outside it are refused.
        region: "image"; "inside" or "outside" of the mask.

    Raises:
        ValueError: for another region, or a range that is not two ascending numbers.
    """

    name = ""

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

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if self.region == "image":
            y, mask = same_shape(y_pred, y), None
        else:
            y, mask = self._without_mask(y_pred, y)
        check_values(self.value_range, plain_images(y_pred), plain_images(y))
        return self._of_pairs(y_pred, y, mask).reshape(len(y_pred), -1)

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

    def per_case(self) -> Tensor:
        """One value a pair, (n,), float64; NaN where a region is empty."""
        return self.get_buffer()[:, 0]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over the pairs that have a value."""
        return self.per_case().nanmean()

    def report(self) -> dict[str, Any]:
        """Range and region."""
        return {"value_range": list(self.value_range), "region": self.region}


class MeanSquaredError(FidelityMetric):
    """Mean squared error of each pair; see ``mse`` and ``FidelityMetric``."""

    name = "mse"

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return mse(x, y, mask)


class MeanAbsoluteError(FidelityMetric):
    """Mean absolute error of each pair; see ``mae`` and ``FidelityMetric``."""

    name = "mae"

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return mae(x, y, mask)


class PeakSignalToNoise(FidelityMetric):
    """
    PSNR of each pair in dB; see ``psnr`` and ``FidelityMetric``.

    Identical pairs, whose PSNR is infinite, stay out of the mean and its interval; the report counts them.
    """

    name = "psnr"

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return psnr(x, y, self.data_range, mask)

    def per_case(self) -> Tensor:
        """PSNR of each pair, (n,), float64; NaN for identical pairs and where a region is empty."""
        values = self.get_buffer()[:, 0]
        return torch.where(values.isinf(), torch.nan, values)

    def report(self) -> dict[str, Any]:
        """Range, region, and the number of identical pairs."""
        return {**super().report(), "identical_pairs": int(self.get_buffer().isinf().sum())}


class StructuralSimilarity(FidelityMetric):
    """
    SSIM of each pair, of intensities counted from the lower end of the range; see ``ssim``.

    Args:
        value_range: smallest and largest possible value; images with values outside it are refused.
    """

    name = "ssim"

    def __init__(self, value_range: Sequence[float] = (-1.0, 1.0)) -> None:
        super().__init__(value_range)

    def _of_pairs(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        window = torch.full((len(x), 1), float(ssim_scales(x.shape[2:]).window), dtype=torch.float64, device=x.device)
        low = self.value_range[0]
        return torch.cat([ssim(x - low, y - low, self.data_range).unsqueeze(1), window], dim=1)

    def report(self) -> dict[str, Any]:
        """Range and window; several windows where images of several small sizes were seen."""
        windows = self.get_buffer()[:, 1].unique().int().tolist()
        return {"value_range": list(self.value_range), "window": windows[0] if len(windows) == 1 else windows}
