"""Checkpoints that a training run can go on from as if it had never stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

from ..bundle.errors import running_workflow
from ..bundle.record import settings_of, update_record
from ..networks.weights import read_checkpoint, save_weights, write_torch
from .guards import EpochSeeding

logger = logging.getLogger(__name__)

_NAME = "checkpoint_epoch={epoch}.pt"


class TrainingState:
    """
    Everything that the rest of a training run depends on, as plain tensors and numbers.

    Network, EMA network and its warm-up, optimiser, learning-rate schedule, gradient scaler (with ``amp``), epoch and
    iteration. Random numbers are in it as the seed, see ``EpochSeeding``; so a state is whole at the end of an epoch.

    Args:
        network: the network itself, not its ``DistributedDataParallel``.
        ema: attached to the trainer; None for a training without.
        lr_scheduler: of the optimiser of that network.
        seeding: attached to the trainer.
        d_network: the discriminator of an adversarial training, with ``d_lr_scheduler`` of its optimiser; or None.

    Example:
        >>> network, data = torch.nn.Linear(2, 1), torch.utils.data.DataLoader([0.0, 1.0])
        >>> adam = torch.optim.Adam(network.parameters())
        >>> schedule = torch.optim.lr_scheduler.ConstantLR(adam)
        >>> list(TrainingState(network, None, schedule, EpochSeeding(0, data)).parts)
        ['network', 'optimizer', 'lr_scheduler', 'seeding']
    """

    def __init__(
        self,
        network: torch.nn.Module,
        ema: EMAHandler | None,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        seeding: EpochSeeding,
        d_network: torch.nn.Module | None = None,
        d_lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    ) -> None:
        self.ema: Any = ema
        self.model: Any = network if ema is None else ema.ema_model
        self.parts: dict[str, Any] = {"network": network}
        if ema is not None:
            self.parts["ema"] = ema.ema_model
        self.parts |= {"optimizer": lr_scheduler.optimizer, "lr_scheduler": lr_scheduler, "seeding": seeding}
        if d_network is not None and d_lr_scheduler is not None:
            own = {"d_optimizer": d_lr_scheduler.optimizer, "d_lr_scheduler": d_lr_scheduler}
            self.parts |= {"d_network": d_network, **own}

    def collect(self, engine: Engine) -> dict[str, Any]:
        """The state at the end of an epoch of ``engine``, a MONAI trainer."""
        state = {name: part.state_dict() for name, part in self._parts(engine).items()}
        warm_up = getattr(self.ema, "momentum_scheduler", None)
        trainer = {key: getattr(engine.state, key) for key in ("epoch", "iteration", "epoch_length", "max_epochs")}
        return {**state, "ema_updates": 0 if warm_up is None else warm_up.event_index, "trainer": trainer}

    def restore(self, engine: Engine, state: Mapping[str, Any]) -> None:
        """
        Put ``state`` back, for ``engine`` to go on with the next epoch.

        Raises:
            ValueError: when a part is missing, the number of iterations an epoch differs, or the run is longer than
                ``max_epochs``; nothing is changed then.
            RuntimeError: when the weights do not fit the network.
        """
        parts = self._parts(engine)
        missing = [name for name in (*parts, "ema_updates", "trainer") if name not in state]
        if missing:
            raise ValueError(f"The checkpoint has no {missing}: it holds {sorted(state)}, not a whole training state.")
        trainer = state["trainer"]
        if trainer["epoch_length"] != engine.state.epoch_length:
            raise ValueError(
                f"The checkpoint's epochs have {trainer['epoch_length']} iterations, those of this run "
                f"{engine.state.epoch_length}: the data, the batch size or the number of processes has changed."
            )
        if trainer["epoch"] > engine.state.max_epochs:
            raise ValueError(f"The checkpoint is of epoch {trainer['epoch']}, max_epochs is {engine.state.max_epochs}.")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        if getattr(self.ema, "momentum_scheduler", None) is not None:
            self.ema.momentum_scheduler.event_index = state["ema_updates"]
        engine.state.epoch = trainer["epoch"]
        engine.state.iteration = trainer["iteration"]

    def _parts(self, engine: Engine) -> dict[str, Any]:
        scaler = getattr(engine, "scaler", None)
        return self.parts if scaler is None else {**self.parts, "scaler": scaler}


class CheckpointWriter:
    """
    Write ``checkpoint_epoch=N.pt`` (the training state) and ``model.pt`` (the EMA weights, a plain state dict), with
    ``model.json``, the settings of the config that runs, see ``recall``.

    Both appear under their names only when they are complete (MONAI's ``CheckpointSaver`` writes in place, and with
    ``save_final`` it also writes what an exception has left half-trained), and older checkpoints go only after that.
    Broken weights are not written: the last optimiser step of an epoch can break them after a finite
    loss, and the checkpoint before is then what to go back to. A finished run that is resumed writes ``model.pt`` anew:
    a kill may have come between the last checkpoint and it.

    Args:
        output_dir: folder of the files, made where it is missing.
        state: what to write.
        interval: epochs from checkpoint to checkpoint; the last epoch always writes one.
        keep: number of checkpoints that stay, at least 1; 2 leave one to fall back to.
        model_name: of the weights' file; None for checkpoints alone.

    Raises:
        ValueError: when ``interval`` or ``keep`` is less than 1.
        FileExistsError: (as training starts from the beginning) when the folder already holds checkpoints.
        FloatingPointError: (as an epoch ends) when a weight of the network or of its EMA is broken.

    Example:
        >>> CheckpointWriter("runs", state=None, interval=0)
        Traceback (most recent call last):
        ValueError: interval and keep must be at least 1, got 0 and 2.
    """

    def __init__(
        self,
        output_dir: str | Path,
        state: TrainingState,
        interval: int = 1,
        keep: int = 2,
        model_name: str | None = "model.pt",
    ) -> None:
        if interval < 1 or keep < 1:
            raise ValueError(f"interval and keep must be at least 1, got {interval} and {keep}.")
        self.output_dir = Path(output_dir)
        self.state = state
        self.interval = interval
        self.keep = keep
        self.model_name = model_name
        self._written = False

    def attach(self, engine: Engine) -> None:
        """Write at the end of epochs of ``engine``; attach it in one process only."""
        # Once for epoch 1, which a resumed run does not start again.
        engine.add_event_handler(Events.EPOCH_STARTED(once=1), self.prepare)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.complete)

    def prepare(self, engine: Engine) -> None:
        """Refuse a folder that another run has written to."""
        found = checkpoints(self.output_dir)
        if found:
            raise FileExistsError(
                f"{found[0]} is there from an earlier run: go on with it by adding configs/resume.json to the config "
                "files, or choose another output_dir."
            )

    def __call__(self, engine: Engine) -> None:
        """Write, where the interval says so or the run ends."""
        epoch = engine.state.epoch
        if epoch % self.interval and epoch != engine.state.max_epochs:
            return
        self.check(engine)
        state = self.state.collect(engine)
        write_torch(self.output_dir / _NAME.format(epoch=epoch), state)
        self._write_model()
        self._prune()

    def check(self, engine: Engine) -> None:
        """Stop at broken weights; also for use before a validation, whose error would hide theirs."""
        weights = {name: part for name, part in self.state.parts.items() if name in ("network", "ema", "d_network")}
        _check_finite({name: part.state_dict() for name, part in weights.items()}, engine.state.epoch)

    def complete(self, engine: Engine) -> None:
        """Write the weights of a run that was finished before it was resumed, and remove what its end had left."""
        if not self._written and checkpoints(self.output_dir):
            self._write_model()
            self._prune()

    def _prune(self) -> None:
        for old in checkpoints(self.output_dir)[self.keep :]:
            old.unlink()

    def _write_model(self) -> None:
        self._written = True
        if self.model_name is not None:
            path = save_weights(self.state.model, self.output_dir / self.model_name)
            workflow = running_workflow()
            if workflow is not None:
                update_record(path, settings=settings_of(workflow.parser))


class ResumeTraining:
    """
    Go on from the newest readable checkpoint of a folder; from the beginning where there is none.

    Args:
        output_dir: where ``CheckpointWriter`` writes.
        state: what to restore.
        map_location: device to load to; what is restored goes to the network's, and Adam's counts stay on the CPU,
            where each step reads them.

    Raises:
        RuntimeError: (as training starts) when there are checkpoints and none can be read.

    Example:
        >>> ResumeTraining("no_such_folder", state=None)(engine=None)  # logs that there is nothing to go on from
    """

    def __init__(self, output_dir: str | Path, state: TrainingState, map_location: str | torch.device = "cpu") -> None:
        self.output_dir = Path(output_dir)
        self.state = state
        self.map_location = map_location

    def attach(self, engine: Engine) -> None:
        """Restore as ``engine`` starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Restore the newest readable checkpoint."""
        path, checkpoint = load_newest(self.output_dir, self.map_location)
        if path is None:
            logger.warning("No checkpoint in %s: training starts from the beginning.", self.output_dir)
            return
        self.state.restore(engine, checkpoint)
        logger.info("Going on from %s, after epoch %d of %d.", path, engine.state.epoch, engine.state.max_epochs)


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of ``folder``, newest epoch first."""
    prefix, suffix = _NAME.split("{epoch}")
    found = {path: path.name[len(prefix) : -len(suffix)] for path in Path(folder).glob(f"{prefix}*{suffix}")}
    numbered = {path: int(epoch) for path, epoch in found.items() if epoch.isdigit()}
    return sorted(numbered, key=lambda path: numbered[path], reverse=True)


