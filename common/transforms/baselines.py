"""Restorations to compare a network with: interpolation, median, non-local means, biharmonic; by scikit-image."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import Transform
from monai.utils import convert_to_tensor
from scipy import ndimage
from skimage.restoration import denoise_nl_means, inpaint_biharmonic
from torch import Tensor, nn

from ..utils.images import on_cpu
from .degrade import downsampled

Case = Mapping[Hashable, Any]


def bicubic(case: Case, factor: float, key: str = "label") -> Tensor:
    """
    Bicubic interpolation from the coarse grid that ``RandDownsampled`` made.

    Args:
        case: with the clean image, (C, H, W), from which the same coarse grid is made again.
        factor: as of the degradation.
        key: of the clean image.

    Returns:
        The same shape; it may overshoot the range.
    """
    return downsampled(convert_to_tensor(case[key]).float(), factor, mode="bicubic")


def median(case: Case, size: int = 3, key: str = "degraded") -> Tensor:
    """
    Median of each pixel's square neighbourhood, borders mirrored.

    Args:
        case: with a (C, H, W) image.
        size: of the square, in pixels, odd.
        key: of the image.

    Returns:
        The same shape.

    Raises:
        ValueError: for a size that is not odd and positive.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size must be odd and positive, got {size}.")
    return _each_channel(case[key], lambda channel: ndimage.median_filter(channel, size=size, mode="reflect"))


def nonlocal_means(case: Case, median_size: int = 1, key: str = "degraded") -> Tensor:
    """
    Non-local means of scikit-image, fast mode, patches of 5 within 13 pixels, h = 0.8 sigma of ``noise_sigma``.

    The method is for Gaussian noise: where there is salt and pepper, a median first gives it a fair chance.

    Args:
        case: with a (C, H, W) image.
        median_size: of a median filter before it; 1 for none.
        key: of the image.

    Returns:
        The same shape.

    Source: Buades et al. 2005.
    """

    def denoised(channel: np.ndarray) -> np.ndarray:
        sigma = max(noise_sigma(channel), 1e-6)  # h divides
        return denoise_nl_means(channel, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True)

    return _each_channel(median(case, median_size, key), denoised)


def noise_sigma(image: np.ndarray) -> float:
    """
    Standard deviation of Gaussian noise, from the median size of the finest diagonal Haar details that are not 0.

    scikit-image's ``estimate_sigma`` is the same with Daubechies wavelets; it needs PyWavelets, which nothing else here
    does.

    Args:
        image: (H, W), float, sides of at least 2.

    Source: Donoho and Johnstone 1994.
    """
    h, w = (side // 2 * 2 for side in image.shape)
    detail = np.abs(image[:h:2, :w:2] - image[1:h:2, :w:2] - image[:h:2, 1:w:2] + image[1:h:2, 1:w:2]) / 2
    detail = detail[detail > 0]
    return float(np.median(detail)) / 0.6745 if detail.size else 0.0


def biharmonic(case: Case, key: str = "label", hole_key: str = "hole") -> Tensor:
    """
    Biharmonic inpainting of scikit-image; known pixels stay as they are.

    Args:
        case: with a (C, H, W) image and a hole, (1, H, W), not 0 inside.
        key: of the image; what it holds inside the hole does not matter.
        hole_key: of the hole.

    Returns:
        The shape of the image.

    Source: Damelin and Hoang 2018.
    """
    image, hole = convert_to_tensor(case[key]).float(), convert_to_tensor(case[hole_key])[0] > 0
    inside = hole.cpu().numpy()
    blank = image.masked_fill(hole, 0.0)
    filled = _each_channel(blank, lambda channel: inpaint_biharmonic(channel, inside))
    return torch.where(hole, filled, image)


class ByNetwork:
    """
    A restoration by another network that was trained on the same conditions, such as a GAN's generator.

    Args:
        network: called by ``inferer``; brought to eval mode.
        inferer: called as ``inferer(inputs, network)``; by default the network is called once.
        key: of its input, (C, *spatial), scaled as for the diffusion network.
        scale_key: of the numbers that ``MeasuredScaled`` left in the case; None where the scale is that of the clean
            image.

    Where the case has a "hole", (1, H, W), not 0 inside, the result outside of it is the clean image, "label".

    Example:
        >>> ByNetwork(nn.Identity())({"image": torch.ones(1, 1, 2), "measured_scale": torch.tensor([0.5, -0.25])})
        tensor([[[0.2500, 0.2500]]])
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer | None = None,
        key: str = "image",
        scale_key: str | None = "measured_scale",
    ) -> None:
        self.network = network.eval()
        self.inferer = inferer or SimpleInferer()
        self.key = key
        self.scale_key = scale_key

    @torch.no_grad()
    def __call__(self, case: Case) -> Tensor:
        """Returns (C', *spatial) in the scale of the clean image."""
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        restored = convert_to_tensor(
            self.inferer(convert_to_tensor(case[self.key])[None].to(device), self.network)[0].cpu()
        )
        if self.scale_key is not None:
            gain, offset = (float(number) for number in case[self.scale_key])
            restored = restored * gain + offset
        if "hole" not in case:
            return restored
        return torch.where(convert_to_tensor(case["hole"]) > 0, restored, convert_to_tensor(case["label"]))


class MethodImagesd(Transform):
    """
    Add what each method makes of a case, under the method's name.

    Args:
        methods: name -> called with the case, returns (C, *spatial) in the clean image's scale; clipped to [-1, 1].
        clean: key of the clean image, whose shape all must have.

    Attributes:
        seconds: name -> mean time a case so far, in seconds.

    Raises:
        ValueError: (when called) for a name that the case has already, another shape, NaN or infinity.

    Example:
        >>> MethodImagesd({"twice": lambda case: 2 * case["label"]})({"label": torch.full((1, 1, 1), 0.25)})["twice"]
        tensor([[[0.5000]]])
    """

    def __init__(self, methods: Mapping[str, Callable[[Case], Tensor]], clean: str = "label") -> None:
        self.methods = dict(methods)
        self.clean = clean
        self.seconds: dict[str, float] = dict.fromkeys(self.methods, 0.0)
        self._cases = 0

    def __call__(self, data: Case) -> dict[Hashable, Any]:
        """Returns the case, on the CPU, with an image a method, float32."""
        case = on_cpu(data)
        taken = sorted(set(self.methods) & {str(key) for key in case})
        if taken:
            raise ValueError(f"Methods cannot be named {taken}: the case has such items.")
        self._cases += 1
        return {**case, **{name: self._image(name, case) for name in self.methods}}

    def _image(self, name: str, case: Case) -> Tensor:
        started = time.perf_counter()
        image = self.methods[name](case)
        self.seconds[name] += (time.perf_counter() - started - self.seconds[name]) / self._cases
        image = convert_to_tensor(image).detach().cpu().float()
        found, wanted = tuple(image.shape), tuple(case[self.clean].shape)
        if found != wanted or not bool(torch.isfinite(image).all()):
            problem = found if found != wanted else "NaN or infinity"
            raise ValueError(f"Method {name}, case {case.get('case')}: {wanted}, finite, was expected, got {problem}.")
        return image.clamp(-1, 1)


def _each_channel(image: Any, function: Any) -> Tensor:
    array = convert_to_tensor(image).cpu().double().numpy()
    return torch.from_numpy(np.stack([function(channel) for channel in array])).float()
