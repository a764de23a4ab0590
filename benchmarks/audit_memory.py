"""
Memory and time of an audit of many images: ``python -m benchmarks.audit_memory 10000 100000`` prints a line each.

Each number is a fresh process that audits so many drawn images of 64 x 64 pixels, made one by one when they are asked
for, against 1,000 training and 1,000 held-out ones. Seconds are those of the processor.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.denoising_step import hardware
from common.evaluation.memorisation import audit


class Noise(Sequence[Tensor]):
    """Smooth noise, (1, 64, 64) in [-1, 1], each image from a seed of its own."""

    def __init__(self, n: int, first: int) -> None:
        self.n, self.first = n, first
        self.shapes = [(64, 64)] * n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        if index >= self.n:
            raise IndexError(index)
        drawn = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(self.first + index))
        return torch.nn.functional.interpolate(drawn, size=(64, 64), mode="bicubic")[0].clamp(-2, 2) / 2


def main(numbers: Sequence[str]) -> None:
    """A process a number, or the audit of one in this process, after "one"."""
    if numbers[:1] == ["one"]:
        start = time.process_time()
        result = audit(Noise(int(numbers[1]), 0), Noise(1000, 10**7), Noise(1000, 10**8))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{numbers[1]} images: {peak:.2f} GiB, {time.process_time() - start:.0f} s, {len(result.copies)} copies")
        return
    print(hardware("cpu"))
    for number in numbers or ["10000", "100000"]:
        subprocess.run([sys.executable, "-W", "ignore", "-m", "benchmarks.audit_memory", "one", number], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
