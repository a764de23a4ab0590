"""
Inference of the U-Net in fp32 on CPUs without native bf16: fewer multiplications, and activations in slabs.

A 3x3x3 convolution is Winograd's F(4x4, 3x3) in the last two axes and direct in the first: a quarter of the products at
fp32 accuracy. Normalisation, SiLU and the transforms happen on slabs that stay in the cache, concatenated inputs are
read where they lie, and skip connections are freed as soon as they are used. Weights and state-dict keys stay.

Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", section 4.1.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

# Smaller volumes and narrower networks gain nothing: there, the transforms cost more than the products they save.
_SMALLEST_SIDE = 32
_FEWEST_CHANNELS = 32
# Slabs of this size stay in the cache with everything that is made of them, and hold enough tiles for a fast product.
_PLANES = 4
_WIDE, _ROWS_OF_WIDE, _ROWS = 64, 8, 32
_CHUNKS = 16
# Up to so many output channels, 27 products a voxel and their sum cost less than Winograd's transforms.
_FEW_CHANNELS = 4

_INPUT = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
_INPUT += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
_KERNEL = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]]
_KERNEL += [[1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def can_run_lean(network: Any, x: torch.Tensor) -> bool:
    """Whether ``lean_denoise`` covers this network and input, and gains something."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and _worthwhile(x)
        and min(network.block_out_channels) >= _FEWEST_CHANNELS
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not network.with_conditioning
        and not any(getattr(block, "resblock_updown", False) for block in [*network.down_blocks, *network.up_blocks])
    )


