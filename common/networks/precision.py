"""Which arithmetic and memory layout a device runs fastest in, decided once for every network."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def native_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 in hardware (emulated on a CPU, it is slower than fp32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """
    The dtype in which convolutions and products run.

    Args:
        precision: "fp32", "bf16", "fp16", or "auto": bf16 where the hardware has it, else fp32.
        device: where the network runs.

    Raises:
        ValueError: when ``precision`` is none of these.
    """
    if precision == "auto":
        return torch.bfloat16 if native_bf16(device) else torch.float32
    if precision not in _DTYPES:
        raise ValueError(f"precision must be 'auto' or one of {sorted(_DTYPES)}, got {precision!r}.")
    return _DTYPES[precision]


def precision_name(dtype: torch.dtype) -> str:
    """ "fp32", "bf16", "fp16" or "fp64", the word for ``dtype`` in configs and records."""
    return {value: name for name, value in _DTYPES.items()}.get(dtype, "fp64")


def autocast(device_type: str, dtype: torch.dtype, weights: torch.dtype = torch.float32) -> AbstractContextManager[Any]:
    """
    The context in which ``weights`` are multiplied in ``dtype``.

    Args:
        device_type: "cpu" or "cuda".
        dtype: to compute in.
        weights: dtype of the weights.

    Returns:
        Autocast; nothing for float32 or where the weights have ``dtype``, so that an outer autocast stays in force.
    """
    return nullcontext() if dtype in (torch.float32, weights) else torch.autocast(device_type, dtype)


def resolve_memory_format(
    memory_format: str, device: torch.device, spatial_dims: int, dtype: torch.dtype = torch.bfloat16
) -> torch.memory_format | None:
    """
    The layout of activations: a ``torch.memory_format``, or None to leave them as they come.

    Args:
        memory_format: "contiguous", "channels_last", or "auto": channels-last on CUDA, and on CPUs where bf16 is native
            but for volumes in fp32, whose GroupNorm in that layout is wrong by up to 4e-3 at 128³ (PyTorch 2.13, CPU);
            else as they come.
        device: where the network runs.
        spatial_dims: 2 or 3.
        dtype: that it computes in.

    Raises:
        ValueError: when ``memory_format`` is none of these.
    """
    if memory_format not in ("auto", "contiguous", "channels_last"):
        raise ValueError(f"memory_format must be 'auto', 'contiguous' or 'channels_last', got {memory_format!r}.")
    inaccurate = spatial_dims == 3 and dtype not in (torch.bfloat16, torch.float16)
    wins = device.type == "cuda" or (native_bf16(device) and not inaccurate)
    if memory_format == "channels_last" or (memory_format == "auto" and wins):
        return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
    return None
