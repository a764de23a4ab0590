"""Small jobs that a kill may meet: a training, an inference, a synthetic set, a cross-validation, sets of masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from common.masks.__main__ import phantom, prostate, sample, simulate
from common.utils.files import sha256_of
from tests.bundles import classify_runs, generate_runs, inference_runs, training
from tests.fixtures import BUNDLE, REPOSITORY, two_part_mask, write_dataset, write_nifti
from tests.masks.tissues import write_tissues


def prepare_training(folder: Path) -> None:
    """Six volumes with their masks."""
    write_dataset(folder / "data", cases=4)


def train(folder: Path, out: Path) -> None:
    """Three epochs; run again, it goes on from its last checkpoint, or starts where there is none."""
    overlays = ["resume.json"] if list(out.glob("checkpoint*.pt")) else []
    training.train(folder / "data", out, *overlays, max_epochs=3, batch_size=1, val_interval=2, cache_rate=0.0)


def prepare_inference(folder: Path) -> None:
    """Two masks and the weights of a tiny network."""
    inference_runs.save_tiny_weights(folder / "model.pt")
    for number in range(2):
        write_nifti(folder / "masks" / f"case_{number}.nii.gz", two_part_mask(seed=number))


def infer(folder: Path, out: Path) -> None:
    """A volume a mask."""
    given = {"dataset_dir": str(folder / "masks"), "output_dir": str(out), "weights": str(folder / "model.pt")}
    inference_runs.run_inference(**given)


BRAIN = "dm_brain_tumor_mri"


def prepare_set(folder: Path) -> None:
    """Weights of a tiny network that was trained on drawn images."""
    data = classify_runs.write_real(folder / "real")
    own = {"classes": classify_runs.CLASSES}
    generate_runs.train(BRAIN, data, folder / "run", **own)


def generate(folder: Path, out: Path) -> None:
    """Three images of each of two classes, in batches of two."""
    own = {"classes": classify_runs.CLASSES, "num_samples": 3, "batch_size": 2, "overwrite": False}
    generate_runs.draw(BRAIN, out, folder / "run" / "model.pt", "generate", **own)


def prepare_folds(folder: Path) -> None:
    """Real images and a synthetic set of two classes."""
    classify_runs.write_real(folder / "real")
    classify_runs.write_set(folder / "synthetic")


def classify(folder: Path, out: Path) -> None:
    """Two folds."""
    classify_runs.study(BRAIN, folder, out, max_epochs=3).run()


def prepare_masks(folder: Path) -> None:
    """The average anatomy of a small brain."""
    folder.mkdir()
    write_tissues(folder)


def draw_masks(folder: Path, out: Path) -> None:
    """Two of each kind that is numbered."""
    sample(BUNDLE / "models" / "shape_model.npz", out / "sample", 2)
    phantom(out / "phantom", 2, size=24)
    prostate(out / "prostate", 2, (24, 24, 4), (4.0, 4.0, 9.0))
    simulate(out / "heads", 2, 16, 12.0, tissues=str(folder))
    simulate(out / "masks", 2, 16, 12.0, masks=True, tissues=str(folder))


def shipped() -> str:
    """One hash over the weights of all bundles."""
    files = sorted(REPOSITORY.glob("bundles/*/models/*"))
    return json.dumps({path.name: sha256_of(path) for path in files}, sort_keys=True)


JOBS = {
    "training": (prepare_training, train),
    "inference": (prepare_inference, infer),
    "set": (prepare_set, generate),
    "folds": (prepare_folds, classify),
    "masks": (prepare_masks, draw_masks),
}
np.seterr(all="ignore")
