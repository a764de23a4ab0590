"""What a device computes in and what it has room for: precision, memory layout, and the memory that a network needs."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from monai.utils import optional_import
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
logger = logging.getLogger(__name__)
psutil, _HAS_PSUTIL = optional_import("psutil")
GIB = 2**30
# Smaller inputs are not looked at: the estimate takes a second or two, and they need a few hundred MiB.
_SMALL = 64**3
WORTH_SAYING = 2 * GIB
TRY_ANYWAY = "or --check_memory False to try all the same"
# On CPUs, convolutions reorder their input and output into blocks of their own before and after they multiply.
_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
# The interpreter with PyTorch and MONAI, before the first tensor.
_PROCESS = int(0.45 * GIB)


def native_bf16(device: torch.device) -> bool:
    """
    Whether ``device`` multiplies bfloat16 in hardware, and faster than fp32.

    A CPU does with AMX, or with AVX512-BF16 unless Intel made it: there, this instruction multiplies at half the rate
    of fp32, and a Xeon whose AMX is switched off, as in virtual machines, takes 1.6 times as long in bf16.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        intel = "intel" in str(torch.cpu.get_capabilities().get("cpu_name", "")).lower()
        return torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and not intel)
    return False


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """
    The dtype in which convolutions and products run.

    Args:
        precision: "fp32", "bf16", "fp16", or "auto": bf16 where the hardware is faster in it, else fp32.
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


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and their peak; no data is needed."""

    def __init__(self, reorders: bool) -> None:
        super().__init__()
        self.reorders = reorders
        self.live = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        identity, size = storage._cdata, storage.nbytes()
        if identity not in self._known:
            self._known.add(identity)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._release, identity, size)

    def _release(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.add(value)
        if self.reorders and func in _CONVOLUTIONS:
            moved = [value for value in (args[0], result) if isinstance(value, torch.Tensor)]
            self.peak = max(self.peak, self.live + sum(value.numel() * value.element_size() for value in moved))
        return result


def estimate_memory(
    network: nn.Module, shape: tuple[int, ...], training: bool = False, device: torch.device | str | None = None
) -> int:
    """
    Peak memory of one step of ``network``, weights included.

    The network runs on tensors that have shapes but no data, so this is quick and allocates nothing. What libraries use
    inside an operation is known for convolutions on CPUs only: take the result as good to about a quarter.

    Args:
        network: called as ``network(x, timesteps=t)``.
        shape: of its input, (N, C, *spatial).
        training: forward, backward and Adam's state, else one forward pass without gradients.
        device: where it will run; None: where its weights are.

    Returns:
        Bytes: of the whole process on a CPU, of the device's memory else.
    """
    device = torch.device(device) if device is not None else next(network.parameters()).device
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    labels = getattr(network, "num_class_embeds", None) is not None
    mode = network.training
    network.train(training)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), _LiveBytes(device.type == "cpu") as counter:
            fake = {name: _like(value, device, training) for name, value in network.state_dict(keep_vars=True).items()}
            counter.live = counter.peak = 0  # the weights are counted once, below
            arguments: dict[str, torch.Tensor] = {"timesteps": torch.zeros(shape[0], device=device, dtype=torch.long)}
            if labels:
                arguments["class_labels"] = torch.zeros(shape[0], device=device, dtype=torch.long)
            with torch.set_grad_enabled(training):
                x = torch.zeros(shape, device=device)
                output = torch.func.functional_call(network, fake, (x,), arguments)
                if training:
                    output.sum().backward()
            peak = counter.peak
    finally:
        network.train(mode)
    if training:
        peak += 2 * weights  # Adam's two moments; the gradients are in the peak
    return peak + weights + (_PROCESS if device.type == "cpu" else 0)


def available_memory(device: torch.device | str) -> int | None:
    """Bytes that are free on ``device``; None when that cannot be told (a CPU without psutil)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available if device.type == "cpu" and _HAS_PSUTIL else None


def check_inference(
    network: Any, shapes: Iterable[Sequence[int]], image_channels: int = 1, batch_size: int = 1
) -> None:
    """
    Log what the largest volume to be generated will need, where that is much.

    Args:
        network: called as ``network(x, timesteps=t)``, on its device; sides are padded to its ``divisor``.
        shapes: (C, *spatial) of each condition.
        image_channels: of what is generated, concatenated with the condition.
        batch_size: cases at once.

    Raises:
        MemoryError: when it needs more than is free.
    """
    divisor = getattr(network, "divisor", 1)
    inputs = [(batch_size, image_channels + s[0], *(-(-side // divisor) * divisor for side in s[1:])) for s in shapes]
    if not inputs:
        return
    largest = max(inputs, key=_voxels)
    needed, free, device = needed_memory(network, largest, training=False)
    message = f"Generating a volume of {largest[2:]} needs about {needed / GIB:.1f} GiB on {device}"
    tell_memory(message, needed, free, f"Try a smaller mask or a coarser spacing, {TRY_ANYWAY}.")


def needed_memory(network: nn.Module, shape: tuple[int, ...], training: bool) -> tuple[int, int | None, Any]:
    """
    What one step of ``network`` needs and what there is, where its weights are.

    Args:
        network: called as ``network(x, timesteps=t)``.
        shape: of its input, (N, C, *spatial).
        training: as in ``estimate_memory``.

    Returns:
        Bytes needed (0 for a small input, or where that cannot be told), bytes free or None, device.
    """
    device = next(network.parameters()).device
    if _voxels(shape) < _SMALL:
        return 0, None, device
    try:
        needed = estimate_memory(network, shape, training)
    except Exception as error:  # no estimate is no reason not to run
        logger.warning("The memory that this network needs cannot be estimated: %s", str(error).split("\n")[0])
        return 0, None, device
    return needed, available_memory(device), device


def tell_memory(message: str, needed: int, free: int | None, advice: str) -> None:
    """
    Log ``message`` where much memory is needed.

    Args:
        message: who needs how much.
        needed: bytes.
        free: bytes, or None where that cannot be told.
        advice: what to do where it is too much.

    Raises:
        MemoryError: with message and advice, when more is needed than is free.
    """
    if free is not None:
        message += f"; {free / GIB:.1f} GiB are free"
        if needed > free:
            raise MemoryError(f"{message}. {advice}")
    if needed > WORTH_SAYING:
        logger.info("%s.", message)


def _voxels(shape: Sequence[int]) -> int:
    """Of all images of a batch (N, C, *spatial)."""
    return shape[0] * math.prod(shape[2:])


def _like(value: torch.Tensor, device: torch.device, training: bool) -> torch.Tensor:
    floating = value.is_floating_point()
    return torch.empty(value.shape, dtype=value.dtype, device=device).requires_grad_(training and floating)