def lean_denoise(network: Any, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
    """
    What the network's plain forward pass gives for ``x``, to fp32 rounding.

    Args:
        network: a ``ConditionalDiffusionUNet`` for which ``can_run_lean`` holds.
        x: (N, C, D, H, W) float32.
        temb: (N, E) time embedding.

    Returns:
        (N, out_channels, D, H, W) float32.
    """
    h = network.conv_in(_laid_out(x))
    skips = [h]
    for block in network.down_blocks:
        for index, resnet in enumerate(block.resnets):
            h = _attend(block, index, _residual(resnet, [h], temb))
            skips.append(h)
        if block.downsampler is not None:
            h = block.downsampler(h)
            skips.append(h)
    h = network.middle_block(h.contiguous(), temb, None)
    for block in network.up_blocks:
        for index, resnet in enumerate(block.resnets):
            pair = [h, skips.pop()]
            del h
            h = _attend(block, index, _residual(resnet, pair, temb))
        if block.upsampler is not None:
            h = _upsample(block.upsampler, h)
    return convolve([h], network.out[0], network.out[2].conv)


def _worthwhile(x: torch.Tensor) -> bool:
    return x.ndim == 5 and min(x.shape[2:]) >= _SMALLEST_SIDE and x.shape[3] % 4 == 0 and x.shape[4] % 4 == 0


def _laid_out(x: torch.Tensor) -> torch.Tensor:
    """Channels last where slabs are used; contiguous elsewhere, since GroupNorm is more accurate there."""
    return x.contiguous(memory_format=torch.channels_last_3d if _worthwhile(x) else torch.contiguous_format)


def _attend(block: nn.Module, index: int, h: torch.Tensor) -> torch.Tensor:
    return block.attentions[index](h.contiguous()).contiguous() if hasattr(block, "attentions") else h  # type: ignore


def _upsample(upsampler: Any, h: torch.Tensor) -> torch.Tensor:
    h = _laid_out(upsampler.upsample_non_trainable(h))
    return convolve([h], None, upsampler.postconv.conv) if _worthwhile(h) else upsampler.postconv(h)


def _residual(block: Any, inputs: list[torch.Tensor], temb: torch.Tensor) -> torch.Tensor:
    """A residual block on the concatenation of ``inputs``, a list that is emptied once its tensors are used."""
    if not _worthwhile(inputs[0]):
        x = torch.cat([value.contiguous() for value in inputs], dim=1)
        inputs.clear()
        return block(x, temb)
    inputs[:] = [_laid_out(value) for value in inputs]
    h = convolve(inputs, block.norm1, block.conv1.conv, block.time_emb_proj(F.silu(temb)))
    shortcut = _shortcut(block.skip_connection, inputs)
    return convolve([h], block.norm2, block.conv2.conv).add_(shortcut)


def _shortcut(skip_connection: Any, inputs: list[torch.Tensor]) -> torch.Tensor:
    """The skip connection of ``inputs``, which are emptied; two inputs are overwritten where the result fits."""
    if isinstance(skip_connection, nn.Identity):
        return inputs[0]
    conv, first = skip_connection.conv, inputs[0].shape[1]
    weight, bias = conv.weight.flatten(1).t(), _bias(conv)
    # A single input may be a skip connection that is needed later; of two, the first is the decoder's own.
    fits = len(inputs) == 2 and first == conv.out_channels
    shape = (len(inputs[0]), conv.out_channels, *inputs[0].shape[2:])
    result = inputs[0] if fits else torch.empty(shape, memory_format=torch.channels_last_3d)
    parts = [_rows(x).chunk(_CHUNKS) for x in inputs]
    for rows, *values in zip(_rows(result).chunk(_CHUNKS), *parts):
        mapped = torch.addmm(bias, values[0], weight[:first])
        rows.copy_(mapped.addmm_(values[1], weight[first:]) if len(values) == 2 else mapped)
    inputs.clear()
    return result


def _rows(x: torch.Tensor) -> torch.Tensor:
    """(voxels, C), a view of a channels-last volume."""
    return x.permute(0, 2, 3, 4, 1).view(-1, x.shape[1])


def convolve(
    inputs: list[torch.Tensor], norm: nn.GroupNorm | None, conv: nn.Conv3d, added: torch.Tensor | None = None
) -> torch.Tensor:
    """
    ``conv(silu(norm(cat(inputs))))``, or ``conv(cat(inputs))`` without ``norm``, plus ``added``.

    Args:
        inputs: (N, C_i, D, H, W) each, float32, channels last; H and W multiples of 4.
        norm: over all channels together, or None.
        conv: 3x3x3, stride 1, padding 1.
        added: (N, C_out), the same for all voxels, or None.

    Returns:
        (N, C_out, D, H, W), channels last.
    """
    n, _, *sides = inputs[0].shape
    out = torch.empty((n, conv.out_channels, *sides), memory_format=torch.channels_last_3d)
    few = conv.out_channels <= _FEW_CHANNELS
    kernel, convolve_case = (_taps(conv.weight), _few_channels) if few else (_transformed(conv.weight), _convolve_case)
    for case in range(n):
        volumes = [x[case].permute(1, 2, 3, 0) for x in inputs]
        bias = _bias(conv) if added is None else _bias(conv) + added[case]
        affine = None if norm is None else _affine(volumes, norm)
        convolve_case(volumes, affine, kernel, bias, out[case].permute(1, 2, 3, 0))
    return out


def _bias(conv: nn.Conv3d) -> torch.Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias


def _transformed(weight: torch.Tensor) -> torch.Tensor:
    """(C_out, C, 3, 3, 3) to (36, 3 C, C_out); in float64, since the factors 1/6 and 1/24 round."""
    g = torch.tensor(_KERNEL, dtype=torch.float64)
    transformed = torch.einsum("ih,jw,oczhw->ijzco", g, g, weight.double())
    return transformed.reshape(36, 3 * weight.shape[1], weight.shape[0]).float()


def _taps(weight: torch.Tensor) -> torch.Tensor:
    """(C_out, C, 3, 3, 3) to (27 C_out, C), the taps in the order of depth, height, width."""
    return weight.permute(2, 3, 4, 0, 1).reshape(-1, weight.shape[1]).contiguous()


def _affine(volumes: list[torch.Tensor], norm: nn.GroupNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """GroupNorm as a scale and a shift a channel; sums plane by plane in fp32, then in float64."""
    sums, squares = [], []
    for x in volumes:
        planes = [x[index].reshape(-1, x.shape[3]) for index in _steps(range(len(x)), x)]
        sums.append(torch.stack([plane.sum(0).double() for plane in planes]).sum(0))
        squares.append(torch.stack([plane.square().sum(0).double() for plane in planes]).sum(0))
    count = volumes[0][..., 0].numel() * (norm.num_channels // norm.num_groups)
    mean = torch.cat(sums).view(norm.num_groups, -1).sum(1, keepdim=True) / count
    variance = torch.cat(squares).view(norm.num_groups, -1).sum(1, keepdim=True) / count - mean.square()
    scale = norm.weight.double().view(norm.num_groups, -1) * (variance.clamp(min=0) + norm.eps).rsqrt()
    shift = norm.bias.double().view(norm.num_groups, -1) - mean * scale
    return scale.flatten().float(), shift.flatten().float()


def _convolve_case(
    volumes: list[torch.Tensor],
    affine: tuple[torch.Tensor, torch.Tensor] | None,
    kernel: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """One case: strips of rows, and along each strip slabs of planes; two planes are carried from slab to slab."""
    depth, height, width, channels_out = out.shape
    channels = sum(x.shape[3] for x in volumes)
    into, back = (torch.kron(m, m) for m in (torch.tensor(_INPUT).float(), torch.tensor(_OUTPUT).float()))
    across, row = width // 4, channels * (_PLANES + 2)
    rows = _ROWS_OF_WIDE if width > _WIDE else _ROWS
    for top in _steps(range(0, height, rows), out):
        down = min(rows, height - top) // 4
        tiles = down * across
        slab = torch.empty(_PLANES, 4 * down + 2, width + 2, channels)
        values = torch.zeros(36, tiles, _PLANES + 2, channels)
        patches, product = torch.empty(36, tiles * _PLANES * channels), torch.empty(36, tiles, channels_out)
        transformed, result = torch.empty_like(patches), torch.empty(16, tiles * channels_out)
        a, b, c, _ = slab.stride()
        windows = slab.as_strided((6, 6, down, across, _PLANES, channels), (b, c, 4 * b, 4 * c, a, 1))
        # The first slab starts with one plane of zeros, the padding: it yields planes -1, which is skipped, and on.
        for first in _steps(range(-1, depth, _PLANES), out):
            values[:, :, :2] = values[:, :, _PLANES:]
            _fill(slab, volumes, affine, first + 1, top)
            patches.view(windows.shape).copy_(windows)
            torch.mm(into, patches, out=transformed)
            values[:, :, 2:] = transformed.view(36, tiles, _PLANES, channels)
            for plane in _steps(range(max(first, 0), min(first + _PLANES, depth)), out):
                three = values.as_strided((36, tiles, 3 * channels), (tiles * row, row, 1), (plane - first) * channels)
                torch.bmm(three, kernel, out=product)
                torch.mm(back, product.view(36, -1), out=result)
                block = result.view(4, 4, down, across, channels_out).permute(2, 0, 3, 1, 4)
                target = out[plane, top : top + 4 * down].view(down, 4, across, 4, channels_out)
                torch.add(block, bias, out=target)


def _few_channels(
    volumes: list[torch.Tensor],
    affine: tuple[torch.Tensor, torch.Tensor] | None,
    taps: torch.Tensor,
    bias: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """One case with few output channels: each input plane times all taps, added to the three planes that it touches."""
    depth, height, width, channels_out = out.shape
    out.copy_(bias)
    slab = torch.empty(1, height + 2, width + 2, taps.shape[1])
    products = torch.empty(len(taps), slab[..., 0].numel())
    shifted = products.view(3, 3, 3, channels_out, height + 2, width + 2)
    for plane in _steps(range(depth), out):
        _fill(slab, volumes, affine, plane, 0)
        torch.mm(taps, slab.view(-1, slab.shape[3]).t(), out=products)
        for tap in range(3):
            target = plane + 1 - tap
            if 0 <= target < depth:
                for row, column in itertools.product(range(3), range(3)):
                    part = shifted[tap, row, column, :, row : row + height, column : column + width]
                    out[target] += part.permute(1, 2, 0)


def _steps(steps: range, x: torch.Tensor) -> range:
    """All steps; of a tensor without data (a memory estimate) the first alone, since the others need no more."""
    return steps[:1] if isinstance(x, FakeTensor) else steps


def _fill(
    slab: torch.Tensor,
    volumes: list[torch.Tensor],
    affine: tuple[torch.Tensor, torch.Tensor] | None,
    first: int,
    top: int,
) -> None:
    """Planes from ``first`` on and rows from ``top - 1`` on, normalised; zero outside the volume, as padding is."""
    slab.zero_()
    depth, height = volumes[0].shape[:2]
    last = min(first + len(slab), depth)
    lower, upper = max(top - 1, 0), min(top - 1 + slab.shape[1], height)
    channel = 0
    for x in volumes if first < last else ():
        end = channel + x.shape[3]
        part = x[first:last, lower:upper]
        target = slab[: last - first, lower - top + 1 : upper - top + 1, 1:-1, channel:end]
        if affine is None:
            target.copy_(part)
        else:
            torch.addcmul(affine[1][channel:end], part, affine[0][channel:end], out=target)
        channel = end
    if affine is not None:
        F.silu(slab, inplace=True)  # zero stays zero
