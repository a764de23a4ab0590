"""
Whether a machine observer sees where ``insert.json`` has drawn a region anew in real, held-out volumes.

    python -m benchmarks.inserted_seam --dataset_dir DATA --out seam
    python -m benchmarks.inserted_seam --dataset_dir DATA --out seam_0 --blend 0
    python -m benchmarks.inserted_seam --dataset_dir DATA --out seam_same --factor 1

The labels of each held-out volume are scaled by ``--factor``, the region is drawn anew, and the observer compares
original and changed volumes, both in the range of the original: whole volumes, and the box around what has changed,
4 voxels wider, in which the seam lies. A case and its changed version lie in one fold of its cross-validation. The step
at the border is the mean squared difference of neighbours on its two sides, divided by that of the original. With
factor 1 the labels stay as they are and their whole region is drawn anew, as if they had just been added: then no
larger anatomy tells the changed volume from the original, and the seam and the texture are all that can.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from scipy.ndimage import binary_closing
from torch import Tensor

from benchmarks.moved_labels import ROOT
from common.data.finder import stem_of
from common.data.lists import paired_cases
from common.data.reader import read_image
from common.data.splits import split_cases
from common.evaluation.observer import MachineObserverMetric
from common.features.features import FeatureNetwork
from common.metrics.intervals import bootstrap_interval
from common.utils.files import written_whole

MARGIN = 4  # voxels around what has changed


def insert(cases: list[dict[str, str]], out: Path, factor: float, blend: float) -> None:
    """Run ``insert.json`` on the volumes of ``cases``; what is done is not done again."""
    edits = [{"_target_": "scripts.masks.editor.ScaleLabelsd", "keys": "mask", "labels": [1, 2], "factor": factor}]
    files = [str(ROOT / "med_ddpm_3d" / "configs" / name) for name in ("inference.json", "insert.json")]
    given: dict[str, Any] = {"volume": [case["image"] for case in cases], "blend": blend}
    given["mask"] = str(Path(cases[0]["label"]).parent)
    if factor == 1:
        edits, given["before"] = [], str(without_labels(cases, out.with_name("before")))
    run = ConfigWorkflow(files, "inference", logging_file=False, output_dir=str(out), edits=edits, **given)
    run.initialize()
    run.run()


def without_labels(cases: list[dict[str, str]], folder: Path) -> Path:
    """The masks of ``cases`` without any label, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        mask: Any = nibabel.load(case["label"])
        empty = nibabel.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine, mask.header)
        nibabel.save(empty, folder / Path(case["label"]).name)
    return folder


def pair(case: dict[str, str], out: Path) -> tuple[Tensor, Tensor, tuple[slice, ...]]:
    """Original and changed volume, (1, X, Y, Z) in [-1, 1], and the box around the change."""
    stem = stem_of(case["image"])
    real, changed = (read_image(path).values for path in (case["image"], out / f"{stem}_inserted.nii.gz"))
    low, high = np.percentile(real, [0.5, 99.5])
    scaled = [np.clip(2 * (values - low) / (high - low) - 1, -1, 1) for values in (real, changed)]
    places = np.argwhere((real != changed)[0])
    box = tuple(slice(max(0, a - MARGIN), b + 1 + MARGIN) for a, b in zip(places.min(0), places.max(0)))
    return torch.as_tensor(scaled[0]).float(), torch.as_tensor(scaled[1]).float(), box


def step_at_border(image: Tensor, changed: Tensor) -> float:
    """Mean squared difference of neighbours of which one lies in ``changed``, (1, X, Y, Z) like the image."""
    squares = []
    for axis in range(1, image.ndim):
        across = changed.diff(dim=axis)
        squares.append(image.diff(dim=axis)[across] ** 2)
    return float(torch.cat(squares).mean())


def main() -> None:
    """Write ``seam.json`` and print the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="with images/ and labels/, of the shipped split")
    parser.add_argument("--factor", type=float, default=1.1, help="of the labels' size; 1: their region is drawn anew")
    parser.add_argument("--blend", type=float, default=2.0, help="mm, as in insert.json")
    parser.add_argument("--network", default="hippocampus_v1", help="whose features the observer sees")
    parser.add_argument("--out", default="seam", help="folder")
    options = parser.parse_args()
    pairs = paired_cases(options.dataset_dir, {"image": "images", "label": "labels"}, "decathlon_hippocampus")
    cases, out = split_cases(pairs, [0.8, 0.2])[1], Path(options.out)
    insert(cases, out / "volumes", options.factor, options.blend)
    features = FeatureNetwork(options.network)
    observers = {place: MachineObserverMetric(features, paired=True) for place in ("whole", "around the change")}
    shares, steps = [], []
    for case in cases:
        real, changed, box = pair(case, out / "volumes")
        new = real != changed
        shares.append(float(new.float().mean()))
        region = torch.as_tensor(binary_closing(new[0].numpy()))[None] | new  # a new voxel may have its old value
        steps.append(step_at_border(changed, region) / step_at_border(real, region))
        for observer in observers.values():
            observer.note_groups([case["group"]])
        observers["whole"](changed[None], real[None])
        observers["around the change"](changed[:, *box][None], real[:, *box][None])
    content = {name: observer.report() for name, observer in observers.items()}
    content["share of voxels drawn anew"] = {"value": float(np.mean(shares))}
    logs = np.log(steps)
    interval = bootstrap_interval(logs, clusters=[case["group"] for case in cases]) or [np.nan, np.nan]
    content["step at the border"] = {"value": float(np.exp(logs.mean())), "interval95": np.exp(interval).tolist()}
    with written_whole(out / "seam.json") as temporary:
        temporary.write_text(json.dumps({"n": len(cases), **content}, indent=4) + "\n")
    for name, entry in content.items():
        print(name, round(entry["value"], 4), entry.get("interval95"))


if __name__ == "__main__":
    main()
