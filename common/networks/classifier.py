"""A VGG11 for grey images, which says what a restored image is still good for."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from .state_dict import load_weights, save_weights
from .torchvision import import_torchvision

HEADS = ("pooled", "vgg")


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


def write_classifier(network: nn.Module, path: str | os.PathLike[str]) -> Path:
    """
    Write the weights whole: matrices in half precision, normalisation and biases as they are.

    Args:
        network: the trained classifier.
        path: the file.

    Returns:
        The path written.
    """
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    return save_weights({name: v.half() if v.ndim > 1 else v for name, v in state.items()}, path)


def load_classifier(network: nn.Module, path: str | os.PathLike[str], device: str | torch.device = "cpu") -> nn.Module:
    """
    The network with the weights of ``path``, in eval mode on ``device``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it belongs to another network.
    """
    return load_weights(network, path).to(device).eval()
