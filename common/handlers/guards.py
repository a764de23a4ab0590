"""Handlers that guard a training: its memory, its gradients, and a stop at the first loss that is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import nn

from ..networks.memory import GIB, TRY_ANYWAY, WORTH_SAYING, needed_memory, tell_memory


class GradientClipper:
    """
    Scale the gradients down to a total norm before each optimiser step.

    Args:
        max_norm: largest L2 norm of all gradients together, positive.

    Raises:
        ValueError: when ``max_norm`` is not positive.

    Example:
        >>> GradientClipper(max_norm=0)
        Traceback (most recent call last):
        ValueError: max_norm must be positive, got 0.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}.")
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Clip in ``engine``, a MONAI trainer, after each backward pass."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Scale the gradients down."""
        if getattr(engine, "scaler", None) is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class StopOnNonFiniteLoss:
    """
    Stop training before a NaN or infinite loss reaches the weights.

    Raises:
        FloatingPointError: (while training) names epoch, iteration, loss and the files of the batch.

    Example:
        >>> trainer = Engine(lambda engine, batch: None)
        >>> _ = trainer.register_events(*IterationEvents)
        >>> StopOnNonFiniteLoss().attach(trainer)
    """

    def attach(self, engine: Engine) -> None:
        """Check in ``engine``, a MONAI trainer, after each loss and before its backward pass."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Look at the loss."""
        loss = float(engine.state.output["loss"].detach())
        if not math.isfinite(loss):
            cases = engine.state.batch.get("case") if isinstance(engine.state.batch, dict) else None
            raise FloatingPointError(
                f"The loss is {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}"
                f"{f' (cases {list(cases)})' if cases else ''}; the weights are those of the iteration before. "
                "Check these images for NaN, lower learning_rate, or set precision to fp32."
            )


class CheckMemory:
    """
    Log what training will need, where that is much, as the first batch arrives.

    Args:
        network: the network itself, not its ``DistributedDataParallel``, on its device.
        keys: of the tensors of a batch that are concatenated as the network's input, (N, C, *spatial) each.

    Raises:
        MemoryError: (before the first iteration) when it needs more than is free.

    Example:
        >>> trainer = Engine(lambda engine, batch: None)
        >>> CheckMemory(torch.nn.Conv2d(2, 1, 3)).attach(trainer)
        >>> trainer.run([{"image": torch.zeros(1, 1, 8, 8), "label": torch.zeros(1, 1, 8, 8)}]).epoch
        1
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
