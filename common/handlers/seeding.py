"""Random numbers that depend on the seed and the epoch alone, so that a run can go on after any epoch."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from torch.utils.data import DataLoader


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed in [0, 2**32) for one epoch of one process; all of them differ, and are the same on every machine."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


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
        self.rank = int(os.environ.get("RANK", "0")) if rank is None else rank

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
