"""Runs of the classify and explain configs on drawn images: two classes, a bright or a dark block on noise."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigWorkflow

from common.studies.synthetic import image_name, write_manifest, write_synthetic
from tests.bundles.restoration_runs import write_picture
from tests.fixtures import DEVICE, REPOSITORY

BRAIN, SMEAR, CT = BUNDLES = ("dm_brain_tumor_mri", "dm_leukemia_smear", "dm_sars_cov2_ct")
CLASSES = ["bright", "dark"]
SIDE = 24
# Tells the two classes apart after a few steps.
LINEAR = (
    "$lambda architecture: torch.nn.Sequential("
    "torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(9 * @channels, 2))"
)
RECORD = {"seed": 0, "steps": 10, "step_rule": "DPMSolverPP2M", "weights_sha256": "0" * 64}


def picture(name: str, seed: int, colour: bool = False) -> np.ndarray:
    """(24, 24) or (24, 24, 3), uint8."""
    image = np.random.default_rng(seed).integers(90, 150, (SIDE, SIDE), dtype=np.uint8)
    image[8:18, 8:18] = 230 if name == "bright" else 20
    return np.stack([image, 255 - image, image // 2], axis=-1) if colour else image


def write_real(folder: Path, each: int = 20, colour: bool = False, copies: bool = False) -> Path:
    """
    ``each`` images a class; with ``copies`` every second one repeats the one before, and the manifest says so. Two such
    pairs are a series, and a pair looks like the one five further.
    """
    rows = ["path,class,group,series,lookalike"]
    for name in CLASSES:
        for index in range(each):
            group = index // 2 if copies else index
            write_picture(folder / name / f"{index:03d}.png", picture(name, 100 + group, colour))
            rows.append(f"{name}/{index:03d}.png,{name},{name}{group},{name}{index // 4},{name}{group % 5}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_set(
    folder: Path,
    each: int = 10,
    colour: bool = False,
    classes: Sequence[str] = CLASSES,
    wrong: Collection[tuple[str, int]] = (),
) -> Path:
    """A synthetic set as generate.json writes it; those in ``wrong`` show the other class."""
    paths = [image_name(name, number) for name in classes for number in range(each)]
    for path in paths:
        name, number = path.split("/")[0], int(path[-9:-4])
        record = {**RECORD, "class": name, "number": number}
        shown = name if (name, number) not in wrong else next(other for other in CLASSES if other != name)
        write_synthetic(folder / path, picture(shown, number, colour), record)
    write_manifest(folder, paths)
    return folder


def write_data(folder: Path) -> Path:
    """Twenty real and ten synthetic images a class, grey and in colour."""
    for kind in ("grey", "colour"):
        write_real(folder / kind / "real", colour=kind == "colour", copies=True)
        write_set(folder / kind / "synthetic", colour=kind == "colour")
    return folder


def study(bundle: str, data: Path, output: Path | None, *overlays: str, **overrides: Any) -> ConfigWorkflow:
    """The workflow of classify.json and ``overlays`` on ``data/real`` and ``data/synthetic``, initialised."""
    files = [str(REPOSITORY / "bundles" / bundle / "configs" / f"{name}.json") for name in ("classify", *overlays)]
    given = {"dataset_dir": str(data / "real"), "synthetic_dir": str(data / "synthetic"), "classes": CLASSES}
    given |= {"spatial_size": [SIDE, SIDE], "per_class": 10, "group_by": "group", "folds": 2, "max_epochs": 6}
    given |= {"network_def": LINEAR, "learning_rate": 0.1, "batch_size": 4, "device": DEVICE}
    if output is not None:
        given["output_dir"] = str(output)
    run = ConfigWorkflow(files, workflow_type="train", logging_file=False, **{**given, **overrides})
    run.initialize()
    return run


def parsed(run: ConfigWorkflow, name: str) -> Any:
    """An item of its config, built."""
    return run.parser.get_parsed_content(name)
