"""
Sampling with the shipped networks: default, few steps, the runtimes, the learned baselines, MONAI's own inferer.

``python -m benchmarks.sampling`` (``make bench``) prints one Markdown table, ratios to the default first. Kinds are
interleaved, after one run of each that is not timed. On the CPU times are those of the processor, summed over threads,
so that other programs on the machine count less. The few steps are timed with the default weights, which changes no
time. Rows for a runtime that is not installed are left out; the GPU has PyTorch, MONAI and ``torch.compile``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDIMScheduler
from monai.utils import convert_to_tensor
from torch import Tensor

from common.bundle import OpenedBundle, open_bundle
from common.networks.runtimes import check_runtime, on_runtime

from .denoising_step import hardware

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
# bundle: (shape of the condition, steps, guidance scale, few steps)
WORK = {
    "med_ddpm_3d": ((1, 2, 40, 56, 40), 20, 1.1, 4),
    "med_cdiff_xray_denoise": ((1, 1, 128, 128), 10, 1.0, 2),
}
BASELINES = {"med_ddpm_3d": ("pix2pix", "discogan"), "med_cdiff_xray_denoise": ("regression", "pix2pix", "up_gan")}
RUNTIMES = {"cpu": ("openvino", "onnxruntime"), "cuda": ("compile",)}


def baseline(bundle: str, name: str, shape: tuple[int, ...], device: str, precision: str) -> Callable[[], Tensor]:
    """A run of a learned baseline, which has one evaluation."""
    opened = open_bundle(BUNDLES / bundle, "inference.json", f"{name}.json", device=device, precision=precision)
    condition = drawn(shape).to(device)
    sampler = getattr(opened.inferer, "sampler", opened.inferer)
    return lambda: sampler(condition, opened.network)


def drawn(shape: tuple[int, ...]) -> Tensor:
    """A condition of -1 and 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).round()


def kinds(
    opened: OpenedBundle, work: tuple[tuple[int, ...], int, float, int], device: str, folder: str
) -> dict[str, tuple[int, Callable[[], Tensor]]]:
    """Network evaluations, and a run, of each kind by its name."""
    shape, steps, guidance, few = work
    condition = drawn(shape).to(device)
    inferer = getattr(opened.inferer, "sampler", opened.inferer)
    cost = 1 if guidance == 1 else 2

    def ours(network: Any, number: int, scale: float) -> Callable[[], Tensor]:
        made = type(inferer)(
            inferer.schedule,
            inferer.step_rule,
            number,
            inferer.prediction_type,
            spacing=inferer.spacing,
            guidance_scale=scale,
            progress=False,
        )
        return lambda: made(condition, network)

    found = {"default": (steps * cost, ours(opened.network, steps, guidance))}
    found["few steps"] = (few, ours(opened.network, few, 1.0))
    for runtime in RUNTIMES[device]:
        try:
            check_runtime(runtime, device)
        except ImportError:
            continue
        network = on_runtime(opened.network, runtime, folder)
        found[f"default, {runtime}"] = (steps * cost, ours(network, steps, guidance))
        found[f"few steps, {runtime}"] = (few, ours(network, few, 1.0))
    found["MONAI's `DiffusionInferer`, DDIM"] = (
        steps * cost,
        monais(opened.network, inferer, condition, steps, guidance),
    )
    return found


def monais(network: Any, inferer: Any, condition: Tensor, steps: int, guidance: float) -> Callable[[], Tensor]:
    """MONAI's inferer and scheduler in as many steps with the same guidance, which it computes as a batch of two."""
    schedule = inferer.schedule
    names = {"cosine": "cosine", "linear": "linear_beta"}
    scheduler = DDIMScheduler(
        schedule.num_train_timesteps, schedule=names[schedule.schedule], prediction_type="v_prediction"
    )
    scheduler.set_timesteps(steps)
    theirs = DiffusionInferer(scheduler)
    noise = torch.randn(1, 1, *condition.shape[2:], generator=torch.Generator().manual_seed(0)).to(condition)
    options: dict[str, Any] = {} if guidance == 1 else {"cfg": guidance, "cfg_fill_value": 0.0}
    return lambda: convert_to_tensor(
        theirs.sample(noise, network, conditioning=condition, mode="concat", verbose=False, **options)
    )


def main(
    bundles: str | tuple[str, ...] = tuple(WORK),
    repeats: int = 3,
    device: str = "cpu",
    threads: int | None = None,
    precision: str = "auto",
    size: tuple[int, ...] | None = None,
    steps: int | None = None,
) -> None:
    """
    Print the table.

    Args:
        bundles: "med_ddpm_3d", "med_cdiff_xray_denoise".
        repeats: timed runs of each kind.
        device: "cpu" or "cuda".
        threads: of PyTorch and the runtimes on the CPU; None leaves them.
        precision: see ``network_def``.
        size: of the images; None for the usual ones. Multiples of 8.
        steps: of the default, for a short run, in which the few steps are one; None for the usual ones.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    clock = time.process_time if device == "cpu" else time.perf_counter
    print(f"{hardware(device)}; PyTorch {torch.__version__}; precision {precision}; batch 1, medians of {repeats}\n")
    print(f"| bundle, size | kind | ratio | {'CPU seconds' if device == 'cpu' else 'seconds'} | network evaluations |")
    print("| --- | --- | --- | --- | --- |")
    for bundle in (bundles,) if isinstance(bundles, str) else bundles:
        shape, usual, guidance, few = WORK[bundle]
        work = (*shape[:2], *(size or shape[2:])), steps or usual, guidance, few if steps is None else 1
        opened = open_bundle(BUNDLES / bundle, device=device, precision=precision)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            found = kinds(opened, work, device, folder)
            for name in BASELINES[bundle]:
                found[name] = 1, baseline(bundle, name, work[0], device, precision)
            seconds: dict[str, list[float]] = {name: [] for name in found}
            for _ in range(repeats + 1):
                for name, (_, run) in found.items():
                    start = clock()
                    run().cpu()
                    seconds[name].append(clock() - start)
        medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
        sides = "×".join(map(str, work[0][2:]))
        for name, median in medians.items():
            row = [
                f"{bundle}, {sides}",
                name,
                f"{median / medians['default']:.2f}",
                f"{median:.2f}",
                str(found[name][0]),
            ]
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
