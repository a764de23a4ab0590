"""One network of a cross-validation: trained on some folds, stopped early on another, its best weights kept."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Accuracy, Loss
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import EarlyStopHandler, ValidationHandler
from monai.transforms import Compose
from torch import nn

from ..handlers.guards import EpochSeeding, StopOnNonFiniteLoss, epoch_seed
from ..inferers.training import AutocastInferer
from ..networks.device import resolve_memory_format, resolve_precision

logger = logging.getLogger(__name__)
_KEYS = ("image", "class_index")


@dataclass(frozen=True)
class TrainingPlan:
    """
    How each network is trained.

    Attributes:
        optimizer: parameters -> optimiser.
        loss: of (N, classes) logits and (N,) class indices.
        augmentation: random transforms of a loaded case, for training only.
        batch_size: images a step.
        max_epochs: at most so many.
        patience: epochs without a lower validation loss after which training stops.
        num_workers: processes that augment.
        precision: "fp32", "bf16", "fp16" (with loss scaling, on GPUs alone), or "auto": bf16 where the hardware has it.
        memory_format: "contiguous", "channels_last", or "auto": channels-last on CUDA and CPUs with bf16.
        device: to train on.
        seed: of weights, order and augmentation.

    >>> plan = TrainingPlan(torch.optim.SGD, batch_size=2)
    >>> cases = [{"image": torch.full((1, 2, 2), x), "class_index": int(x > 0)} for x in (-1.0, 1.0, -1.0)]
    >>> [len(batch["image"]) for batch in plan.loader(cases)]
    [2, 1]
    """

    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = field(default_factory=nn.CrossEntropyLoss)
    augmentation: Sequence[Any] = ()
    batch_size: int = 32
    max_epochs: int = 50
    patience: int = 5
    num_workers: int = 0
    precision: str = "auto"
    memory_format: str = "auto"
    device: str | torch.device = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype is torch.float16 and torch.device(self.device).type != "cuda":
            raise ValueError(f"precision 'fp16' is for GPUs; 'bf16' or 'fp32' was expected on {self.device}.")

    @property
    def dtype(self) -> torch.dtype:
        """That of convolutions and products in training; weights are float32, as is what ``predict`` does."""
        return resolve_precision(self.precision, torch.device(self.device))

    def place(self, network: nn.Module) -> None:
        """Move ``network`` to the device, in the layout that training runs in."""
        layout = resolve_memory_format(self.memory_format, torch.device(self.device), 2)
        network.to(self.device, memory_format=layout or torch.preserve_format)  # type: ignore[call-overload]

    def loader(self, cases: Sequence[dict[str, Any]], training: bool = False) -> DataLoader:
        """Batches of loaded cases; for training shuffled, augmented and full (batch normalisation needs two images)."""
        items = [{key: case[key] for key in _KEYS} for case in cases]
        transforms = [_as_float, *(self.augmentation if training else ())]
        return DataLoader(
            Dataset(items, transform=Compose(transforms)),
            batch_size=min(self.batch_size, len(items)),
            shuffle=training,
            drop_last=training and len(items) > self.batch_size,
            num_workers=self.num_workers,
        )


def train_fold(
    network: nn.Module, train: Sequence[dict[str, Any]], valid: Sequence[dict[str, Any]], plan: TrainingPlan, fold: int
) -> dict[str, Any]:
    """
    Train ``network`` in place; it ends with the weights of the epoch with the lowest validation loss.

    Args:
        network: (N, C, H, W) in [-1, 1] -> (N, classes) logits.
        train: loaded cases, each with "image", (C, H, W) in [-1, 1], and "class_index".
        valid: the same, of the fold that is held out.
        plan: see there.
        fold: number of the fold, for the seed.

    Returns:
        "train_loss", "train_accuracy", "val_loss", "val_accuracy" of the best epoch, "best_epoch", "epochs", "seconds".

    Raises:
        FloatingPointError: when the loss is not finite.
    """
    started = time.monotonic()
    plan.place(network)
    trainer, best = _engines(network, train, valid, plan, fold)
    trainer.run()
    best.restore()
    result: dict[str, Any] = {"best_epoch": best.epoch, "epochs": trainer.state.epoch}
    del trainer, best
    gc.collect()  # engines and handlers refer to each other, and hold gradients, moments and weights
    for name, cases in (("train", train), ("val", valid)):
        found = predict(network, cases, plan)
        labels = np.array([int(case["class_index"]) for case in cases])
        chosen = np.maximum(found[np.arange(len(labels)), labels], 1e-12)
        result[f"{name}_loss"] = float(-np.log(chosen).mean())
        result[f"{name}_accuracy"] = float((found.argmax(1) == labels).mean())
    return {**result, "seconds": round(time.monotonic() - started, 1)}


@torch.inference_mode()
def predict(network: nn.Module, cases: Sequence[dict[str, Any]], plan: TrainingPlan) -> np.ndarray:
    """
    Class probabilities of loaded cases, (n, classes) float64, in their order.

    In eval mode and float32, with what ``torch.backends`` allows there (by default, TF32 convolutions on newer GPUs).
    """
    network.eval()
    found = [network(batch["image"].to(plan.device)).softmax(1).cpu() for batch in plan.loader(cases)]
    return torch.cat(found).double().numpy()


@dataclass
class _BestWeights:
    """Keep a copy of a network's weights whenever the validation loss is the lowest so far."""

    network: nn.Module
    loss: float = float("inf")
    epoch: int = 0
    state: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, evaluator: Engine) -> None:
        metrics, now = evaluator.state.metrics, evaluator.state.epoch
        loss = float(metrics["val_loss"])
        if loss < self.loss:
            self.loss, self.epoch = loss, now
            self.state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        score = f"val_loss {loss:.4f}, val_accuracy {metrics['val_accuracy']:.3f}"
        logger.info(f"Epoch {now}: {score}; lowest val_loss {self.loss:.4f} in epoch {self.epoch}.")

    def restore(self) -> None:
        """Give the network the kept weights; those of the end where no loss was a number."""
        if self.state:
            self.network.load_state_dict(self.state)


