"""What a long training run shows of itself: mean loss, speed and time left on the console."""

from __future__ import annotations

import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.apps import get_logger
from monai.handlers import from_engine
from monai.utils import CommonKeys


class ProgressLog:
    """
    Log the mean loss of every ``interval`` iterations, the time of each epoch and the time left.

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
        if within % self.interval and within != state.epoch_length:
            return
        mean = sum(self._losses) / len(self._losses)
        pace, left = self._pace(engine)
        lr = engine.optimizer.param_groups[0]["lr"]
        self.logger.info(
            f"Epoch {state.epoch}/{state.max_epochs}, iteration {within}/{state.epoch_length}: "
            f"mean loss of {len(self._losses)} {mean:.4f}, lr {lr:.2g}, "
            f"{pace:.2f} s an iteration, {duration(left)} left"
        )
        self._losses.clear()

    def epoch_completed(self, engine: Any) -> None:
        """Log the time of the epoch and the time left."""
        state = engine.state
        took = time.monotonic() - self._epoch_start
        self.logger.info(
            f"Epoch {state.epoch}/{state.max_epochs} took {duration(took)}, {duration(self._pace(engine)[1])} left"
        )

    def _pace(self, engine: Any) -> tuple[float, float]:
        """Seconds an iteration since this process began (previews and checkpoints included), and seconds left."""
        state = engine.state
        pace = (time.monotonic() - self._start) / max(1, state.iteration - (self._first_iteration or 0))
        return pace, pace * (state.max_epochs * state.epoch_length - state.iteration)


def duration(seconds: float) -> str:
    """Words for a time, such as "2 h 05 min", "3 min 20 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
