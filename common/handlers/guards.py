"""Handlers that keep a training run sane: gradient clipping, and a stop at the first loss that is no number."""

from __future__ import annotations

import math
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents


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
