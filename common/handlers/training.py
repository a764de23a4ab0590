"""What every training run of these bundles has besides its data, network and loss, and what it shows of itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.apps import get_logger
from monai.engines import AdversarialTrainer, Evaluator
from monai.handlers import LrScheduleHandler, TensorBoardStatsHandler, ValidationHandler, from_engine
from monai.utils import CommonKeys
from monai.utils.enums import AdversarialKeys
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from .adversarial import ADVERSARIAL_TERMS, Adversarial
from .checkpoints import CheckpointWriter, TrainingState
from .curves import Curves, HeldOutLoss
from .guards import CheckMemory, GradientClipper, StopOnNonFiniteLoss, process_rank
from .run_report import RunReport, duration


class ProgressLog:
    """
    Log the mean loss of every ``interval`` iterations, the time of each epoch, the time left, and what comes between.

    MONAI's ``StatsHandler`` logs the loss of single iterations (its ``iteration_log`` filters by a function; a number
    other than 0 means every iteration), which at random noise levels scatter far more than they fall.

    Args:
        interval: iterations a line, at least 1.
        name: of the logger, and first word of the message.

    Raises:
        ValueError: when ``interval`` is less than 1.

    Example:
        >>> ProgressLog(interval=0)
        Traceback (most recent call last):
        ValueError: interval must be at least 1, got 0.
    """

    def __init__(self, interval: int = 20, name: str = "train") -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}.")
        self.interval = interval
        self.logger = get_logger(name)
        self.loss = from_engine(CommonKeys.LOSS, first=True)
        self._losses: list[float] = []
        self._start = self._epoch_start = 0.0
        self._first_iteration: int | None = None

    def attach(self, engine: Engine) -> None:
        """Log the progress of ``engine``, a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def epoch_started(self, engine: Engine) -> None:
        """Start the clocks."""
        self._epoch_start = time.monotonic()
        if self._first_iteration is None:
            self._start, self._first_iteration = self._epoch_start, engine.state.iteration

    def iteration_completed(self, engine: Any) -> None:
        """Add up the loss; log at the end of an interval."""
        state = engine.state
        loss = self.loss(state.output)
        loss = loss[0] if isinstance(loss, tuple) else loss  # a tuple where the trainer does not decollate
        self._losses.append(float(torch.as_tensor(loss).detach()))
        within = state.iteration - (state.epoch - 1) * state.epoch_length
        if within % self.interval == 0 and within != state.epoch_length:
            self._log(engine, f", iteration {within}/{state.epoch_length}")

    def epoch_completed(self, engine: Any) -> None:
        """Log the rest of the epoch, and its time."""
        self._log(engine, f" took {duration(time.monotonic() - self._epoch_start)}")

    def announce(self, evaluator: Engine) -> None:
        """Say when ``evaluator``, which the trainer runs between epochs, begins: it may take longer than an epoch."""
        cases: Any = evaluator.state.dataloader
        self.logger.info(f"Held-out cases and previews: {len(cases)} batch{'es' * (len(cases) != 1)}.")

    def _log(self, engine: Any, what: str) -> None:
        state = engine.state
        mean = sum(self._losses) / max(1, len(self._losses))
        pace, left = self._pace(engine)
        self.logger.info(
            f"Epoch {state.epoch}/{state.max_epochs}{what}: mean loss of {len(self._losses)} {mean:.4f}, "
            f"lr {engine.optimizer.param_groups[0]['lr']:.2g}, {pace:.2f} s an iteration, {duration(left)} left"
        )
        self._losses.clear()

    def _pace(self, engine: Any) -> tuple[float, float]:
        """Seconds an iteration since this process began (previews and checkpoints included), and seconds left."""
        state = engine.state
        pace = (time.monotonic() - self._start) / max(1, state.iteration - (self._first_iteration or 0))
        return pace, pace * (state.max_epochs * state.epoch_length - state.iteration)


