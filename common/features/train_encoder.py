"""
Train a small encoder: ``python -m common.features.train_encoder --name cxr_v1 --dataset_dir DIR --out FILE``.

It learns what an image shows, and how strongly it was degraded: random degradations of known strength.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose, Orientationd, ScaleIntensityRangePercentilesd
from sklearn.metrics import accuracy_score, r2_score, recall_score
from torch import Tensor
from torch.nn import functional as F

from ..data.lists import Case, image_cases, paired_cases
from ..data.reader import LoadImaged, read_image
from ..data.splits import split_cases
from ..networks.weights import save_weights
from ..utils.commands import run_commands
from ..utils.files import sha256_of, write_json
from .encoders import DEGRADATIONS, ENCODERS, Encoder, EncoderPlan, degrade

logger = logging.getLogger(__name__)

SIDE = 128


def mask_numbers(labels: Tensor) -> Tensor:
    """
    Size and position of two parts of a mask.

    Args:
        labels: (N, 1, *spatial), values 0, 1, 2.

    Returns:
        (N, 8): of each part ten times its share of the voxels and its centre in [-1, 1]; 0 where it is absent.
    """
    numbers = []
    grids = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in labels.shape[2:]), indexing="ij")
    for value in (1, 2):
        part = (labels[:, 0] == value).float()
        total = part.flatten(1).sum(1).clamp(min=1)
        numbers.append(10 * part.flatten(1).mean(1))
        numbers += [(part * grid).flatten(1).sum(1) / total for grid in grids]
    return torch.stack(numbers, dim=1)


def encoder_cases(plan: EncoderPlan, dataset_dir: str | Path) -> list[Case]:
    """Cases of an encoder's data set; hippocampi grouped as the bundle med_ddpm_3d groups them, for the same split."""
    if plan.classes:
        return image_cases(dataset_dir, plan.group)
    folders = {"image": "images", "label": "labels"}
    return paired_cases(dataset_dir, folders, lambda name: (int(name.split("_")[1]) + 1) // 2)


def load_slices(cases: list[Case], side: int = SIDE) -> Tensor:
    """Grey 8-bit images as (N, 1, side, side), float16 in [-1, 1], resized with an area filter."""
    images = torch.empty(len(cases), 1, side, side, dtype=torch.float16)
    for index, case in enumerate(cases):
        image = torch.from_numpy(read_image(case["image"]).values[None, :1, :, :, 0]).mT.float()
        images[index] = F.interpolate(image, (side, side), mode="bilinear", antialias=True)[0] / 127.5 - 1
    return images


def load_volumes(cases: list[Case]) -> list[tuple[Tensor, Tensor]]:
    """Volumes scaled by their percentiles 0.5 and 99.5 to [-1, 1], with their masks, each (1, *spatial) in RAS."""
    keys = ("image", "label")
    scale = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, -1.0, 1.0, clip=True)
    read: Any = Compose([LoadImaged(keys, spatial_dims=3), Orientationd(keys, "RAS", labels=None), scale])
    loaded = (read({key: case[key] for key in keys}) for case in cases)
    return [(case["image"].as_tensor().float(), case["label"].as_tensor().float()) for case in loaded]


