"""
Memory and the share of the checks in runs of many cases: ``python -m benchmarks.many_cases`` prints a table.

Each row is a fresh process that runs a bundle's ``inference.json`` over cases that are all different: masks drawn from
the shape model, pictures with noise of their own. Seconds are those of the processor, so other programs do not count.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.denoising_step import hardware

ROOT = Path(__file__).resolve().parents[1]
MASKS, PICTURES = "med_ddpm_3d", "med_cdiff_xray_denoise"


def make_cases(bundle: str, folder: Path, n: int) -> None:
    """Write ``n`` inputs of a bundle into ``folder``."""
    if bundle == MASKS:
        from common.masks.__main__ import sample

        sample(model=ROOT / "bundles" / bundle / "models" / "shape_model.npz", out=folder, count=n)
        return
    folder.mkdir()
    with Image.open(ROOT / "bundles" / bundle / "sample_data" / "phantom.png") as image:
        phantom = np.asarray(image.convert("L"), dtype=np.float32)
    for index in range(n):
        noise = np.random.default_rng(index).normal(0, 12, phantom.shape)
        Image.fromarray((phantom + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{index:03d}.png")


def measure(bundle: str, folder: str, output: str, steps: int) -> str:
    """Run a bundle in this process: peak GiB, and seconds of the checks before the first step and of the whole run."""
    from monai.bundle import ConfigWorkflow

    root = ROOT / "bundles" / bundle
    sys.path.insert(1, str(root))
    dataset = importlib.import_module("scripts.data.dataset")  # the one that the bundle will import
    seconds = 0.0
    original = dataset.CheckedDataset.check

    def timed(self: Any, skip_bad: bool = False) -> list[tuple[int, ...]]:
        nonlocal seconds
        start = time.process_time()
        shapes = original(self, skip_bad)
        seconds += time.process_time() - start
        return shapes

    dataset.CheckedDataset.check = timed
    given: dict[str, Any] = {"dataset_dir": folder, "output_dir": output, "precision": "fp32"}
    if steps:
        given["num_inference_steps"] = steps
    start = time.process_time()
    run = ConfigWorkflow(str(root / "configs" / "inference.json"), logging_file=False, **given)
    run.initialize()
    run.run()
    run.finalize()
    whole = time.process_time() - start
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**20
    return f"{peak:.2f} | {seconds:.1f} | {whole:.1f} | {100 * seconds / whole:.1f} %"


def main(bundles: tuple[str, ...] = (MASKS, PICTURES), counts: tuple[int, ...] = (30, 300), steps: int = 1) -> None:
    """
    Print one row a bundle and number of cases.

    Args:
        bundles: "med_ddpm_3d", "med_cdiff_xray_denoise".
        counts: of cases.
        steps: of the sampler; with 1, the share of the checks is as large as it can be. 0 for the bundle's own.
    """
    print(f"{hardware('cpu')}; one thread; steps: {steps or 'default'}\n")
    print("| bundle | cases | peak GiB | checks, s | run, s | share of checks |\n| --- | --- | --- | --- | --- | --- |")
    for bundle in (bundles,) if isinstance(bundles, str) else bundles:
        for n in (counts,) if isinstance(counts, int) else counts:
            work = Path(tempfile.mkdtemp())
            try:
                make_cases(bundle, work / "in", n)
                code = "import torch; torch.set_num_threads(1); from benchmarks.many_cases import measure; "
                code += f"print(measure({bundle!r}, {str(work / 'in')!r}, {str(work / 'out')!r}, {steps}))"
                command = [sys.executable, "-W", "ignore", "-c", code]
                run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                if run.returncode:
                    sys.exit(run.stderr)
                print(f"| {bundle} | {n} | {run.stdout.strip().splitlines()[-1]} |", flush=True)
            finally:
                shutil.rmtree(work)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
