"""Images to feature vectors and feature maps by a named, trained network of the registry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import exposure
from torch import Tensor, nn

from ..networks.weights import load_strictly, read_checkpoint, state_dict_of
from ..transforms.modalities import only_channel
from ..utils.files import sha256_of
from ..utils.images import pad_to_multiple, plain_images
from .backbones import PREPROCESSING
from .registry import SHIPPED, NetworkSpec, spec_of


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
        name: an entry of ``REGISTRY`` or of ``registry``, or "module:factory" (see ``registry.spec_of``).
        weights: file of the weights, a plain state dict or a dict with an entry "state_dict" (MedicalNet's). None for
            the shipped file, else what the entry's hub fetches or finds in its cache, else the factory's own.
        equalise: equalise the histogram of every volume first.
        device: to compute on.
        registry: name -> entry, for networks of one's own.
        channel_names: of images with several channels, such as modalities.
        only: one of them, which alone is looked at; the network must have been trained to read it with the others
            black.

    Attributes:
        label: name as it stands in results; weights other than the registered ones add the start of their sha256.
        spec: the entry; ``spec.spatial_dims`` and ``spec.channels`` say which images it reads.

    Raises:
        KeyError: for an unknown name, or ``only`` that is no channel's.
        FileNotFoundError: when there are no weights; says which file to get from where.
        ValueError: when their file is damaged or belongs to another network; names file and first keys that differ.

    >>> FeatureNetwork("torch.nn:Flatten")(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        equalise: bool = False,
        device: str | torch.device = "cpu",
        registry: Mapping[str, NetworkSpec] | None = None,
        channel_names: Sequence[str] = (),
        only: str | None = None,
    ) -> None:
        if only is not None and only not in channel_names:
            raise KeyError(f"No channel {only!r} among {list(channel_names)}.")
        self.only, self._channel = only, None if only is None else list(channel_names).index(only)
        self.name, self.spec, self.equalise = name, spec_of(name, registry), equalise
        self.device = torch.device(device)
        self.weights = _find_weights(name, self.spec, weights)
        network = self.spec.build()
        if self.weights is None:
            self.sha256 = _state_sha256(network)
        else:
            self.sha256 = sha256_of(self.weights)
            _load(network, self.weights, self.spec, name)
        self.network = network.to(self.device).eval().requires_grad_(False)

    @property
    def label(self) -> str:
        """Such as ``med3d_resnet50, equalised``."""
        known = self.spec.sha256 is None or self.sha256.startswith(self.spec.sha256)
        name = self.name if known else f"{self.name}-{self.sha256[:8]}"
        return ", ".join([name, *(["equalised"] if self.equalise else []), *([self.only] if self.only else [])])

    def describe(self) -> dict[str, Any]:
        """What a reader needs to compute the same features."""
        return {
            "name": self.name,
            "weights": self.weights.name if self.weights else self.spec.source,
            "sha256": self.sha256,
            "licence": self.spec.licence,
            "preprocessing": PREPROCESSING[self.spec.preprocessing][1],
            "histogram_equalised": self.equalise,
            **({"only": self.only} if self.only else {}),
            "spatial_dims": self.spec.spatial_dims,
            "channels": self.spec.channels,
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """
        Args:
            images: (N, C, *spatial), in [-1, 1]; one channel, or as many as the network reads.

        Returns:
            (N, d), float32, on the network's device.

        Raises:
            ValueError: for other channels or spatial dimensions, NaN or infinity, or features that are not (N, d).
        """
        x = self._prepared(images)
        features = self.network(x) if self.spec.levels is None else self._averages(x)
        if features.ndim != 2 or len(features) != len(x):
            raise ValueError(f"{self.name} must give features (N, d), got {tuple(features.shape)} of {len(x)} images.")
        return features.float()

    @torch.no_grad()
    def maps(self, images: Tensor) -> list[Tensor]:
        """
        Feature maps by level, finest first, for a perceptual distance.

        Args:
            images: as for a call.

        Returns:
            One tensor (N, C_l, *spatial_l) a level; sides are rounded up where the network needs multiples.

        Raises:
            ValueError: for a network without maps, and for images as in a call.
        """
        if self.spec.maps is None:
            raise ValueError(f"{self.name} has no feature maps; give its entry `maps`.")
        return self.spec.maps(self.network, self._prepared(images))

    def _averages(self, x: Tensor) -> Tensor:
        levels = self.spec.maps(self.network, x)[self.spec.levels]  # type: ignore[misc,index]
        return torch.cat([level.flatten(2).mean(2) for level in levels], dim=1)

    def _prepared(self, images: Tensor) -> Tensor:
        x = plain_images(images).float()
        dims, channels = self.spec.spatial_dims, self.spec.channels
        if dims not in (None, x.ndim - 2):
            raise ValueError(f"{self.name} reads {dims}D images, got {x.ndim - 2}D ones of {tuple(x.shape)}.")
        if x.shape[1] not in (1, channels):
            raise ValueError(f"{self.name} reads {_counted(channels)}, got {x.shape[1]}.")
        x = equalise(x) if self.equalise else x
        x = x if self._channel is None else only_channel(x, self._channel)
        x = x.expand(-1, channels, *x.shape[2:]).to(self.device)
        return pad_to_multiple(PREPROCESSING[self.spec.preprocessing][0](x), self.spec.divisor, None)[0]


def _find_weights(name: str, spec: NetworkSpec, weights: str | Path | None = None) -> Path | None:
    """File of the weights: the given, the shipped, or what the hub fetches; None for a user's own factory."""
    advice = f"Get them from {spec.source} and give that file as weights."
    if weights is not None:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"No weights of {name} at {weights}. {advice}")
        return Path(weights)
    if spec.file is not None and (SHIPPED / spec.file).is_file():
        return SHIPPED / spec.file
    if spec.hub is not None:
        try:
            return spec.hub()
        except Exception as error:  # no network, no package for the hub, no such file: each its own class
            reason = " ".join(str(error).split())[:200]
            message = f"The weights of {name} could not be fetched ({type(error).__name__}: {reason}). {advice}"
            raise FileNotFoundError(message) from error
    if ":" in name and spec.file is None:
        return None
    raise FileNotFoundError(f"No weights of {name} are at hand. {advice}")


def _load(network: nn.Module, path: Path, spec: NetworkSpec, name: str) -> None:
    """Fill ``network`` from a state dict or a dict with one, as MedicalNet's; half precision becomes single."""
    content = read_checkpoint(path) if spec.read is None else spec.read(path)
    key = "state_dict" if isinstance(content, Mapping) and "state_dict" in content else None
    state = {k.removeprefix("module."): value for k, value in state_dict_of(content, path, key).items()}
    load_strictly(network, state, f"{path} as weights of {name}")


def _state_sha256(network: nn.Module) -> str:
    """Sha256 over the names and values of a network that came with its weights."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _counted(channels: int) -> str:
    return "one channel" if channels == 1 else f"one or {channels} channels"
