"""Feature networks by name: architecture, weights, licence and preprocessing, all of which stand in the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import resnet10, resnet18, resnet34, resnet50
from skimage import exposure
from torch import Tensor, nn

from .segmenter import WholeVolumeInferer, build_segmenter, file_sha256
from .sets import plain_images

_MEDICALNET_AT = "https://huggingface.co/TencentMedicalNet (file resnet_{depth}_23dataset.pth or resnet_{depth}.pth)"


@dataclass(frozen=True)
class NetworkSpec:
    """
    One entry of the registry.

    Attributes:
        build: returns the network without weights; called with images it gives (N, d), or is wrapped by ``encode``.
        encode: (network, images) -> (N, d); None calls the network.
        scaling: of the images before the network: "as_given" (in [-1, 1]) or "zscore" (mean 0, std 1 a volume).
        divisor: sides that the network sees are multiples of it.
        source: where the weights come from; shown when the file is missing.
        licence: of the weights.
        sha256: of the weights that the name stands for; None where they are not published.
    """

    build: Callable[[], nn.Module]
    source: str
    licence: str
    encode: Callable[[nn.Module, Tensor], Tensor] | None = None
    scaling: str = "as_given"
    divisor: int = 1
    sha256: str | None = None


def unet_encoding(network: nn.Module, images: Tensor) -> Tensor:
    """Global averages of every level of a MONAI ``UNet``'s encoder, bottleneck last, (N, sum of channels)."""
    block: Any = network.model
    x, means = images, []
    while isinstance(block, nn.Sequential):
        x = block[0](x)
        means.append(x.flatten(2).mean(2))
        block = block[1].submodule
    means.append(block(x).flatten(2).mean(2))
    return torch.cat(means, dim=1)


def _med3d(depth: int) -> NetworkSpec:
    wide = depth in (18, 34)
    build = {10: resnet10, 18: resnet18, 34: resnet34, 50: resnet50}[depth]
    return NetworkSpec(
        build=partial(
            build,
            spatial_dims=3,
            n_input_channels=1,
            feed_forward=False,
            shortcut_type="A" if wide else "B",
            bias_downsample=wide,
        ),
        source=_MEDICALNET_AT.format(depth=depth),
        licence="MIT (Tencent MedicalNet)",
        scaling="zscore",
    )


REGISTRY: dict[str, NetworkSpec] = {
    **{f"med3d_resnet{depth}": _med3d(depth) for depth in (10, 18, 34, 50)},
    "hippocampus_segmenter": NetworkSpec(
        build=build_segmenter,
        encode=unet_encoding,
        divisor=8,
        source="models/segmenter.pt of the bundle med_ddpm_3d, trained by its configs/train_segmenter.json",
        sha256="f102b9d18192cce13a221a1cb887d9d6e582d0fdf1058a7a3c56669f4efcb654",
        licence="CC BY-SA 4.0",
    ),
}


def equalise(images: Tensor) -> Tensor:
    """
    Histogram equalisation of each channel of each volume, back to [-1, 1].

    Args:
        images: (N, C, *spatial), any range.

    Returns:
        Same shape, float32, in [-1, 1]. A constant channel has no histogram to equalise and becomes 0.

    Source: Med-DDPM, section III (3D-FID with histogram equalisation); scikit-image ``equalize_hist``, 256 bins.
    """
    result = torch.zeros(images.shape, dtype=torch.float32)
    for index in np.ndindex(*images.shape[:2]):
        channel = images[index].cpu().numpy().astype(np.float64)
        if channel.max() > channel.min():
            result[index] = torch.from_numpy(2 * exposure.equalize_hist(channel, nbins=256) - 1).float()
    return result.to(images.device)


class FeatureNetwork:
    """
    Images to feature vectors by a named, trained network; there are no random features.

    Args:
        name: an entry of ``REGISTRY``.
        weights: file of the weights, a plain state dict or a dict with an entry "state_dict" (MedicalNet's).
        equalise: equalise the histogram of every volume first.
        device: to compute on.
        registry: name -> entry, for networks of one's own.

    Attributes:
        label: name as it stands in results; weights other than the registered ones add the start of their sha256.

    Raises:
        KeyError: for an unknown name.
        FileNotFoundError: when there are no weights; says where to get them.
        ValueError: when the weights belong to another network.
    """

    def __init__(
        self,
        name: str,
        weights: str | Path,
        equalise: bool = False,
        device: str | torch.device = "cpu",
        registry: Mapping[str, NetworkSpec] | None = None,
    ) -> None:
        known = {**REGISTRY, **(registry or {})}
        if name not in known:
            raise KeyError(f"No feature network {name!r}; there are {sorted(known)}.")
        self.name, self.spec, self.equalise = name, known[name], equalise
        self.weights = Path(weights)
        if not self.weights.is_file():
            raise FileNotFoundError(f"No weights of {name} at {weights}. Get them from {self.spec.source}.")
        self.sha256 = file_sha256(self.weights)
        self.device = torch.device(device)
        self.network = _loaded(self.spec.build(), self.weights, name).to(self.device).eval()
        self._on_whole_volumes = WholeVolumeInferer(self.spec.divisor)

    @property
    def label(self) -> str:
        """Such as ``med3d_resnet50, equalised``."""
        known = self.spec.sha256 in (None, self.sha256)
        return (self.name if known else f"{self.name}-{self.sha256[:8]}") + (", equalised" if self.equalise else "")

    def describe(self) -> dict[str, Any]:
        """What a reader needs to compute the same features."""
        return {
            "name": self.name,
            "weights": self.weights.name,
            "sha256": self.sha256,
            "licence": self.spec.licence,
            "scaling": self.spec.scaling,
            "histogram_equalised": self.equalise,
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """
        Args:
            images: (N, 1, *spatial), in [-1, 1].

        Returns:
            (N, d), float32, on the network's device.

        Raises:
            ValueError: for several channels, NaN or infinity.
        """
        x = plain_images(images).float()
        if x.shape[1] != 1:
            raise ValueError(f"{self.name} reads one channel, got {x.shape[1]}.")
        x = equalise(x) if self.equalise else x
        if self.spec.scaling == "zscore":
            axes = tuple(range(1, x.ndim))
            x = (x - x.mean(axes, keepdim=True)) / x.std(axes, keepdim=True).clamp(min=1e-6)
        padded = self._on_whole_volumes.pad(x.to(self.device))
        return self.spec.encode(self.network, padded) if self.spec.encode else self.network(padded)


def _loaded(network: nn.Module, path: Path, name: str) -> nn.Module:
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).split("\n")[1:3])[:400]
        raise ValueError(f"{path} does not hold the weights of {name}: {reason}") from error
    return network
