"""Handlers that guard a training: random numbers, memory, gradients, and a stop at the first loss that is no number."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.engines.utils import IterationEvents
from torch import nn
from torch.utils.data import DataLoader

from ..networks.device import GIB, TRY_ANYWAY, WORTH_SAYING, needed_memory, tell_memory


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed in [0, 2**32) for one epoch of one process; all of them differ, and are the same on every machine."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


def process_rank() -> int:
    """Number of this process among those that torchrun has started; 0 where there is one."""
    return int(os.environ.get("RANK", "0"))


class EpochSeeding:
    """
    Seed every source of random numbers at the start of each epoch.

    Python, NumPy and torch (CPU and CUDA) are seeded, and with them the shuffling and the workers of the data loader,
    which draw their seeds from torch; so are MONAI's random transforms, which have a state of their own. An epoch
    then depends on the weights before it and on nothing else that a checkpoint would have to hold.

    Args:
        seed: of the run, at least 0.
        dataloader: the training data; its random transforms are seeded.
        rank: of this process among those that train together; None for torchrun's ``RANK``, 0 where it has set none.

    Raises:
        ValueError: when the data loader has no batch, or workers that live on from epoch to epoch.

    Example:
        >>> EpochSeeding(7, DataLoader([0.0, 1.0])).state_dict()
        {'seed': 7}
    """

    def __init__(self, seed: int, dataloader: DataLoader, rank: int | None = None) -> None:
        if len(dataloader) == 0:
            raise ValueError(
                f"{len(dataloader.dataset)} training cases do not fill a batch of {dataloader.batch_size}: "  # type: ignore[arg-type]
                "add cases to dataset_dir or lower batch_size."
            )
        if dataloader.persistent_workers:
            raise ValueError("persistent_workers keep random states that cannot be seeded again: set it to false.")
        self.seed = seed
        self.dataloader = dataloader
        self.rank = process_rank() if rank is None else rank

    def attach(self, engine: Engine) -> None:
        """Seed at the start of each epoch of ``engine``, before its data loader is asked for the first batch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed for the epoch that begins."""
        seed = epoch_seed(self.seed, engine.state.epoch, self.rank)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the transforms of others draw from the global state
        torch.manual_seed(seed)
        set_rnd(self.dataloader.dataset, seed)

    def state_dict(self) -> dict[str, Any]:
        """The run's seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the seed that the run began with."""
        self.seed = int(state["seed"])


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
