"""Feature networks by name: builder, weights, checksum, licence, preprocessing; all of it stands in the results."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from ..networks.imagenet import PUBLISHED
from . import backbones as nets
from .encoders import ENCODERS
from .segmenter import build_segmenter

SHIPPED = Path(__file__).parent / "weights"
ALL, LAST = slice(None), slice(-1, None)  # levels of feature maps


@dataclass(frozen=True)
class NetworkSpec:
    """
    One entry of the registry.

    Attributes:
        build: returns the network without weights; called with images it gives (N, d), unless ``levels`` are named.
        source: where the weights come from; shown when the file is missing.
        licence: of the weights.
        maps: (network, images) -> feature maps by level, finest first; None where there are none.
        levels: of the maps, whose global averages are the features; None calls the network.
        preprocessing: of the images before the network, a name of ``PREPROCESSING``.
        divisor: sides that the network sees are multiples of it.
        sha256: of the weights that the name stands for, or its start, or several; None where it is not published.
        spatial_dims: 2 or 3; None for any.
        channels: that the network reads; one channel is repeated for a network of three.
        file: of the weights beside this module, where they are shipped.
        hub: fetches the file of the weights, or finds it in a cache; None where there is no such place.
        read: a file of the weights -> state dict; None for what PyTorch wrote.

    >>> import torch
    >>> spec = NetworkSpec(nn.Flatten, source="nowhere: it has no weights", licence="BSD-3-Clause", spatial_dims=None)
    >>> spec.build()(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([2, 16])
    """

    build: Callable[[], nn.Module]
    source: str
    licence: str
    maps: Callable[[nn.Module, Tensor], list[Tensor]] | None = None
    levels: slice | None = None
    preprocessing: str = "as_given"
    divisor: int = 1
    sha256: str | tuple[str, ...] | None = None
    spatial_dims: int | None = 3
    channels: int = 1
    file: str | None = None
    hub: Callable[[], Path] | None = None
    read: Callable[[Path], Mapping[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        if self.preprocessing not in nets.PREPROCESSING:
            raise ValueError(f"preprocessing must be one of {list(nets.PREPROCESSING)}, got {self.preprocessing!r}.")


def _own_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Feature maps of a network that has a method ``maps``."""
    return network.maps(images)  # type: ignore[operator]


def _med3d(depth: int) -> NetworkSpec:
    return NetworkSpec(
        build=partial(nets.med3d_resnet, depth),
        maps=nets.resnet_maps,
        source=f"https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet{depth} "
        f"(file resnet_{depth}_23dataset.pth or resnet_{depth}.pth)",
        licence="MIT (Tencent MedicalNet)",
        preprocessing="zscore",
        hub=partial(nets.med3d_hub, depth),
    )


def _encoder(name: str, sha256: str) -> NetworkSpec:
    plan = ENCODERS[name]
    return NetworkSpec(
        build=plan.build,
        maps=_own_maps,
        source=f"common/features/weights/{name}.pt, trained by python -m common.features.train_encoder --name {name}",
        licence=plan.licence,
        sha256=sha256,
        spatial_dims=plan.spatial_dims,
        file=f"{name}.pt",
    )


def _inception(build: Callable[[], nn.Module], address: str, licence: str) -> NetworkSpec:
    return NetworkSpec(
        build=build,
        maps=nets.inception_maps,
        levels=LAST,
        source=address,
        licence=licence,
        preprocessing="inception",
        sha256=address.removesuffix(".pth").rsplit("-", 1)[1],  # torch.hub's convention for names of files
        spatial_dims=2,
        channels=3,
        hub=partial(nets.torch_hub_file, address),
    )


REGISTRY: dict[str, NetworkSpec] = {
    **{f"med3d_resnet{depth}": _med3d(depth) for depth in (10, 18, 34, 50)},
    "hippocampus_segmenter": NetworkSpec(
        build=build_segmenter,
        maps=nets.unet_maps,
        levels=ALL,
        divisor=8,
        source="models/segmenter.pt of the bundle med_ddpm_3d, trained by its configs/train_segmenter.json",
        sha256="f102b9d18192cce13a221a1cb887d9d6e582d0fdf1058a7a3c56669f4efcb654",
        licence="CC BY-SA 4.0",
    ),
    "brats_segmenter": NetworkSpec(
        build=partial(build_segmenter, num_labels=4, in_channels=4),
        maps=nets.unet_maps,
        levels=ALL,
        divisor=8,
        source="configs/train_segmenter.json of the bundle med_ddpm_brats, which trains it",
        licence="of the data that it was trained on",
        channels=4,
    ),
    "hippocampus_v1": _encoder("hippocampus_v1", "93eb3ac993cb8b24848298379787d346c9da20e5d7273ffbdc1049f619763ac3"),
    "cxr_v1": _encoder("cxr_v1", "32073c198f7b614f407fd3f0c9d7d3aeb068a9a2a090e0179fbf9a08981057b9"),
    "brain_v1": _encoder("brain_v1", "8f3630abfe903ef5ee05cdfb72a282f1ed35d06a98dae7d1aabbdf9e7ce4c944"),
    "inception_fid": _inception(
        nets.inception_fid,
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "Apache-2.0 (TensorFlow's inception-2015-12-05, converted by pytorch-fid)",
    ),
    "inception_tv": _inception(
        nets.inception_tv,
        "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
        "BSD-3-Clause (torchvision); trained on ImageNet, whose images have terms of their own",
    ),
    "vgg16": NetworkSpec(
        build=nets.vgg16_convolutions,
        maps=nets.vgg_maps,
        levels=LAST,
        source=PUBLISHED["vgg"].source,
        licence="BSD-3-Clause (torchvision); trained on ImageNet, whose images have terms of their own",
        preprocessing="imagenet",
        sha256=PUBLISHED["vgg"].sha256,
        spatial_dims=2,
        channels=3,
        hub=partial(nets.torch_hub_file, f"https://download.pytorch.org/models/{PUBLISHED['vgg'].file}"),
        read=PUBLISHED["vgg"].convolutions,
    ),
    "radimagenet_resnet50": NetworkSpec(
        build=nets.radimagenet_resnet50,
        maps=nets.resnet_maps,
        levels=LAST,
        source="https://huggingface.co/MONAI/checkpoints (file RadImageNet-ResNet50_notop.pth)",
        licence="not stated with the file; RadImageNet (Mei et al. 2022) has terms of its own",
        preprocessing="radimagenet",
        spatial_dims=2,
        channels=3,
        hub=partial(nets.huggingface_file, "MONAI/checkpoints", "RadImageNet-ResNet50_notop.pth"),
    ),
}


def spec_of(name: str, registry: Mapping[str, NetworkSpec] | None = None) -> NetworkSpec:
    """
    The entry of a name, in ``registry`` or ``REGISTRY``, or made of ``module:factory``.

    A factory takes no arguments. It returns a ``NetworkSpec``, or a torch module that turns images in [-1, 1] into
    (N, d); its attributes ``spatial_dims``, ``channels`` (1 without it) and ``maps`` are read where they exist.

    Raises:
        KeyError: for an unknown name.
        ValueError: when the module or its factory cannot be found, or returns something else.
    """
    known = {**REGISTRY, **(registry or {})}
    if name in known:
        return known[name]
    if ":" not in name:
        raise KeyError(f"No feature network {name!r}; there are {sorted(known)}, and module:factory for your own.")
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"No feature network at {name}: {error}.") from error
    if isinstance(made, NetworkSpec):
        return made
    if not isinstance(made, nn.Module):
        raise ValueError(f"{name} must return a torch module or a NetworkSpec, got {type(made).__name__}.")
    return NetworkSpec(
        build=lambda: made,
        maps=_own_maps if hasattr(made, "maps") else None,
        source=f"the factory {name}",
        licence="of the user's own network",
        spatial_dims=getattr(made, "spatial_dims", None),
        channels=getattr(made, "channels", 1),
    )
