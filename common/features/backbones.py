"""Published networks without their weights: builders, what they expect, feature maps, where the weights come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from monai.networks.nets import resnet as monai_resnet
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.classifiers import ImageNetInput, import_torchvision
from ..utils.packages import FOR_METRICS, import_optional


def zscored(images: Tensor) -> Tensor:
    """Each image less its mean, divided by its standard deviation; a constant image becomes zero."""
    axes = tuple(range(1, images.ndim))
    std = images.std(axes, keepdim=True)
    return torch.where(std > 1e-6, (images - images.mean(axes, keepdim=True)) / std.clamp(min=1e-6), 0.0)


def resized_299(images: Tensor) -> Tensor:
    """Images in [-1, 1] at 299 x 299, bilinear without an anti-aliasing filter, as pytorch-fid resizes."""
    return F.interpolate(images, size=(299, 299), mode="bilinear", align_corners=False)


def caffe_style(images: Tensor) -> Tensor:
    """Images to [0, 1], channels as blue, green, red, less ImageNet's mean colour (0.406, 0.456, 0.485)."""
    mean = torch.tensor([0.406, 0.456, 0.485], device=images.device, dtype=images.dtype).reshape(1, 3, 1, 1)
    return (images.flip(1) + 1) / 2 - mean


def imagenet_style(images: Tensor) -> Tensor:
    """Images to [0, 1], less ImageNet's mean colour, divided by its standard deviation, as torchvision's networks."""
    return ImageNetInput(3).to(images.device)(images)


PREPROCESSING: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "as_given": (lambda images: images, "in [-1, 1], at the image's own size"),
    "zscore": (zscored, "mean 0 and standard deviation 1 an image, at its own size"),
    "inception": (resized_299, "in [-1, 1], resized to 299 x 299 (bilinear, no anti-aliasing), not rounded to 8 bits"),
    "imagenet": (imagenet_style, "in [0, 1], ImageNet's mean and deviation of each colour, at the image's own size"),
    "radimagenet": (caffe_style, "in [0, 1], BGR, less the mean (0.406, 0.456, 0.485), at the image's own size"),
}


def unet_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Activations of every level of a MONAI ``UNet``'s encoder, finest first, bottleneck last."""
    block: Any = network.model
    x, maps = images, []
    while isinstance(block, nn.Sequential):
        x = block[0](x)
        maps.append(x)
        block = block[1].submodule
    return [*maps, block(x)]


def med3d_resnet(depth: int) -> nn.Module:
    """A ResNet of MedicalNet (Chen et al. 2019), one channel, 3D, features of its global average."""
    shortcut_bias, shortcut = monai_resnet.get_medicalnet_pretrained_resnet_args(depth)
    build = getattr(monai_resnet, f"resnet{depth}")
    return build(
        spatial_dims=3,
        n_input_channels=1,
        feed_forward=False,
        shortcut_type=shortcut,
        bias_downsample=shortcut_bias,
    )


def med3d_hub(depth: int) -> Path:
    """MedicalNet's file of 23 data sets, or its other one where a depth has none, as MONAI's loader chooses."""
    repo = f"{monai_resnet.MEDICALNET_HUGGINGFACE_REPO_BASENAME}{depth}"
    try:
        return huggingface_file(repo, f"resnet_{depth}_23dataset.pth")
    except Exception:  # which one depends on the version of huggingface_hub
        return huggingface_file(repo, f"resnet_{depth}.pth")


def torch_hub_file(url: str) -> Path:
    """A file of weights in torch.hub's cache, fetched where it is not there, its name's checksum compared."""
    torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def huggingface_file(repo: str, name: str) -> Path:
    """A file of a Hugging Face repository, fetched where it is not in the cache; needs the package huggingface_hub."""
    return Path(monai_resnet.hf_hub_download(repo_id=repo, filename=name))


def inception_fid() -> nn.Module:
    """
    The Inception v3 of the published FID, by pytorch-fid's builder without its download.

    It differs from torchvision's network in its poolings (padding does not count, and one is a maximum).

    Raises:
        ImportError: when torchvision or pytorch-fid is not installed.
    """
    import_torchvision()
    package = import_optional("pytorch_fid.inception", "inception_fid", FOR_METRICS)
    with patch.object(package, "load_state_dict_from_url"), patch.object(nn.Module, "load_state_dict"):
        return package.fid_inception_v3()


def inception_tv() -> nn.Module:
    """torchvision's Inception v3 for its ImageNet weights; expects [-1, 1], so its own change of scale stays off."""
    models = import_torchvision().models
    return models.inception_v3(weights=None, init_weights=False, transform_input=False)


def inception_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Activations of an Inception v3 after both maximum poolings, before the auxiliary head and at the end."""
    x, maps = images, []
    for name, module in network.named_children():
        if name == "avgpool":
            break
        if name == "AuxLogits" or module is None:
            continue
        x = module(x)
        if name in ("maxpool1", "maxpool2", "Mixed_6e", "Mixed_7c"):
            maps.append(x)
    return maps


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


def radimagenet_resnet50() -> nn.Module:
    """
    ResNet-50 as Keras has it, for RadImageNet's weights: convolutions with bias, stride in the first 1 x 1 of a block.

    MONAI's ``ResNet`` with those two things changed; its parameters have the names of the published file.

    Source: Mei et al. 2022; keras.applications.resnet (epsilon 1.001e-5).
    """
    network = monai_resnet.ResNet(
        "bottleneck",
        [3, 4, 6, 3],
        [64, 128, 256, 512],
        spatial_dims=2,
        n_input_channels=3,
        conv1_t_size=7,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=True,
    )
    for module in network.modules():
        if isinstance(module, monai_resnet.ResNetBottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
        if isinstance(module, nn.Conv2d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1.001e-5
    return network


def vgg16_convolutions() -> nn.Module:
    """torchvision's VGG16 without its dense layers."""
    vgg = import_torchvision().models.vgg
    return nn.ModuleDict({"features": vgg.make_layers(vgg.cfgs["D"])})


def vgg_maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Activations of a VGG before each of its five maximum poolings, finest first."""
    x, maps = images, []
    for layer in network.features:  # type: ignore[union-attr]
        if isinstance(layer, nn.MaxPool2d):
            maps.append(x)
        x = layer(x)
    return maps
