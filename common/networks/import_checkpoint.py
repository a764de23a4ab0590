"""
Convert weights that others released into the plain state dict that the bundles load.

``python -m common.networks.import_checkpoint --checkpoint model.pt --out out.pt`` reads a checkpoint of the
Med-DDPM authors; ``load_generative_weights`` reads one of monai-generative 0.2.3.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import nn

from .med_ddpm import ARGUMENTS, med_ddpm
from .state_dict import difference, load_strictly, read_checkpoint, save_weights, state_dict_of

_PREFIX = "denoise_fn."
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
    checkpoint: str,
    out: str,
    variant: str = "auto",
    swap_axes: bool = True,
    entry: str = "ema",
    overwrite: bool = False,
) -> str:
    """
    Convert a checkpoint of the Med-DDPM authors to a plain state dict of our network.

    Args:
        checkpoint: their file, ``model_128.pt`` or ``model_brats.pt``.
        out: the file to write.
        variant: "head", "brats", or "auto": by the channels of the first and the last convolution.
        swap_axes: turn their (z, y, x) convolutions for volumes in (x, y, z), as NIfTI files have them.
        entry: the entry of their file; "ema" holds the averaged weights that they sample with.
        overwrite: replace ``out`` if it is there.

    Returns:
        A sentence that says what was written.

    Raises:
        FileNotFoundError: when ``checkpoint`` is no file.
        FileExistsError: when ``out`` is there and ``overwrite`` is off.
        ValueError: when ``checkpoint`` is unreadable, or no complete checkpoint of that network.
    """
    if Path(out).exists() and not overwrite:
        raise FileExistsError(f"{out} is already there; add --overwrite to replace it.")
    state = state_dict_of(_entry(read_checkpoint(checkpoint), checkpoint, entry), checkpoint)
    released = {name[len(_PREFIX) :]: value for name, value in state.items() if name.startswith(_PREFIX)}
    if not released:
        raise ValueError(f"{checkpoint} is no Med-DDPM checkpoint: no key of {entry!r} starts with {_PREFIX!r}.")
    if variant == "auto":
        variant = detect_variant(released, checkpoint)
    with torch.device("meta"):  # the network gives names and shapes only
        network = med_ddpm(variant)
    converted = convert_released(network, released, checkpoint, swap_axes)
    path = save_weights(converted, out)
    parameters = sum(value.numel() for value in converted.values())
    return f"Wrote {path}: Med-DDPM {variant}, {len(converted)} tensors, {parameters:,} parameters."


def detect_variant(released: Mapping[str, torch.Tensor], source: str) -> str:
    """
    Which of the paper's networks ``released`` (keys without ``denoise_fn.``) belongs to.

    Raises:
        ValueError: when its first and last convolutions are those of none.
    """
    ends = [name for name in ("input_blocks.0.0.weight", "out.2.weight") if name not in released]
    if ends:
        raise ValueError(f"{source} is no complete Med-DDPM checkpoint: {_PREFIX}{ends[0]} is missing.")
    channels = (released["input_blocks.0.0.weight"].shape[1], released["out.2.weight"].shape[0])
    known = {(entry["in_channels"], entry["out_channels"]): name for name, entry in ARGUMENTS.items()}
    if channels not in known:
        variants = ", ".join(f"{name} {pair[0]} to {pair[1]}" for pair, name in known.items())
        raise ValueError(f"{source} goes from {channels[0]} to {channels[1]} channels; known variants: {variants}.")
    return known[channels]


def convert_released(
    network: DiffusionModelUNet, released: Mapping[str, torch.Tensor], source: str, swap_axes: bool = True
) -> dict[str, torch.Tensor]:
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


def load_generative_weights(
    network: DiffusionModelUNet, path: str | os.PathLike[str], key: str | None = None
) -> nn.Module:
    """
    Load a ``DiffusionModelUNet`` of monai-generative 0.2.3, strictly.

    Its self-attention held a projection that its forward pass never applied: build ``network`` with
    ``include_fc=False``, and the unused weights are dropped. Its transformer blocks (``with_conditioning=True``) did
    apply theirs: leave ``include_fc=True`` there.

    Args:
        network: the network to fill, of the same arguments (``num_channels`` is now ``channels``).
        path: a state dict, or a checkpoint whose entry ``key`` is one.
        key: that entry.

    Returns:
        ``network``.

    Raises:
        FileNotFoundError: when ``path`` is no file.
        ValueError: when it cannot be read or belongs to another network, with the first differing keys.
    """
    old = state_dict_of(read_checkpoint(path), path, key)
    names = {_generative_name(name): name for name in network.state_dict()}
    unused = (".proj_attn.weight", ".proj_attn.bias")
    renamed = {
        names.get(name, name): value for name, value in old.items() if name in names or not name.endswith(unused)
    }
    load_strictly(network, renamed, str(path))
    return network


def _entry(content: object, source: str, entry: str) -> object:
    if not isinstance(content, Mapping) or entry not in content:
        found = [str(name) for name in content][:4] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{source} is no Med-DDPM checkpoint: it has no entry {entry!r}, but {found}.")
    return content[entry]


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


def _turned(theirs: str, value: torch.Tensor, swap_axes: bool) -> torch.Tensor:
    if theirs.endswith(("qkv.weight", "proj_out.weight")) and value.ndim == 3 and value.shape[-1] == 1:
        return value.squeeze(-1).clone()  # a convolution of length one is a matrix
    return value.permute(0, 1, 4, 3, 2).contiguous() if swap_axes and value.ndim == 5 else value.clone()


def _generative_name(ours: str) -> str:
    """The monai-generative 0.2.3 key of our key."""
    transformer = "transformer_blocks" in ours
    name = ours.replace(".out_proj.", ".to_out.0.") if transformer else ours.replace(".attn.out_proj.", ".proj_attn.")
    if not transformer:
        for part in ("to_q", "to_k", "to_v"):
            name = name.replace(f".attn.{part}.", f".{part}.")
    return name.replace(".postconv.", ".conv.")


if __name__ == "__main__":
    import fire

    fire.Fire(import_checkpoint)
