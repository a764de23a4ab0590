"""Small encoders trained on this project's own image sets, so that images can be compared without a download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from monai.networks.nets import ResNet
from torch import Tensor, nn

DEGRADATIONS = ("blur", "resampling", "gamma", "contrast", "noise", "salt_and_pepper", "smooth_patch")


def resnet_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """
    Activations of a ResNet of MONAI or torchvision, finest first: after the first convolution and each of four stages.

    Args:
        network: has conv1, bn1, act or relu, maxpool, and layer1 to layer4.
        images: (N, C, *spatial).

    Returns:
        Five tensors (N, C_l, *spatial_l).
    """
    x = network.bn1(network.conv1(images))  # type: ignore[operator]
    x = network.act(x) if hasattr(network, "act") else network.relu(x)  # type: ignore[operator]
    maps = [x]
    if not getattr(network, "no_max_pool", False):
        x = network.maxpool(x)  # type: ignore[operator]
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)  # type: ignore[operator]
        maps.append(x)
    return maps


class Encoder(nn.Module):
    """
    MONAI's ``ResNet`` of one block a stage, with two linear heads: what the image shows, and how it was degraded.

    The features are the global averages of the last stage. Both heads are linear in them, so a degradation moves their
    mean; that is what makes a Fréchet distance of them grow with blur, noise and the rest.

    Args:
        spatial_dims: 2 or 3; one channel, any size from 16 a side.
        widths: channels of the four stages; the first is also that of the first convolution.
        content: outputs of the head for the content.
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
