"""Small encoders, so that images can be compared without a download, and the degradations that they learn to see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from .backbones import resnet_maps

# Strongest degradation; blur in voxels, noise in units of the range [-1, 1], gamma and contrast as a logarithm.
STRONGEST = {
    "blur": 3.0,
    "resampling": 8.0,
    "gamma": 0.7,
    "contrast": 0.7,
    "noise": 0.5,
    "salt_and_pepper": 0.2,
    "smooth_patch": 0.25,
}
DEGRADATIONS = tuple(STRONGEST)
_SIGNED = ("gamma", "contrast")


class Encoder(nn.Module):
    """
    MONAI's ``ResNet`` of one block a stage, with two linear heads: what the image shows, and how it was degraded.

    The features are the global averages of the last stage. Both heads are linear in them, so a degradation moves their
    mean; that is what makes a Fréchet distance of them grow with blur, noise and the rest.

    Args:
        spatial_dims: 2 or 3; one channel, any size from 16 a side.
        widths: channels of the four stages; the first is also that of the first convolution.
        content: outputs of the head for the content.

    >>> Encoder(spatial_dims=2, widths=(4, 4, 8, 16), content=3)(torch.zeros(1, 1, 20, 16)).shape
    torch.Size([1, 16])
    """

    def __init__(self, spatial_dims: int, widths: tuple[int, int, int, int], content: int) -> None:
        super().__init__()
        self.trunk = ResNet(
            "basic",
            [1, 1, 1, 1],
            list(widths),
            spatial_dims=spatial_dims,
            n_input_channels=1,
            conv1_t_size=3,
            conv1_t_stride=1,
            feed_forward=False,
            bias_downsample=False,
        )
        self.content = nn.Linear(widths[-1], content)
        self.quality = nn.Linear(widths[-1], len(DEGRADATIONS))

    def forward(self, images: Tensor) -> Tensor:
        """
        Args:
            images: (N, 1, *spatial), in [-1, 1].

        Returns:
            (N, widths[-1]).
        """
        return self.trunk(images)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Activations of five levels, finest first, for a perceptual distance."""
        return resnet_maps(self.trunk, images)


@dataclass(frozen=True)
class EncoderPlan:
    """
    What one encoder is and what it learns.

    Attributes:
        spatial_dims: 2 or 3.
        widths: channels of the four stages.
        content: names of the classes, or of the numbers that describe the mask.
        classes: whether ``content`` are classes.
        group: column of the data set's manifest.csv whose rows must stay on one side of the split.
        licence: of the weights.

    >>> EncoderPlan(2, (4, 4, 8, 16), ("ill", "well"), True, "patient_id", "CC BY 4.0").build().content.out_features
    2
    """

    spatial_dims: int
    widths: tuple[int, int, int, int]
    content: tuple[str, ...]
    classes: bool
    group: str
    licence: str

    @property
    def build(self) -> Callable[[], Encoder]:
        """The network, without weights."""
        return partial(Encoder, self.spatial_dims, self.widths, len(self.content))


_MASK = tuple(f"{part}_{what}" for part in ("anterior", "posterior") for what in ("share", "x", "y", "z"))

ENCODERS = {
    "cxr_v1": EncoderPlan(
        2, (16, 48, 96, 128), ("bacteria", "normal", "virus"), True, "patient_id", "CC BY 4.0 (Kermany et al. 2018)"
    ),
    "brain_v1": EncoderPlan(
        2,
        (16, 48, 96, 128),
        ("glioma", "meningioma", "notumor", "pituitary"),
        True,
        "group",
        "unsettled: data given as CC0, not verified; parts of them have their own terms (Nickparvar 2021)",
    ),
    "hippocampus_v1": EncoderPlan(
        3, (16, 32, 64, 96), _MASK, False, "patient_id", "CC BY-SA 4.0 (Medical Segmentation Decathlon)"
    ),
}


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """
    Gaussian blur with its own width for each image; edges repeated.

    MONAI's ``GaussianFilter`` has one width a batch, and ``RandGaussianSmooth`` works image by image.

    Args:
        images: (N, 1, *spatial).
        sigma: (N,), in voxels, not negative.
    """
    radius = max(1, min(math.ceil(3 * float(sigma.max())), *(side - 1 for side in images.shape[2:])))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    n, dims = len(images), images.ndim - 2
    x = images.transpose(0, 1)
    convolve: Callable[..., Tensor] = F.conv2d if dims == 2 else F.conv3d
    for axis in range(dims):
        shape, padding = [n, 1] + [1] * dims, [0] * (2 * dims)
        shape[2 + axis] = 2 * radius + 1
        padding[2 * (dims - 1 - axis)] = padding[2 * (dims - 1 - axis) + 1] = radius
        x = convolve(F.pad(x, padding, mode="replicate"), kernel.reshape(shape), groups=n)
    return x.transpose(0, 1)


