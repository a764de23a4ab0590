"""How a training goes, epoch by epoch: a table, a picture of its curves, and the loss on cases that are held out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.handlers import from_engine
from monai.networks.utils import eval_mode
from monai.utils import CommonKeys
from torch import nn

from ..utils.files import read_csv, write_csv
from ..visualize.pictures import COLOURS, save_figure

_LOSSES = ("train_loss", "held_out_loss")
_RATE = "learning_rate"
_PATIENCE = 20  # drawing takes at most about a twentieth of the time


class HeldOutLoss:
    """
    The trainer's own loss on held-out cases, as ``held_out_loss`` in its metrics, with the same noise in each epoch.

    Args:
        loader: of the cases, whose batches the trainer's ``prepare_batch`` takes.
        network: whose loss it is, such as the moving average of the weights.
        interval: epochs from one to the next.

    Example:
        >>> HeldOutLoss(loader=[], network=torch.nn.Identity()).interval
        1
    """

    def __init__(self, loader: Any, network: nn.Module, interval: int = 1) -> None:
        self.loader = loader
        self.network = network
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Measure at the end of epochs of ``engine``, a MONAI ``SupervisedTrainer``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Any) -> None:
        """Measure; random numbers of the training stay as they are."""
        losses = []
        with torch.no_grad(), eval_mode(self.network), torch.random.fork_rng():
            torch.manual_seed(0)
            for data in self.loader:
                batch = engine.prepare_batch(data, engine.state.device, engine.non_blocking, **engine.to_kwargs)
                inputs, targets, args, kwargs = batch if len(batch) == 4 else (*batch, (), {})
                losses.append(
                    float(engine.loss_function(engine.inferer(inputs, self.network, *args, **kwargs), targets))
                )
        if losses:
            engine.state.metrics["held_out_loss"] = sum(losses) / len(losses)


class Curves:
    """
    Write ``progress.csv`` and ``progress.png`` at the end of each epoch, and the same values into TensorBoard.

    A row an epoch: mean training loss, held-out loss, learning rate, and the metrics of the validators that ran. A run
    that is resumed goes on with the rows before.

    Args:
        output_dir: folder of the two files.
        validators: MONAI evaluators, to be run before this handler.
        writer: a ``SummaryWriter``, or None.

    Example:
        >>> Curves("no_such_folder").rows
        []
    """

    def __init__(self, output_dir: str | Path, validators: Sequence[Any] = (), writer: Any = None) -> None:
        self.output_dir = Path(output_dir)
        self.validators = list(validators)
        self.writer = writer
        self.rows: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._loss = from_engine(CommonKeys.LOSS, first=True)
        self._drawn, self._cost = -math.inf, 0.0

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, a MONAI trainer; to be attached after the handlers that validate."""
        engine.add_event_handler(Events.EPOCH_STARTED(once=1), lambda engine: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def note(self, engine: Any) -> None:
        """Keep the loss of an iteration."""
        loss = self._loss(engine.state.output)
        loss = loss[0] if isinstance(loss, tuple) else loss
        self._losses.append(float(torch.as_tensor(loss).detach()))

    def __call__(self, engine: Any) -> None:
        """Write the row of this epoch, and draw where it is time."""
        epoch, metrics = engine.state.epoch, dict(engine.state.metrics)
        for validator in self.validators:
            if validator.state.epoch == epoch:
                metrics |= validator.state.metrics
        row = {"epoch": float(epoch), "train_loss": sum(self._losses) / max(1, len(self._losses))}
        row |= {name: float(value) for name, value in metrics.items() if _is_number(value)}
        row[_RATE] = float(engine.optimizer.param_groups[0]["lr"])
        self._losses.clear()
        engine.state.metrics.pop("held_out_loss", None)
        if not self.rows and epoch > 1:
            self.rows = [old for old in read_rows(self.output_dir / "progress.csv") if old["epoch"] < epoch]
        self.rows.append(row)
        for name in (*_LOSSES, _RATE):
            if self.writer is not None and name in row:
                self.writer.add_scalar(f"epoch/{name}", row[name], epoch)
        write_rows(self.output_dir / "progress.csv", self.rows)
        now = time.monotonic()
        if epoch == engine.state.max_epochs or now - self._drawn > _PATIENCE * self._cost:
            save_figure(curves_figure(self.rows, engine.state.max_epochs), self.output_dir / "progress.png")
            self._drawn = time.monotonic()
            self._cost = self._drawn - now


def curves_figure(rows: Sequence[dict[str, float]], max_epochs: int) -> Figure:
    """
    Losses, scores and learning rate over the epochs, one below the other.

    Args:
        rows: of ``Curves``; a value may be missing in some.
        max_epochs: right end of the axes.
    """
    scores = sorted({name for row in rows for name in row} - {*_LOSSES, _RATE, "epoch"})
    groups = [[name for name in _LOSSES if any(name in row for row in rows)], *([scores] if scores else []), [_RATE]]
    figure = Figure(figsize=(7, 2.2 * len(groups)), dpi=110, layout="constrained")
    for ax, names in zip(figure.subplots(len(groups), squeeze=False)[:, 0], groups):
        for name, colour in zip(names, COLOURS * (1 + len(names) // len(COLOURS))):
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            ax.plot(*zip(*points), color=colour, marker="." if len(points) < 30 else None, label=name.replace("_", " "))
        ax.set_xlim(0, max(max_epochs, 2))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    ax.set_xlabel("epoch")
    figure.suptitle(f"Epoch {rows[-1]['epoch']:.0f} of {max_epochs}", fontsize=10)
    return figure


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a ``progress.csv``; none where there is no such file."""
    rows = read_csv(path) if path.is_file() else []
    return [{name: float(text) for name, text in row.items() if text} for row in rows]


def write_rows(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write a ``progress.csv``, a column a name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(path, names, [[f"{row[name]:.8g}" if name in row else "" for name in names] for row in rows])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1)