def _engines(
    network: nn.Module, train: Sequence[dict[str, Any]], valid: Sequence[dict[str, Any]], plan: TrainingPlan, fold: int
) -> tuple[SupervisedTrainer, _BestWeights]:
    loader = plan.loader(train, training=True)
    inferer = AutocastInferer(plan.dtype)
    evaluator = SupervisedEvaluator(
        device=torch.device(plan.device),
        val_data_loader=plan.loader(valid),
        network=network,
        prepare_batch=_prepare_batch,
        key_val_metric={"val_loss": Loss(nn.functional.cross_entropy, output_transform=_pred_and_label)},
        additional_metrics={"val_accuracy": Accuracy(output_transform=_pred_and_label)},
        metric_cmp_fn=lambda new, old: new < old,
        inferer=inferer,
        decollate=False,
    )
    best = _BestWeights(network)
    evaluator.add_event_handler(Events.COMPLETED, best)
    trainer = SupervisedTrainer(
        device=torch.device(plan.device),
        max_epochs=plan.max_epochs,
        train_data_loader=loader,
        network=network,
        optimizer=plan.optimizer(network.parameters()),
        loss_function=plan.loss,
        prepare_batch=_prepare_batch,
        inferer=inferer,
        amp=plan.dtype is torch.float16,  # scales the loss
        optim_set_to_none=True,
        decollate=False,
        train_handlers=[
            EpochSeeding(epoch_seed(plan.seed, fold), loader),
            StopOnNonFiniteLoss(),
            ValidationHandler(interval=1, validator=evaluator),
        ],
    )
    score: Callable[[Engine], float] = lambda engine: -engine.state.metrics["val_loss"]  # noqa: E731
    EarlyStopHandler(patience=plan.patience, score_function=score, trainer=trainer).attach(evaluator)
    return trainer, best


def _as_float(case: dict[str, Any]) -> dict[str, Any]:
    """Images wait in memory as halves."""
    return {**case, "image": torch.as_tensor(case["image"]).float()}


def _prepare_batch(batch: Any, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> tuple[Any, Any]:
    return tuple(batch[key].to(device, non_blocking=non_blocking) for key in _KEYS)  # type: ignore[return-value]


def _pred_and_label(output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return output["pred"].float(), output["label"]
