"""Feature networks by name: builder, weights, checksum, licence, preprocessing; all of it stands in the results."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from .backbones import (
    INCEPTION_FID_AT,
    INCEPTION_TV_AT,
    MEDICALNET_AT,
    PREPROCESSING,
    RADIMAGENET_FILE,
    RADIMAGENET_REPO,
    huggingface_file,
    inception_encoding,
    inception_fid,
    inception_maps,
    inception_tv,
    med3d_hub,
    med3d_resnet,
    radimagenet_resnet50,
    resnet_encoding,
    torch_hub_file,
    unet_encoding,
    unet_maps,
)
from .encoders import ENCODERS, resnet_maps
from .segmenter import build_segmenter

SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class NetworkSpec:
    """
    One entry of the registry.

    Attributes:
        build: returns the network without weights; called with images it gives (N, d), or is wrapped by ``encode``.
        source: where the weights come from; shown when the file is missing.
        licence: of the weights.
        encode: (network, images) -> (N, d); None calls the network.
        maps: (network, images) -> feature maps by level, finest first; None where there are none.
        preprocessing: of the images before the network, a name of ``PREPROCESSING``.
        divisor: sides that the network sees are multiples of it.
        sha256: of the weights that the name stands for, or its start; None where it is not published.
        spatial_dims: 2 or 3; None for any.
        channels: that the network reads; one channel is repeated for a network of three.
        file: of the weights beside this module, where they are shipped.
        hub: fetches the file of the weights, or finds it in a cache; None where there is no such place.
    """

    build: Callable[[], nn.Module]
    source: str
    licence: str
    encode: Callable[[nn.Module, Tensor], Tensor] | None = None
    maps: Callable[[nn.Module, Tensor], list[Tensor]] | None = None
    preprocessing: str = "as_given"
    divisor: int = 1
    sha256: str | None = None
    spatial_dims: int | None = 3
    channels: int = 1
    file: str | None = None
    hub: Callable[[], Path] | None = None

    def __post_init__(self) -> None:
        if self.preprocessing not in PREPROCESSING:
            raise ValueError(f"preprocessing must be one of {list(PREPROCESSING)}, got {self.preprocessing!r}.")


def encoder_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Feature maps of a network that has a method ``maps``."""
    return network.maps(images)  # type: ignore[operator]


def _med3d(depth: int) -> NetworkSpec:
    files = f"resnet_{depth}_23dataset.pth or resnet_{depth}.pth"
    return NetworkSpec(
        build=partial(med3d_resnet, depth),
        maps=resnet_maps,
        source=f"{MEDICALNET_AT.format(depth=depth)} (file {files})",
        licence="MIT (Tencent MedicalNet)",
        preprocessing="zscore",
        hub=partial(med3d_hub, depth),
    )


def _encoder(name: str, sha256: str) -> NetworkSpec:
    plan = ENCODERS[name]
    return NetworkSpec(
        build=plan.build,
        maps=encoder_maps,
        source=f"common/features/weights/{name}.pt, trained by python -m common.features.train_encoder --name {name}",
        licence=plan.licence,
        sha256=sha256,
        spatial_dims=plan.spatial_dims,
        file=f"{name}.pt",
    )


REGISTRY: dict[str, NetworkSpec] = {
    **{f"med3d_resnet{depth}": _med3d(depth) for depth in (10, 18, 34, 50)},
    "hippocampus_segmenter": NetworkSpec(
        build=build_segmenter,
        encode=unet_encoding,
        maps=unet_maps,
        divisor=8,
        source="models/segmenter.pt of the bundle med_ddpm_3d, trained by its configs/train_segmenter.json",
        sha256="f102b9d18192cce13a221a1cb887d9d6e582d0fdf1058a7a3c56669f4efcb654",
        licence="CC BY-SA 4.0",
    ),
    "hippocampus_v1": _encoder("hippocampus_v1", "93eb3ac993cb8b24848298379787d346c9da20e5d7273ffbdc1049f619763ac3"),
    "cxr_v1": _encoder("cxr_v1", "32073c198f7b614f407fd3f0c9d7d3aeb068a9a2a090e0179fbf9a08981057b9"),
    "brain_v1": _encoder("brain_v1", "8f3630abfe903ef5ee05cdfb72a282f1ed35d06a98dae7d1aabbdf9e7ce4c944"),
    "inception_fid": NetworkSpec(
        build=inception_fid,
        encode=inception_encoding,
        maps=inception_maps,
        source=INCEPTION_FID_AT,
        licence="Apache-2.0 (TensorFlow's inception-2015-12-05, converted by pytorch-fid)",
        preprocessing="inception",
        sha256="6726825d",
        spatial_dims=2,
        channels=3,
        hub=partial(torch_hub_file, INCEPTION_FID_AT),
    ),
    "inception_tv": NetworkSpec(
        build=inception_tv,
        encode=inception_encoding,
        maps=inception_maps,
        source=INCEPTION_TV_AT,
        licence="BSD-3-Clause (torchvision); trained on ImageNet, whose images have terms of their own",
        preprocessing="inception",
        sha256="0cc3c7bd",
        spatial_dims=2,
        channels=3,
        hub=partial(torch_hub_file, INCEPTION_TV_AT),
    ),
    "radimagenet_resnet50": NetworkSpec(
        build=radimagenet_resnet50,
        encode=resnet_encoding,
        maps=resnet_maps,
        source=f"https://huggingface.co/{RADIMAGENET_REPO} (file {RADIMAGENET_FILE})",
        licence="not stated with the file; RadImageNet (Mei et al. 2022) has terms of its own",
        preprocessing="radimagenet",
        spatial_dims=2,
        channels=3,
        hub=partial(huggingface_file, RADIMAGENET_REPO, RADIMAGENET_FILE),
    ),
}


def names(spatial_dims: int | None = None) -> list[str]:
    """Names of the registry, sorted; only those for images of ``spatial_dims``, where it is given."""
    return sorted(n for n, spec in REGISTRY.items() if spatial_dims in (None, spec.spatial_dims))


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
        maps=encoder_maps if hasattr(made, "maps") else None,
        source=f"the factory {name}",
        licence="of the user's own network",
        spatial_dims=getattr(made, "spatial_dims", None),
        channels=getattr(made, "channels", 1),
    )
