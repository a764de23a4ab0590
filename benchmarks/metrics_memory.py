"""
Peak memory of FID and KID over a growing number of volumes: ``python -m benchmarks.metrics_memory`` prints a table.

Each row is a fresh process that makes the volumes one at a time and measures them by the metrics' handlers. The network
is a random projection to 512 features, whose own memory is small, so that what the metrics keep shows.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.denoising_step import hardware
from common.evaluation.report_handler import MetricHandler
from common.features.features import FeatureNetwork
from common.metrics.frechet import FrechetDistanceMetric
from common.metrics.mmd import KernelDistanceMetric

WIDTH = 512


class Projection(nn.Module):
    """Means of 8 x 8 x 8 parts of a volume, projected at random to 512 numbers."""

    spatial_dims = 3

    def __init__(self) -> None:
        super().__init__()
        matrix = torch.randn(512, WIDTH, generator=torch.Generator().manual_seed(0))
        self.matrix = nn.Parameter(matrix, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, *spatial) -> (N, 512)."""
        return F.adaptive_avg_pool3d(x, 8).flatten(1) @ self.matrix


def peak(n: int, size: int) -> str:
    """GiB at the peak of this process, after ``n`` volumes in each set and their FID and KID."""
    features = FeatureNetwork("benchmarks.metrics_memory:Projection")
    metrics: list[Any] = [FrechetDistanceMetric(features), KernelDistanceMetric(features)]
    handlers = [MetricHandler(metric_fn=metric) for metric in metrics]
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        volumes = [torch.randn(1, 1, size, size, size, generator=generator).clamp_(-1, 1) for _ in range(2)]
        for handler in handlers:
            handler.update(volumes)
    for metric in metrics:
        metric.report()
    status = Path("/proc/self/status").read_text()
    return f"{int(status.split('VmHWM:')[1].split()[0]) / 2**20:.3f}"


def main(counts: str | int | tuple[int, ...] = (100, 300, 1000), size: int = 128, threads: int = 1) -> None:
    """
    Print one row a number of volumes.

    Args:
        counts: volumes in each of the two sets.
        size: side of the cubes.
        threads: of PyTorch.
    """
    torch.set_num_threads(threads)
    print(f"{hardware('cpu')}; PyTorch {torch.__version__}; {size}³, {WIDTH} features\n")
    print("| volumes in each set | peak GiB | seconds |\n| --- | --- | --- |")
    for n in counts if isinstance(counts, tuple | list) else (int(counts),):
        code = f"import torch; torch.set_num_threads({threads}); from benchmarks.metrics_memory import peak; "
        code += f"print(peak({n}, {size}))"
        start = time.perf_counter()
        root = Path(__file__).resolve().parents[1]
        run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=root, capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr)
        print(f"| {n} | {run.stdout.split()[-1]} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
