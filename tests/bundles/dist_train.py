"""What each process of the torchrun test does: train, go on, train in one go, write down what it ended with."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import torch

from tests.bundles.training import train, weights


def digest(run) -> str:
    values = weights(run)
    return sha256(b"".join(values[key].numpy().tobytes() for key in sorted(values))).hexdigest()


def main(data: Path, output: Path) -> None:
    """
    One epoch and then the second, beside two in one go; ``rank_N.json`` goes beside the output.

    Only the last run ends the process group: torchrun's store keeps the addresses of a group that has ended, so that
    the same processes cannot form another one.
    """
    overlay = "multi_gpu_train.json"
    options = {"max_epochs": 2, "val_interval": 1}
    train(data, output / "parts", overlay, finalize=False, **options, **{"train#trainer#max_epochs": 1})
    resumed = train(data, output / "parts", overlay, "resume.json", finalize=False, **options)
    whole = train(data, output / "whole", overlay, **options)
    handlers = [one for given in resumed.train_handlers for one in getattr(given, "handlers", [given])]
    result = {
        "resumed": digest(resumed),
        "whole": digest(whole),
        "iterations": resumed.trainer.state.iteration,
        "cases": cases(resumed),
        "group_is_left": torch.distributed.is_initialized(),
        "handlers": [type(handler).__name__ for handler in handlers],
    }
    (output / f"rank_{os.environ['RANK']}.json").write_text(json.dumps(result))


def cases(run) -> list[str]:
    """What this process's sampler draws in an epoch."""
    sampler = run.parser.get_parsed_content("train#sampler")
    return [sampler.dataset.data[index]["case"] for index in sampler]


if __name__ == "__main__":
    faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)  # where a run that hangs has stopped
    main(Path(sys.argv[1]), Path(sys.argv[2]))
