"""A look at the memory before a long training: what it needs, or an error where it will not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from ..networks.memory import GIB, TRY_ANYWAY, WORTH_SAYING, needed_memory, tell_memory


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
        needed, free, device = needed_memory(self.network, shape, training=True)
        if needed <= WORTH_SAYING and (free is None or needed <= free):
            return
        message = f"Training on batches of {shape} needs about {needed / GIB:.1f} GiB on {device}"
        advice = f"a smaller batch_size or smaller volumes, {TRY_ANYWAY}."
        if hasattr(self.network, "use_checkpointing"):
            on = self.network.use_checkpointing
            other = self._with_checkpointing(not on, shape)
            words = "without", "with"
            message += f" {words[on]} activation checkpointing, {other / GIB:.1f} GiB {words[not on]} it"
            advice = advice if on else f"use_checkpointing: true in network_def, {advice}"
        tell_memory(message, needed, free, f"Try {advice}")

    def _with_checkpointing(self, wanted: bool, shape: tuple[int, ...]) -> int:
        before = self.network.use_checkpointing
        self.network.use_checkpointing = wanted
        try:
            return needed_memory(self.network, shape, training=True)[0]
        finally:
            self.network.use_checkpointing = before
