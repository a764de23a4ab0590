"""Runs of med_vdm_cxr's configs in this process, with tiny networks, on pictures drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from tests.bundles.generate_runs import TINY
from tests.bundles.restoration_runs import write_picture
from tests.fixtures import DEVICE, REPOSITORY, network_arguments
from tests.masks.phantom2d import chest_picture

BUNDLE = REPOSITORY / "bundles" / "med_vdm_cxr"
CLASSES = ("bacteria", "normal", "virus")
DENSE = {"features": 16, "blocks": 1, "score_features": 16, "score_blocks": 1, "embedding": 16}
CONV = {**TINY, "num_res_blocks": 1}
TRAIN = {
    "device": DEVICE,
    "group_by": None,
    "batch_size": 4,
    "max_epochs": 1,
    "warmup": 1,
    "num_validation": 4,
    "val_times": 1,
    "num_previews": 2,
    "val_interval": 100,
    "checkpoint_interval": 1,
    "previews#inferer#num_inference_steps": 2,
}


def write_pictures(folder: Path, each: int = 10, size: int = 24) -> Path:
    """``each`` pictures of a class, in folders of the classes' names."""
    for number, name in enumerate(CLASSES):
        for index in range(each):
            write_picture(folder / name / f"{name}_{index:02d}.png", chest_picture(size, seed=100 * number + index))
    return folder


def network(*overlays: str) -> dict[str, Any]:
    """Overrides that make the network tiny: the pixel-space one where conv.json is among ``overlays``."""
    return network_arguments(CONV if "conv.json" in overlays else DENSE)


def training(data: Path, output: Path, *overlays: str, without: Sequence[str] = (), **overrides: Any) -> ConfigWorkflow:
    """The workflow of train.json and ``overlays``, initialised; ``without`` some of the settings of ``TRAIN``."""
    files = [str(BUNDLE / "configs" / name) for name in ("train.json", *overlays)]
    paths = {"dataset_dir": str(data), "output_dir": str(output)}
    given = {**TRAIN, **network(*overlays), **paths, "spatial_size": [16, 16]}
    given = {name: value for name, value in given.items() if name not in without}
    run = ConfigWorkflow(files, workflow_type="train", logging_file=False, **{**given, **overrides})
    run.initialize()
    return run


def train(*args: Any, **kwargs: Any) -> ConfigWorkflow:
    """Run it to its end."""
    run = training(*args, **kwargs)
    assert run.check_properties() == []
    run.run()
    run.finalize()
    return run


def inference(output: Path, weights: Path | str, *overlays: str, **overrides: Any) -> ConfigWorkflow:
    """The workflow of inference.json and ``overlays``, initialised."""
    files = [str(BUNDLE / "configs" / name) for name in ("inference.json", *overlays)]
    quiet = {} if "ood.json" in overlays else {"inferer#progress": False}
    given = {"device": DEVICE, "spatial_size": [16, 16], "num_inference_steps": 2, **quiet, **network(*overlays)}
    given |= {"weights": str(weights), "output_dir": str(output)}
    run = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **{**given, **overrides})
    run.initialize()
    return run
