"""Convolutions of small volumes on CPUs, which PyTorch computes by its slowest way, or wrongly."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class SmallVolumeConv3d(nn.Conv3d):
    """
    ``nn.Conv3d`` that asks oneDNN for a single float32 volume on the CPU, and trains thin volumes in float32.

    PyTorch leaves oneDNN aside when a batch of one has at most 20,480 numbers in channels × depth × height (it forgets
    the width), and unfolds the volume in memory instead, which takes several times as long
    (docs/reference/memory-and-speed.md). Weights and names are those of ``nn.Conv3d``; results differ by rounding.

    In bf16, the gradients of the weights are wrong on CPUs with AVX512-BF16 and without AMX where the volume is thinner
    than the kernel (oneDNN reads memory that nothing has written): at a depth of 2 for a kernel of 3.

    Example:
        >>> volume = torch.rand(1, 2, 8, 8, 8)
        >>> convolution = SmallVolumeConv3d(2, 4, 3, padding=1)
        >>> with torch.no_grad():
        ...     torch.allclose(convolution(volume), convolution(volume.expand(2, -1, -1, -1, -1))[:1], atol=1e-5)
        True
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self._is_thin(input):
            with torch.autocast("cpu", enabled=False):
                plain = super()._conv_forward(input.float(), weight.float(), None if bias is None else bias.float())
            return plain.to(torch.get_autocast_dtype("cpu"))
        if isinstance(padding, str) or not self._is_left_aside(input, weight):
            return super()._conv_forward(input, weight, bias)
        return torch.mkldnn_convolution(input, weight, bias, padding, self.stride, self.dilation, self.groups)

    def _is_thin(self, volume: Tensor) -> bool:
        trained = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu") and volume.device.type == "cpu"
        return trained and any(side < size for side, size in zip(volume.shape[-3:], self.kernel_size))

    def _is_left_aside(self, volume: Tensor, weight: Tensor) -> bool:
        watched = torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling()
        if watched or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
            return False
        plain = type(volume) is Tensor and volume.dtype is weight.dtype is torch.float32  # no FakeTensor
        single = plain and len(volume) == 1 and volume.device.type == "cpu"
        return single and max(self.kernel_size) > 1 and self.padding_mode == "zeros"


def with_small_volumes(network: Network) -> Network:
    """The network, whose 3D convolutions are those above from now on; its weights and their names stay."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = SmallVolumeConv3d
    return network
