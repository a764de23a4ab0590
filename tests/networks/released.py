"""The released Med-DDPM network from its published facts: key layout and forward pass in plain functional PyTorch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]


def released_state(
    inputs: int, outputs: int, channels: tuple[int, ...], blocks: int, attends: tuple[bool, ...]
) -> State:
    """Random weights under the released keys, (z, y, x) convolutions."""
    generator = torch.Generator().manual_seed(7)
    state: State = {}

    def put(name: str, *shape: int) -> None:
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(4 * fan_in) + float(
            len(shape) == 1
        )
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)

    def residual(name: str, width_in: int, width_out: int) -> None:
        put(f"{name}.in_layers.0", width_in)
        put(f"{name}.in_layers.2", width_out, width_in, 3, 3, 3)
        put(f"{name}.emb_layers.1", width_out, 4 * channels[0])
        put(f"{name}.out_layers.0", width_out)
        put(f"{name}.out_layers.3", width_out, width_out, 3, 3, 3)
        if width_in != width_out:
            put(f"{name}.skip_connection", width_out, width_in, 1, 1, 1)

    def attention(name: str, width: int) -> None:
        put(f"{name}.norm", width)
        put(f"{name}.qkv", 3 * width, width, 1)
        put(f"{name}.proj_out", width, width, 1)

    put("time_embed.0", 4 * channels[0], channels[0])
    put("time_embed.2", 4 * channels[0], 4 * channels[0])
    put("input_blocks.0.0", channels[0], inputs, 3, 3, 3)
    width, k, stack = channels[0], 1, [channels[0]]
    for level, wanted in enumerate(channels):
        for _ in range(blocks):
            residual(f"input_blocks.{k}.0", width, wanted)
            width = wanted
            if attends[level]:
                attention(f"input_blocks.{k}.1", width)
            stack.append(width)
            k += 1
        if level < len(channels) - 1:
            put(f"input_blocks.{k}.0.op", width, width, 3, 3, 3)
            stack.append(width)
            k += 1
    residual("middle_block.0", width, width)
    attention("middle_block.1", width)
    residual("middle_block.2", width, width)
    k = 0
    for level, wanted in reversed(list(enumerate(channels))):
        for r in range(blocks + 1):
            residual(f"output_blocks.{k}.0", width + stack.pop(), wanted)
            width = wanted
            if attends[level]:
                attention(f"output_blocks.{k}.1", width)
            if level and r == blocks:
                put(f"output_blocks.{k}.{2 if attends[level] else 1}.conv", width, width, 3, 3, 3)
            k += 1
    put("out.0", width)
    put("out.2", outputs, width, 3, 3, 3)
    return state


def released_forward(state: State, x: torch.Tensor, t: torch.Tensor, groups: int) -> torch.Tensor:
    """The released forward pass; the structure is read off the keys."""

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return F.linear(value, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(name: str, value: torch.Tensor, **kwargs: int) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv3d(value, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2, **kwargs)

    def norm(name: str, value: torch.Tensor) -> torch.Tensor:
        return F.group_norm(value, groups, state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    def run(name: str, h: torch.Tensor) -> torch.Tensor:
        if f"{name}.in_layers.0.weight" in state:
            inner = conv(f"{name}.in_layers.2", F.silu(norm(f"{name}.in_layers.0", h)))
            inner = inner + linear(f"{name}.emb_layers.1", F.silu(embedding))[:, :, None, None, None]
            inner = conv(f"{name}.out_layers.3", F.silu(norm(f"{name}.out_layers.0", inner)))
            return inner + (conv(f"{name}.skip_connection", h) if f"{name}.skip_connection.weight" in state else h)
        if f"{name}.qkv.weight" in state:
            flat = norm(f"{name}.norm", h).flatten(2)
            q, k, v = F.conv1d(flat, state[f"{name}.qkv.weight"], state[f"{name}.qkv.bias"]).chunk(3, dim=1)
            weights = torch.softmax(torch.einsum("nci,ncj->nij", q, k) / math.sqrt(q.shape[1]), dim=-1)
            mixed = torch.einsum("nij,ncj->nci", weights, v)
            mixed = F.conv1d(mixed, state[f"{name}.proj_out.weight"], state[f"{name}.proj_out.bias"])
            return h + mixed.view_as(h)
        if f"{name}.op.weight" in state:
            return conv(f"{name}.op", h, stride=2)
        if f"{name}.conv.weight" in state:
            return conv(f"{name}.conv", F.interpolate(h, scale_factor=2, mode="trilinear", align_corners=False))
        return conv(name, h)

    def modules(prefix: str) -> list[str]:
        depth = prefix.count(".") + 1
        numbers = {int(name.split(".")[depth]) for name in state if name.startswith(f"{prefix}.")}
        return [f"{prefix}.{number}" for number in sorted(numbers)]

    half = state["time_embed.0.weight"].shape[1] // 2
    angles = t[:, None].float() * 1000.0 ** (-torch.arange(half) / half)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1).to(x.dtype)
    embedding = linear("time_embed.2", F.silu(linear("time_embed.0", embedding)))
    h, stack = x, []
    for block in modules("input_blocks"):
        for module in modules(block):
            h = run(module, h)
        stack.append(h)
    for module in modules("middle_block"):
        h = run(module, h)
    for block in modules("output_blocks"):
        h = torch.cat([h, stack.pop()], dim=1)
        for module in modules(block):
            h = run(module, h)
    return conv("out.2", F.silu(norm("out.0", h)))