def resample(images: Tensor, factor: float) -> Tensor:
    """Down by ``factor`` an axis (area average) and back up (linear), (N, 1, *spatial)."""
    linear = "bilinear" if images.ndim == 4 else "trilinear"
    small = [max(2, round(side / factor)) for side in images.shape[2:]]
    down = F.interpolate(images, small, mode="area")
    return F.interpolate(down, images.shape[2:], mode=linear, align_corners=False)


def smooth_patch(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A random box of ``share`` of the (1, *spatial) image replaced by its coarse interpolation, as a poor filling."""
    sides = [max(1, round(side * share ** (1 / (image.ndim - 1)))) for side in image.shape[1:]]
    starts = [
        int(torch.randint(0, whole - side + 1, (), generator=generator)) for whole, side in zip(image.shape[1:], sides)
    ]
    box = (slice(None), *(slice(start, start + side) for start, side in zip(starts, sides)))
    result = image.clone()
    result[box] = resample(image[None], 16)[0][box]
    return result


def degrade(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """
    Random degradations of each image and their strengths: none for 0.3 of the images, each with 0.4 for the others.

    Args:
        images: (N, 1, *spatial), in [-1, 1].
        generator: of all draws.

    Returns:
        images: same shape, in [-1, 1].
        strengths: (N, number of ``DEGRADATIONS``), in [-1, 1], 0 for none; square root of the share of the strongest,
            so that weak ones count, and linear where the sign matters.
    """
    n = len(images)
    drawn = torch.rand(n, len(DEGRADATIONS), generator=generator)
    present = torch.rand(n, len(DEGRADATIONS), generator=generator) < 0.4
    present &= torch.rand(n, 1, generator=generator) >= 0.3
    signs = torch.rand(n, len(DEGRADATIONS), generator=generator).sub(0.5).sign()
    strengths = drawn * present
    for name in _SIGNED:
        strengths[:, DEGRADATIONS.index(name)] *= signs[:, DEGRADATIONS.index(name)]
    amount = {
        name: (column if name in _SIGNED else column**2) * STRONGEST[name]
        for name, column in zip(DEGRADATIONS, strengths.unbind(1))
    }
    return _applied(images, amount, generator).clamp(-1, 1), strengths


def _applied(images: Tensor, amount: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    column = (-1,) + (1,) * (images.ndim - 1)
    x = images.clone()
    for i in amount["smooth_patch"].nonzero().flatten().tolist():
        x[i] = smooth_patch(x[i], max(0.002, float(amount["smooth_patch"][i])), generator)
    blurred = amount["blur"] > 0.05
    if blurred.any():
        x[blurred] = blur(x[blurred], amount["blur"][blurred])
    for i in amount["resampling"].nonzero().flatten().tolist():
        x[i] = resample(x[i : i + 1], 1 + float(amount["resampling"][i]) * (1 - 1 / STRONGEST["resampling"]))[0]
    x = 2 * ((x + 1) / 2).clamp(0, 1) ** amount["gamma"].exp().reshape(column) - 1
    mean = x.mean(tuple(range(1, x.ndim)), keepdim=True)
    x = mean + (x - mean) * amount["contrast"].exp().reshape(column)
    x = x + amount["noise"].reshape(column) * torch.randn(x.shape, generator=generator)
    spots = torch.rand(x.shape, generator=generator)
    half = amount["salt_and_pepper"].reshape(column) / 2
    return torch.where(spots < half, -1.0, torch.where(spots > 1 - half, 1.0, x))
