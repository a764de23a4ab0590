"""How much memory a network will need, found by running it on tensors without data."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from monai.utils import optional_import
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

psutil, _HAS_PSUTIL = optional_import("psutil")

_GIB = 2**30
# On CPUs, convolutions reorder their input and output into blocks of their own before and after they multiply.
_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
# The interpreter with PyTorch and MONAI, before the first tensor.
_PROCESS = int(0.45 * _GIB)


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


def check_memory(
    network: nn.Module,
    shape: tuple[int, ...],
    training: bool = False,
    device: torch.device | str | None = None,
    available: int | None = None,
) -> str:
    """
    Stop before a run that will not fit in memory.

    Args:
        network: called as ``network(x, timesteps=t)``.
        shape: of its input, (N, C, *spatial).
        training: as in ``estimate_memory``.
        device: where it will run; None: where its weights are.
        available: bytes that may be used; None: what is free now.

    Returns:
        The estimate in words, for a log.

    Raises:
        MemoryError: when the estimate is above what is available.
    """
    device = torch.device(device) if device is not None else next(network.parameters()).device
    needed = estimate_memory(network, shape, training, device)
    available = available_memory(device) if available is None else available
    what = f"{'Training' if training else 'Inference'} on an input of {tuple(shape)}"
    message = f"{what} needs about {needed / _GIB:.1f} GiB on {device}"
    if available is None:
        return f"{message}."
    message += f"; {available / _GIB:.1f} GiB are free."
    if needed > available:
        advice = "use_checkpointing=True, a smaller batch or a smaller volume" if training else "a smaller volume"
        raise MemoryError(f"{message} Try {advice}.")
    return message


def _like(value: torch.Tensor, device: torch.device, training: bool) -> torch.Tensor:
    floating = value.is_floating_point()
    return torch.empty(value.shape, dtype=value.dtype, device=device).requires_grad_(training and floating)