def jittered(images: Tensor, generator: torch.Generator, mirror: bool) -> Tensor:
    """Images turned by up to 0.15 rad, zoomed and stretched by 0.8 to 1.2, moved by up to a tenth; edges repeated."""
    n = len(images)
    u = torch.rand(n, 5, generator=generator) * 2 - 1
    angle, zoom, stretch = 0.15 * u[:, 0], 1 + 0.2 * u[:, 1], 1 + 0.05 * u[:, 2]
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0) if mirror else torch.ones(n)
    first = torch.stack([flip * zoom * stretch * angle.cos(), -angle.sin(), 0.1 * u[:, 3]], dim=1)
    second = torch.stack([flip * angle.sin(), zoom * angle.cos(), 0.1 * u[:, 4]], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_crops(volumes: list[tuple[Tensor, Tensor]], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops of all volumes and masks to the smallest side, mirrored at random along the first axis."""
    sides = [min(v.shape[axis] for v, _ in volumes) for axis in (1, 2, 3)]
    images, labels = [], []
    for volume, mask in volumes:
        starts = [int(torch.randint(0, w - s + 1, (), generator=generator)) for w, s in zip(volume.shape[1:], sides)]
        box = (slice(None), *(slice(start, start + side) for start, side in zip(starts, sides)))
        turn = [1] if torch.rand((), generator=generator) < 0.5 else []
        images.append(volume[box].flip(turn))
        labels.append(mask[box].flip(turn))
    return torch.stack(images), torch.stack(labels)


class TrainingSet:
    """
    Batches of images before degradation and what their content is.

    Args:
        plan: of the encoder.
        cases: of one side of the split.
    """

    def __init__(self, plan: EncoderPlan, cases: list[Case]) -> None:
        self.plan = plan
        self.data: Any = load_slices(cases) if plan.classes else load_volumes(cases)
        self.targets = torch.tensor([plan.content.index(c["class"]) for c in cases]) if plan.classes else None

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless random batches: images (N, 1, *spatial) in [-1, 1] and class indices or numbers of the mask."""
        while True:
            order = torch.randperm(len(self.data), generator=generator)
            for chosen in order[: len(order) // size * size].split(size):
                if self.targets is not None:
                    images = jittered(self.data[chosen].float(), generator, mirror=self.plan.group == "group")
                    yield images, self.targets[chosen]
                else:
                    images, labels = random_crops([self.data[i] for i in chosen], generator)
                    yield images, mask_numbers(labels)


def loss_of(network: Encoder, images: Tensor, content: Tensor, strengths: Tensor, classes: bool) -> Tensor:
    """Cross entropy (or squared error) of the content plus ten times the squared error of the strengths."""
    features = network(images)
    found = network.content(features)
    of_content = F.cross_entropy(found, content, label_smoothing=0.1) if classes else 10 * F.mse_loss(found, content)
    return of_content + 10 * F.mse_loss(network.quality(features), strengths)


def train(
    name: str,
    dataset_dir: str,
    out: str,
    steps: int = 1500,
    batch_size: int = 32,
    learning_rate: float = 4e-3,
    seed: int = 0,
    held_out: float = 0.2,
) -> dict[str, Any]:
    """
    Train an encoder on a share of the groups and write its weights, half precision where that is harmless.

    Args:
        name: an entry of ``ENCODERS``.
        dataset_dir: folder with manifest.csv.
        out: file of the weights.
        steps: number of batches.
        batch_size: images a batch.
        learning_rate: highest, of one cycle.
        seed: of the weights and all draws; the split has seed 0 as everywhere.
        held_out: share of the groups that is not seen.

    Returns:
        What was measured on the held-out share, also written beside ``out`` as JSON.

    Raises:
        ValueError: for an unknown name, or an ``out`` that is no name of a ``.pt`` file.
        FileNotFoundError: when there are no images.
        RuntimeError: when the loss is not finite.
    """
    if name not in ENCODERS:
        raise ValueError(f"name must be one of {sorted(ENCODERS)}, got {name!r}.")
    if Path(out).suffix != ".pt" or Path(out).is_dir():
        raise ValueError(f"out must be the name of a .pt file, got {out}.")
    plan = ENCODERS[name]
    shares = split_cases(encoder_cases(plan, dataset_dir), [1 - held_out, held_out], seed=0)
    started = time.monotonic()
    network = fitted(plan, shares[0], steps, batch_size, learning_rate, seed)
    save_weights(network, out, half=True)
    result = {"name": name, "steps": steps, "batch_size": batch_size, "seed": seed, "sha256": sha256_of(out)}
    result |= held_out_quality(network.eval(), plan, shares[1], batch_size)
    result["seconds"] = round(time.monotonic() - started)
    write_json(Path(out).with_suffix(".json"), result, 2)
    return result


def fitted(
    plan: EncoderPlan, cases: list[Case], steps: int, batch_size: int, learning_rate: float, seed: int
) -> Encoder:
    """The encoder after ``steps`` batches, AdamW under one cycle of the learning rate."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = plan.build().train()
    if plan.classes:  # The first levels are large and narrow: this layout halves their time on a CPU.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = TrainingSet(plan, cases).batches(batch_size, generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.15)
    logger.info("%d images to train on", len(cases))
    started = time.monotonic()
    for step in range(1, steps + 1):
        loss = loss_of(network, *_degraded(*next(batches), generator), plan.classes)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RuntimeError(f"The loss of step {step} is {value}; lower learning_rate.")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 20) == 0:
            logger.info("step %d of %d, loss %.3f, %.0f s", step, steps, value, time.monotonic() - started)
    return network


@torch.no_grad()
def held_out_quality(network: Encoder, plan: EncoderPlan, cases: list[Case], batch_size: int) -> dict[str, Any]:
    """Accuracy (or R² of the mask's numbers) on clean images, and R² of each degradation's strength."""
    generator = torch.Generator().manual_seed(1)
    source = TrainingSet(plan, cases)
    content: dict[str, Any]
    if source.targets is not None:
        classes = torch.cat([network.content(network(x.float())) for x in source.data.split(batch_size)]).argmax(1)
        there = source.targets.unique()
        recall = recall_score(source.targets, classes, labels=there, average=None)
        content = {
            "accuracy": float(accuracy_score(source.targets, classes)),
            "recall": {plan.content[index]: float(value) for index, value in zip(there, recall)},
        }
    else:
        crops = [random_crops([v], generator) for v in source.data]
        numbers = torch.cat([network.content(network(x)) for x, _ in crops])
        content = dict(zip(plan.content, _r_squared(numbers, torch.cat([mask_numbers(m) for _, m in crops]))))
    batches = source.batches(min(batch_size, len(cases)), generator)
    pairs = []
    for _ in range(max(1, min(20, 640 // batch_size))):
        images, _, strengths = _degraded(*next(batches), generator)
        pairs.append((network.quality(network(images)), strengths))
    found, true = (torch.cat(part) for part in zip(*pairs))
    return {
        "held_out": len(cases),
        "content": content,
        "r2_of_degradations": dict(zip(DEGRADATIONS, _r_squared(found, true))),
    }


def _r_squared(found: Tensor, true: Tensor) -> list[float]:
    """Explained share of the variance of each column."""
    return [round(float(v), 3) for v in r2_score(true, found, multioutput="raw_values")]


def _degraded(images: Tensor, content: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    degraded, strengths = degrade(images, generator)
    layout = torch.channels_last if images.ndim == 4 else torch.contiguous_format
    return degraded.contiguous(memory_format=layout), content, strengths


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(run_commands(train, "common.features.train_encoder"))
