"""
Time of one training step of the eight classifiers: plain fp32 against the precision and layout that "auto" chooses.

``python -m benchmarks.classifiers`` prints a Markdown table. Timings are interleaved in one process; on the CPU they
are those of the processor, summed over threads, so that other programs on the machine matter less.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from common.networks.classifiers import TITLES, chosen_architectures, cnn
from common.studies.fold_training import AutocastInferer, TrainingPlan

from .denoising_step import hardware

KINDS = {"plain": ("fp32", "contiguous"), "auto": ("auto", "auto")}


class Step:
    """One architecture as ``train_fold`` trains it, on images of noise."""

    def __init__(self, architecture: str, kind: str, side: int, batch_size: int, device: str) -> None:
        precision, memory_format = KINDS[kind]
        self.plan = TrainingPlan(
            lambda parameters: torch.optim.AdamW(parameters, 1e-4, fused=True),
            precision=precision,
            memory_format=memory_format,
            device=device,
        )
        torch.manual_seed(0)
        self.network = cnn(architecture, num_classes=4).train()
        self.plan.place(self.network)
        self.optimizer = self.plan.optimizer(self.network.parameters())
        self.inferer = AutocastInferer(self.plan.dtype)
        self.images = torch.randn(batch_size, 1, side, side).clamp(-1, 1).to(device)
        self.labels = (torch.arange(batch_size) % 4).to(device)

    def seconds(self) -> float:
        """Time of one step; CPU seconds on the CPU."""
        on_cpu = self.images.device.type == "cpu"
        clock = time.process_time if on_cpu else time.perf_counter
        started = clock()
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.inferer(self.images, self.network), self.labels).backward()
        self.optimizer.step()
        if not on_cpu:
            torch.cuda.synchronize()
        return clock() - started


def main(
    architectures: str | tuple[str, ...] = "all",
    side: int = 64,
    batch_size: int = 32,
    repeats: int = 3,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """
    Print one row an architecture.

    Args:
        architectures: "all", or names with commas between.
        side: of the images, in pixels, at least 64.
        batch_size: images a step.
        repeats: timed steps of each kind, after one that is not timed.
        device: "cpu" or "cuda".
        threads: of PyTorch on the CPU; None leaves them.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    names = architectures if isinstance(architectures, str) else list(architectures)
    title = f"batch {batch_size}, {side} x {side}, medians of {repeats}"
    print(f"{hardware(device)}; PyTorch {torch.__version__}; {title}\n")
    print("| network | plain s | auto s | ratio |")
    print("| --- | --- | --- | --- |")
    for name in chosen_architectures(names):
        steps = {kind: Step(name, kind, side, batch_size, device) for kind in KINDS}
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(repeats + 1):
            for kind, step in steps.items():
                found = step.seconds()
                if number:
                    times[kind].append(found)
        plain, auto = (statistics.median(times[kind]) for kind in KINDS)
        print(f"| {TITLES[name]} | {plain:.2f} | {auto:.2f} | {auto / plain:.2f} |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
