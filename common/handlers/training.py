"""What every training run of these bundles has besides its data, network and loss, said once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from ignite.handlers import EMAHandler
from monai.engines import Evaluator
from monai.handlers import LrScheduleHandler, TensorBoardStatsHandler, ValidationHandler
from monai.utils import CommonKeys
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from .checkpoints import CheckpointWriter, TrainingState
from .guards import CheckMemory, GradientClipper, StopOnNonFiniteLoss
from .progress import ProgressLog


class TrainingHandlers:
    """
    Guard the run, lower the learning rate, log, write checkpoints and validate, in this order.

    ``CheckMemory``, ``StopOnNonFiniteLoss``, ``GradientClipper`` and ``LrScheduleHandler`` (after each iteration) act
    in every process; ``ProgressLog``, ``TensorBoardStatsHandler``, ``CheckpointWriter`` and ``ValidationHandler`` in
    that of rank 0 alone.

    Args:
        state: what a checkpoint holds, with its network and learning-rate schedule.
        output_dir: folder of the checkpoints, and of ``model.pt`` where the state has an EMA network.
        writer: a ``SummaryWriter`` for the loss ("train_loss", or its terms) and the validators' metrics, or None.
        max_grad_norm: largest L2 norm of the gradients, or None not to clip them.
        log_interval: iterations from line to line of the log, at least 1.
        checkpoint_interval: epochs from checkpoint to checkpoint, at least 1; None to write none.
        validators: the evaluators to run, in this order; those that are None are passed over.
        val_interval: epochs from validation to validation.
        memory_keys: keys of a batch that are concatenated as the network's input, for the estimate of the memory that
            training needs; empty or None for no estimate.

    Raises:
        ValueError: when ``max_grad_norm`` is not positive, or an interval is less than 1.

    >>> from types import SimpleNamespace
    >>> state = SimpleNamespace(parts={"network": None, "lr_scheduler": None})
    >>> [type(handler).__name__ for handler in TrainingHandlers(state, "out", checkpoint_interval=None).handlers]
    ['StopOnNonFiniteLoss', 'LrScheduleHandler', 'ProgressLog']
    """

    def __init__(
        self,
        state: TrainingState,
        output_dir: str | Path,
        writer: SummaryWriter | None = None,
        max_grad_norm: float | None = None,
        log_interval: int = 20,
        checkpoint_interval: int | None = 1,
        validators: Evaluator | Iterable[Evaluator | None] = (),
        val_interval: int = 1,
        memory_keys: Sequence[str] | None = None,
    ) -> None:
        self.handlers: list[Any] = [StopOnNonFiniteLoss()]
        if memory_keys:
            self.handlers.insert(0, CheckMemory(state.parts["network"], memory_keys))
        if max_grad_norm is not None:
            self.handlers.append(GradientClipper(max_grad_norm))
        self.handlers.append(LrScheduleHandler(state.parts["lr_scheduler"], print_lr=False, epoch_level=False))
        if rank() > 0:
            return
        self.handlers.append(ProgressLog(log_interval))
        if writer is not None:
            every, tag = log_interval, "train_loss"
            self.handlers.append(
                TensorBoardStatsHandler(writer, iteration_log=every, tag_name=tag, output_transform=loss_of)
            )
        if checkpoint_interval is not None:
            name = None if state.ema is None else "model.pt"
            self.handlers.append(CheckpointWriter(output_dir, state, checkpoint_interval, model_name=name))
        evaluators = [validators] if isinstance(validators, Evaluator) else validators
        for evaluator in filter(None, evaluators):
            if writer is not None:
                TensorBoardStatsHandler(writer, iteration_log=False).attach(evaluator)
            self.handlers.append(ValidationHandler(val_interval, evaluator))

    def attach(self, engine: Engine) -> None:
        """Attach them all to ``engine``, a MONAI trainer."""
        for handler in self.handlers:
            handler.attach(engine)


def ema(
    network: nn.Module, momentum: float = 0.001, momentum_warmup: float = 0.01, warmup_iters: int = 1000
) -> EMAHandler:
    """
    The moving average of a network's weights, which is what these bundles validate and write as ``model.pt``.

    Args:
        network: the network, or its ``DistributedDataParallel``.
        momentum: share of the new weights in the average after the warm-up; 0.001 is a decay of 0.999.
        momentum_warmup: that share in the first iteration.
        warmup_iters: iterations from the one to the other.

    Returns:
        The handler, to be attached to the trainer.
    """
    return EMAHandler(network, momentum, momentum_warmup, warmup_iters)


def loss_of(output: Any) -> Any:
    """The loss in a MONAI trainer's output; with the means of its terms where the network gives a dict of terms."""
    first = output[0] if isinstance(output, list) else output
    loss, terms = first[CommonKeys.LOSS], first[CommonKeys.PRED]
    if not isinstance(terms, dict):
        return loss
    return {"loss": loss.detach(), **{name: values.detach().mean() for name, values in terms.items()}}


def summary_writer(output_dir: str | Path) -> SummaryWriter | None:
    """A TensorBoard writer for ``output_dir/tensorboard``; None in all processes but the one of rank 0."""
    return SummaryWriter(str(Path(output_dir, "tensorboard"))) if rank() == 0 else None


def rank() -> int:
    """Number of this process among those that torchrun has started; 0 where there is one."""
    return int(os.environ.get("RANK", "0"))