def load_newest(folder: str | Path, map_location: str | torch.device = "cpu") -> tuple[Path | None, dict[str, Any]]:
    """
    The newest checkpoint of ``folder`` that can be read; unreadable ones are named in the log and passed over.

    Returns:
        Its path and content, or None and an empty dict where there is no checkpoint.

    Raises:
        RuntimeError: when there are checkpoints and none can be read.
    """
    found = checkpoints(folder)
    for path in found:
        try:
            return path, read_checkpoint(path, map_location=map_location)
        except ValueError as error:
            logger.warning("%s Trying the one before.", error)
    if found:
        raise RuntimeError(f"None of the checkpoints in {folder} can be read: {[path.name for path in found]}.")
    return None, {}


def _check_finite(parts: Mapping[str, Mapping[str, torch.Tensor]], epoch: int) -> None:
    """Stop at weights that are no numbers, or so large (above 1e19) that the next normalisation overflows."""
    for name, weights in parts.items():
        for key, value in weights.items():
            broken = int(value.numel() - value.float().square().isfinite().sum())
            if broken:
                raise FloatingPointError(
                    f"{broken} of {value.numel()} weights in {key} ({name}) are NaN, infinite or too large to square "
                    f"after epoch {epoch}: nothing is written, an earlier checkpoint stays as it is. Lower "
                    "learning_rate, set max_grad_norm, or set precision to fp32."
                )
