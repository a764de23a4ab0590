from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandFlipd

from common.handlers.guards import EpochSeeding, epoch_seed


def loader(cases: int = 5, **kwargs) -> DataLoader:
    data = [{"image": torch.arange(4.0)[None, :] + 10 * index} for index in range(cases)]
    transform = Compose([RandFlipd("image", prob=0.5, spatial_axis=0)])
    return DataLoader(Dataset(data, transform), batch_size=2, shuffle=True, **kwargs)


def drawn(first_epoch: int, epochs: int, seed: int = 0, workers: int = 0) -> list[list[float]]:
    """All numbers that ``epochs`` epochs see, after an unrelated past."""
    torch.manual_seed(first_epoch + 17)
    random.seed(first_epoch)
    dataloader = loader(num_workers=workers)
    seen: list[list[float]] = []

    def step(engine: Engine, batch: dict) -> None:
        noise = [float(torch.rand(())), random.random(), float(np.random.rand())]  # noqa: NPY002
        seen[-1].extend([*batch["image"].flatten().tolist(), *noise])

    engine = Engine(step)
    EpochSeeding(seed, dataloader).attach(engine)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: seen.append([]))

    @engine.on(Events.STARTED)
    def skip() -> None:
        engine.state.epoch = first_epoch
        engine.state.iteration = first_epoch * len(dataloader)

    engine.run(dataloader, max_epochs=first_epoch + epochs)
    return seen


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_draws_the_same_whatever_came_before(workers):
    assert drawn(0, 3, workers=workers)[2] == drawn(2, 1, workers=workers)[0]


def test_epochs_and_seeds_differ():
    first, second = drawn(0, 2)
    assert first != second
    assert drawn(0, 1, seed=1)[0] != first


def test_epoch_seed_differs_between_processes_and_stays():
    seeds = {epoch_seed(0, epoch, rank) for epoch in range(20) for rank in range(4)}
    assert len(seeds) == 80
    assert epoch_seed(0, 1, 0) == 3964924996  # NumPy keeps SeedSequence's stream from version to version


def test_the_seed_of_the_checkpoint_wins():
    seeding = EpochSeeding(5, loader())
    seeding.load_state_dict(EpochSeeding(7, loader()).state_dict())
    assert seeding.seed == 7


def test_too_few_cases_for_a_batch():
    with pytest.raises(ValueError, match="1 training cases do not fill a batch of 2"):
        EpochSeeding(0, loader(1, drop_last=True))


def test_persistent_workers_are_refused():
    with pytest.raises(ValueError, match="persistent_workers"):
        EpochSeeding(0, loader(num_workers=1, persistent_workers=True))
