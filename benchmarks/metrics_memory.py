"""
Peak memory of FID and KID over a growing number of volumes: ``python -m benchmarks.metrics_memory`` prints a table.

Each row is a fresh process that makes the volumes one at a time and measures them by the metrics' classes. The network
is MedicalNet's ResNet-10 with random weights, good for nothing but memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.denoising_step import hardware
from common.metrics.features import REGISTRY, FeatureNetwork
from common.metrics.fid import FrechetDistanceMetric, KernelDistanceMetric


def peak(weights: str, network: str, n: int, size: int) -> str:
    """GiB at the peak of this process, and FID and KID, after ``n`` volumes in each set."""
    features = FeatureNetwork(network, weights)
    metrics = [FrechetDistanceMetric(features), KernelDistanceMetric(features)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        volumes = [torch.randn(1, 1, size, size, size, generator=generator).clamp_(-1, 1) for _ in range(2)]
        for metric in metrics:
            metric(*volumes)
    values = [float(metric.aggregate()) for metric in metrics]
    status = Path("/proc/self/status").read_text()
    return f"{int(status.split('VmHWM:')[1].split()[0]) / 2**20:.3f} {values[0]:.4g} {values[1]:.4g}"


def main(
    counts: str | int | tuple[int, ...] = (100, 300, 1000),
    size: int = 128,
    network: str = "med3d_resnet10",
    threads: int = 1,
) -> None:
    """
    Print one row a number of volumes.

    Args:
        counts: volumes in each of the two sets.
        size: side of the cubes.
        network: of the registry, 3D.
        threads: of PyTorch.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(f"{hardware('cpu')}; PyTorch {torch.__version__}; {network} with random weights, {size}³\n")
    print("| volumes in each set | peak GiB | seconds |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/random.pt"
        torch.save(REGISTRY[network].build().state_dict(), weights)
        for n in counts if isinstance(counts, tuple | list) else (int(counts),):
            code = f"import torch; torch.set_num_threads({threads}); from benchmarks.metrics_memory import peak; "
            code += f"print(peak({weights!r}, {network!r}, {n}, {size}))"
            start = time.perf_counter()
            root = Path(__file__).resolve().parents[1]
            run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=root, capture_output=True, text=True)
            if run.returncode:
                sys.exit(run.stderr)
            print(f"| {n} | {run.stdout.split()[-3]} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