class TrainingHandlers:
    """
    Guard the run, lower the learning rate, log, validate and write checkpoints, in this order.

    ``CheckMemory``, ``StopOnNonFiniteLoss``, ``GradientClipper`` and ``LrScheduleHandler`` (after each iteration) act
    in every process; ``ProgressLog``, ``TensorBoardStatsHandler``, ``ValidationHandler``, ``HeldOutLoss``, ``Curves``
    and ``CheckpointWriter`` in that of rank 0 alone. ``Adversarial`` adapts an ``AdversarialTrainer`` first.

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
        report: what the run says as it starts and ends; None for nothing.
        held_out: data loader of the cases for ``HeldOutLoss``, which an ``AdversarialTrainer`` does not have; or None.

    Raises:
        ValueError: when ``max_grad_norm`` is not positive, or an interval is less than 1.

    >>> from types import SimpleNamespace
    >>> state = SimpleNamespace(parts={"network": None, "lr_scheduler": None})
    >>> [type(handler).__name__ for handler in TrainingHandlers(state, "out", checkpoint_interval=None).handlers]
    ['StopOnNonFiniteLoss', 'LrScheduleHandler', 'ProgressLog', 'Curves']
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
        report: RunReport | None = None,
        held_out: Any = None,
    ) -> None:
        network = state.parts["network"]
        self.handlers: list[Any] = [CheckMemory(network, memory_keys)] if memory_keys else []
        self.handlers.append(StopOnNonFiniteLoss())
        if max_grad_norm is not None:
            self.handlers.append(GradientClipper(max_grad_norm))
        for part in [part for part in ("lr_scheduler", "d_lr_scheduler") if part in state.parts]:
            self.handlers.append(LrScheduleHandler(state.parts[part], print_lr=False, epoch_level=False))
        if process_rank() > 0:
            return
        if report is not None:
            if hasattr(network, "running_precision"):
                report.about.setdefault("precision", network.running_precision())
            self.handlers.insert(0, report)
        progress = ProgressLog(log_interval)
        self.handlers.append(progress)
        if writer is not None:
            about: dict[str, Any] = {"tag_name": "train_loss", "output_transform": loss_of}
            self.handlers.append(TensorBoardStatsHandler(writer, iteration_log=log_interval, **about))
        checkpoints = []
        if checkpoint_interval is not None:
            name = None if state.ema is None else "model.pt"
            checkpoints = [CheckpointWriter(output_dir, state, checkpoint_interval, model_name=name)]
            self.handlers.append(_AtEpochEnd(checkpoints[0].check))
        evaluators = list(filter(None, [validators] if isinstance(validators, Evaluator) else validators))
        for evaluator in evaluators:
            self._validate(evaluator, val_interval, progress, writer)
        if held_out is not None:
            self.handlers.append(HeldOutLoss(held_out, state.model, val_interval))
        # last, so that a run killed before it does the epoch again, with its validation and its curves
        self.handlers += [Curves(output_dir, evaluators, writer), *checkpoints]

    def _validate(self, evaluator: Evaluator, interval: int, progress: ProgressLog, writer: Any) -> None:
        if writer is not None:
            TensorBoardStatsHandler(writer, iteration_log=False).attach(evaluator)
        evaluator.add_event_handler(Events.STARTED, progress.announce)
        self.handlers.append(ValidationHandler(interval, evaluator))

    def attach(self, engine: Engine) -> None:
        """Attach them all to ``engine``, a MONAI trainer."""
        if isinstance(engine, AdversarialTrainer):
            Adversarial().attach(engine)
        for handler in self.handlers:
            if not (isinstance(handler, HeldOutLoss) and isinstance(engine, AdversarialTrainer)):
                handler.attach(engine)


class _AtEpochEnd:
    """A function as a handler."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.work)


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
    """The loss in a MONAI trainer's output; with its terms where there are several."""
    first = output[0] if isinstance(output, list) else output
    loss, terms = first[CommonKeys.LOSS], first[CommonKeys.PRED]
    if AdversarialKeys.DISCRIMINATOR_LOSS in first:
        return {"loss": loss, **{key: first[key].detach() for key in ADVERSARIAL_TERMS}}
    if not isinstance(terms, dict):
        return loss
    return {"loss": loss.detach(), **{name: values.detach().mean() for name, values in terms.items()}}


def summary_writer(output_dir: str | Path) -> SummaryWriter | None:
    """A TensorBoard writer for ``output_dir/tensorboard``; None in all processes but the one of rank 0."""
    return SummaryWriter(str(Path(output_dir, "tensorboard"))) if process_rank() == 0 else None
