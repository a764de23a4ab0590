"""A look at the memory before a long run: the estimate where it matters, an error where the run will not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from . import memory

logger = logging.getLogger(__name__)

_GIB = 2**30
# Smaller inputs are not looked at: the estimate takes a second or two, and they need a few hundred MiB.
_SMALL = 64**3
_WORTH_SAYING = 2 * _GIB
_REGARDLESS = "or --check_memory False to try all the same"


def check_inference(network: Any, shapes: Iterable[Sequence[int]], image_channels: int = 1) -> None:
    """
    Log what the largest volume to be generated will need, where that is much.

    Args:
        network: called as ``network(x, timesteps=t)``, on its device; sides are padded to its ``divisor``.
        shapes: (C, *spatial) of each condition.
        image_channels: of what is generated, concatenated with the condition.

    Raises:
        MemoryError: when it needs more than is free.
    """
    divisor = getattr(network, "divisor", 1)
    inputs = [(1, image_channels + s[0], *(-(-side // divisor) * divisor for side in s[1:])) for s in shapes]
    if not inputs:
        return
    largest = max(inputs, key=_voxels)
    needed, free, device = _needed(network, largest, training=False)
    message = f"Generating a volume of {largest[2:]} needs about {needed / _GIB:.1f} GiB on {device}"
    _say(message, needed, free, f"Try a smaller mask or a coarser spacing, {_REGARDLESS}.")


class CheckMemory:
    """
    Log what training will need, where that is much, as the first batch arrives.

    Args:
        network: the network itself, not its ``DistributedDataParallel``, on its device.
        keys: of the tensors of a batch that are concatenated as the network's input, (N, C, *spatial) each.

    Raises:
        MemoryError: (before the first iteration) when it needs more than is free.
    """

    def __init__(self, network: nn.Module, keys: Sequence[str] = ("image", "label")) -> None:
        self.network: Any = network
        self.keys = tuple(keys)
        self._done = False

    def attach(self, engine: Engine) -> None:
        """Look at the first batch of ``engine``, also where it goes on with a later epoch."""
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Estimate once."""
        if self._done:
            return
        self._done = True
        tensors = [engine.state.batch[key] for key in self.keys]  # type: ignore[index]
        shape = (len(tensors[0]), sum(tensor.shape[1] for tensor in tensors), *tensors[0].shape[2:])
        needed, free, device = _needed(self.network, shape, training=True)
        if needed <= _WORTH_SAYING and (free is None or needed <= free):
            return
        message = f"Training on batches of {shape} needs about {needed / _GIB:.1f} GiB on {device}"
        advice = f"a smaller batch_size or smaller volumes, {_REGARDLESS}."
        if hasattr(self.network, "use_checkpointing"):
            on = self.network.use_checkpointing
            other = self._with_checkpointing(not on, shape)
            words = "without", "with"
            message += f" {words[on]} activation checkpointing, {other / _GIB:.1f} GiB {words[not on]} it"
            advice = advice if on else f"use_checkpointing: true in network_def, {advice}"
        _say(message, needed, free, f"Try {advice}")

    def _with_checkpointing(self, wanted: bool, shape: tuple[int, ...]) -> int:
        before = self.network.use_checkpointing
        self.network.use_checkpointing = wanted
        try:
            return _needed(self.network, shape, training=True)[0]
        finally:
            self.network.use_checkpointing = before


def _needed(network: nn.Module, shape: tuple[int, ...], training: bool) -> tuple[int, int | None, Any]:
    """Bytes needed (0 for a small input, or where that cannot be told), bytes free, device."""
    device = next(network.parameters()).device
    if _voxels(shape) < _SMALL:
        return 0, None, device
    try:
        needed = memory.estimate_memory(network, shape, training)
    except Exception as error:  # no estimate is no reason not to run
        logger.warning("The memory that this network needs cannot be estimated: %s", str(error).split("\n")[0])
        return 0, None, device
    return needed, memory.available_memory(device), device


def _say(message: str, needed: int, free: int | None, advice: str) -> None:
    """Log ``message``, or raise it with the advice."""
    if free is not None:
        message += f"; {free / _GIB:.1f} GiB are free"
        if needed > free:
            raise MemoryError(f"{message}. {advice}")
    if needed > _WORTH_SAYING:
        logger.info("%s.", message)


def _voxels(shape: Sequence[int]) -> int:
    """Of all images of a batch (N, C, *spatial)."""
    count = shape[0]
    for side in shape[2:]:
        count *= side
    return count
