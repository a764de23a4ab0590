"""
Time of all metrics on two folders of volumes: ``python -m benchmarks.metrics_speed --real DIR`` prints where it goes.

The generated set is the real one, blurred and with noise, under the same names, so the metrics of pairs run too; the
training set of the audit is the real one, shifted by a third. Every metric of the table but LPIPS; nothing is cached.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.denoising_step import hardware
from common.evaluation.choice import Options, plan
from common.evaluation.compare import Comparison
from common.evaluation.entries import METRICS
from common.evaluation.folders import ImageFolder


def copies(real: str | Path, count: int, folder: Path) -> tuple[Path, Path, Path]:
    """Folders of real, generated and training volumes."""
    files = ImageFolder(real).files
    made = folder / "real", folder / "fake", folder / "train"
    rng = np.random.default_rng(0)
    for path in made:
        path.mkdir()
    for file in files[:count]:
        image: Any = nib.load(file)
        array = image.get_fdata(dtype=np.float32)
        blurred = gaussian_filter(array, 0.7) + rng.normal(0, 0.02 * array.std(), array.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(array, image.affine), made[0] / file.name)
        nib.save(nib.Nifti1Image(blurred, image.affine), made[1] / file.name)
        shifted = np.roll(array, [side // 3 for side in array.shape], (0, 1, 2))
        nib.save(nib.Nifti1Image(shifted, image.affine), made[2] / file.name)
    return made


def main(
    real: str,
    count: int = 200,
    network: str = "hippocampus_segmenter",
    weights: str | None = "bundles/med_ddpm_3d/models/segmenter.pt",
    threads: int = 2,
) -> None:
    """
    Print seconds a metric and in all.

    Args:
        real: folder of NIfTI volumes.
        count: volumes in each of the two sets.
        network: of the registry, 3D.
        weights: its file, None for the shipped one.
        threads: of PyTorch.
    """
    torch.set_num_threads(threads)
    spent: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        sets = copies(real, count, Path(folder))
        names = tuple(name for name, entry in METRICS.items() if name != "lpips" and entry.kind != "bundle")
        given = (str(weights),) if weights else ()
        options = Options(metrics=names, network=(network,), weights=given)
        start = time.perf_counter()
        comparison = Comparison(plan(sets[0], sets[1], sets[2], options), options, f"{folder}/cache")
        collect = {
            kind: getattr(comparison, f"_collect_{kind}") for kind in ("features", "sets", "each", "pairs", "training")
        }
        for kind, function in collect.items():

            def timed(name: str, out: Path, function: Any = function) -> Any:
                began = time.perf_counter()
                result = function(name, out)
                spent[name] += time.perf_counter() - began
                return result

            setattr(comparison, f"_collect_{kind}", timed)
        content = comparison.run(Path(folder) / "out")
        total = time.perf_counter() - start
    print(f"\n{hardware('cpu')}; {count} volumes in each set; {network}\n")
    print("| part | seconds |\n| --- | --- |")
    print(f"| reading, features, values of single images and pairs | {total - sum(spent.values()):.1f} |")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        if seconds >= 0.05:
            print(f"| {name} | {seconds:.1f} |")
    print(f"| all {len(content['metrics'])} values | {total:.1f} |")


if __name__ == "__main__":
    import fire

    fire.Fire(main)
