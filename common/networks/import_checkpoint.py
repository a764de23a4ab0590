"""
Convert the weights that the Med-DDPM authors released into the plain state dict that the bundles load.

``python -m common.networks.import_checkpoint --checkpoint model.pt --out out.pt``
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor

from ..utils.commands import run_commands
from .unet import ConditionalDiffusionUNet
from .weights import difference, read_checkpoint, save_weights, state_dict_of

_PREFIX = "denoise_fn."
_ENDS = "input_blocks.0.0.weight", "out.2.weight"
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1.conv": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2.conv": "out_layers.3",
    "skip_connection.conv": "skip_connection",
}
_ATTENTION = {"norm": "norm", "attn.qkv": "qkv", "attn.out_proj": "proj_out"}


def import_checkpoint(
    checkpoint: str, out: str, swap_axes: bool = True, entry: str = "ema", overwrite: bool = False
) -> str:
    """
    Convert a checkpoint of the Med-DDPM authors to a plain state dict of our network.

    Args:
        checkpoint: their file, ``model_128.pt`` (for ``paper.json``), ``model_brats.pt`` (for that of
            ``med_ddpm_brats``), or one of a network of the same kind with other channels, levels and blocks.
        out: the file to write.
        swap_axes: turn their (z, y, x) convolutions for volumes in (x, y, z), as NIfTI files have them.
        entry: the entry of their file; "ema" holds the averaged weights that they sample with.
        overwrite: replace ``out`` if it is there.

    Returns:
        A sentence that says what was written, and the arguments of the network that it belongs to.

    Raises:
        FileNotFoundError: when ``checkpoint`` is no file.
        FileExistsError: when ``out`` is there and ``overwrite`` is off.
        ValueError: when ``checkpoint`` is unreadable or no complete checkpoint of such a network.
    """
    if Path(out).exists() and not overwrite:
        raise FileExistsError(f"{out} is already there; add --overwrite to replace it.")
    state = state_dict_of(read_checkpoint(checkpoint), checkpoint, entry)
    released = {name[len(_PREFIX) :]: value for name, value in state.items() if name.startswith(_PREFIX)}
    if not released:
        raise ValueError(f"{checkpoint} is no Med-DDPM checkpoint: no key of {entry!r} starts with {_PREFIX!r}.")
    arguments = network_arguments(released, checkpoint)
    with torch.device("meta"):  # the network gives names and shapes only
        network = ConditionalDiffusionUNet(**arguments)
    converted = convert_released(network, released, checkpoint, swap_axes)
    path = save_weights(converted, out)
    parameters = sum(value.numel() for value in converted.values())
    return f"Wrote {path}: {len(converted)} tensors, {parameters:,} parameters of a network with {arguments}."


def network_arguments(released: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """
    The arguments of ``ConditionalDiffusionUNet`` that a released network's keys and shapes stand for.

    Args:
        released: the authors' weights, keys without ``denoise_fn.``.
        source: where they come from, for the message.

    Returns:
        Channels, levels, blocks and attention as the weights have them; the rest as in the paper.

    Raises:
        ValueError: when the first or the last convolution or all blocks between are missing.
    """
    levels: list[list[int]] = [[]]  # the numbers of each level's residual blocks
    for k in itertools.count(1):
        if f"input_blocks.{k}.0.op.weight" in released:
            levels.append([])
        elif f"input_blocks.{k}.0.out_layers.3.weight" in released:
            levels[-1].append(k)
        else:
            break
    lacking = [name for name in _ENDS if name not in released]
    if lacking or not all(levels):
        raise ValueError(
            f"{source} is no complete Med-DDPM checkpoint: "
            f"{_PREFIX}{lacking[0] if lacking else f'input_blocks.{k}'} is missing."
        )
    channels = [len(released[f"input_blocks.{level[0]}.0.out_layers.3.weight"]) for level in levels]
    return {
        "spatial_dims": 3,
        "in_channels": released[_ENDS[0]].shape[1],
        "out_channels": released[_ENDS[1]].shape[0],
        "channels": channels,
        "num_res_blocks": [len(level) for level in levels],
        "attention_levels": [f"input_blocks.{level[0]}.1.qkv.weight" in released for level in levels],
        "num_head_channels": channels,  # one head a level
        "norm_num_groups": math.gcd(32, *channels),
        "norm_eps": 1e-5,
        "use_combined_linear": True,
        "max_period": 1000,
        "upsample_mode": "linear",
    }


def convert_released(
    network: DiffusionModelUNet, released: Mapping[str, Tensor], source: str, swap_axes: bool = True
) -> dict[str, Tensor]:
    """
    Rename, and where needed reshape, the released weights to those of ``network``.

    Args:
        network: a network of the same structure; only names and shapes are read.
        released: the authors' weights, keys without ``denoise_fn.``.
        source: where they come from, for messages.
        swap_axes: (z, y, x) to (x, y, z).

    Returns:
        A state dict that ``network`` loads strictly.

    Raises:
        ValueError: naming the first keys that are missing, unexpected or of another shape.
    """
    names = {ours: _released_name(network, ours) for ours in network.state_dict()}
    missing = [_PREFIX + name for name in names.values() if name not in released]
    unexpected = [_PREFIX + name for name in released if name not in set(names.values())]
    if missing or unexpected:
        parts = {"missing": missing, "unexpected": unexpected}
        words = "; ".join(f"{len(keys)} keys {what}, first {keys[0]}" for what, keys in parts.items() if keys)
        raise ValueError(f"{source} is no complete checkpoint of this network: {words}.")
    converted = {ours: _turned(theirs, released[theirs], swap_axes) for ours, theirs in names.items()}
    problem = difference(network, converted)
    if problem:
        raise ValueError(f"{source} belongs to another network: {problem}.")
    return converted


def _released_name(network: DiffusionModelUNet, ours: str) -> str:
    """The released key of our state-dict key ``ours``; blocks are numbered in the order in which they run."""
    module, _, kind = ours.rpartition(".")
    part, *rest = module.split(".")
    if part == "conv_in":
        return f"input_blocks.0.0.{kind}"
    if part in ("time_embed", "out"):
        return f"{part}.{rest[0]}.{kind}"
    if part == "middle_block":
        index = ("resnet_1", "attention", "resnet_2").index(rest[0])
        return f"middle_block.{index}.{_inside(rest[1:], attention=index == 1)}.{kind}"
    level, piece = int(rest[0]), rest[1]
    blocks = network.num_res_blocks[level]
    down = part == "down_blocks"
    if piece == "downsampler":
        return f"input_blocks.{_first(network, level, down) + blocks}.0.op.{kind}"
    if piece == "upsampler":
        attends = network.attention_levels[::-1][level]
        return f"output_blocks.{_first(network, level, down) + blocks}.{2 if attends else 1}.conv.{kind}"
    position = _first(network, level, down) + int(rest[2])
    attention = piece == "attentions"
    side = "input_blocks" if down else "output_blocks"
    return f"{side}.{position}.{int(attention)}.{_inside(rest[3:], attention)}.{kind}"


def _first(network: DiffusionModelUNet, level: int, down: bool) -> int:
    """The released position of a level's first block; ``level`` counts in the order in which levels run."""
    if down:  # after the first convolution, every level has its blocks and one down-sampling
        return 1 + sum(blocks + 1 for blocks in network.num_res_blocks[:level])
    return sum(blocks + 1 for blocks in network.num_res_blocks[::-1][:level])


def _inside(names: list[str], attention: bool) -> str:
    return (_ATTENTION if attention else _RESIDUAL)[".".join(names)]


def _turned(theirs: str, value: Tensor, swap_axes: bool) -> Tensor:
    if theirs.endswith(("qkv.weight", "proj_out.weight")) and value.ndim == 3 and value.shape[-1] == 1:
        return value.squeeze(-1).clone()  # a convolution of length one is a matrix
    return value.permute(0, 1, 4, 3, 2).contiguous() if swap_axes and value.ndim == 5 else value.clone()


if __name__ == "__main__":
    sys.exit(run_commands(import_checkpoint, "common.networks.import_checkpoint"))
