"""Which arithmetic and memory layout a device runs fastest in, decided once for every network."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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


def autocast(device_type: str, dtype: torch.dtype) -> AbstractContextManager:
    """Autocast to ``dtype`` on ``device_type``; nothing for float32, so that an outer one stays in force."""
    return nullcontext() if dtype is torch.float32 else torch.autocast(device_type, dtype)


def resolve_memory_format(memory_format: str, device: torch.device, spatial_dims: int) -> torch.memory_format | None:
    """
    The layout of activations: a ``torch.memory_format``, or None to leave them as they come.

    Args:
        memory_format: "contiguous", "channels_last", or "auto": channels-last on CPUs where bf16 is native (the two
            together win there), and on CUDA (not measured yet); else as they come.
        device: where the network runs.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: when ``memory_format`` is none of these.
    """
    if memory_format not in ("auto", "contiguous", "channels_last"):
        raise ValueError(f"memory_format must be 'auto', 'contiguous' or 'channels_last', got {memory_format!r}.")
    if memory_format == "channels_last" or (memory_format == "auto" and (device.type == "cuda" or native_bf16(device))):
        return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
    return None
