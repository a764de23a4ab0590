"""
Time and peak memory of one denoising step of the paper's network: plain fp32 against the switches set by themselves.

``python -m benchmarks.denoising_step --sizes 128`` prints a Markdown table. Timings are interleaved in one process;
each peak is that of a fresh process that runs one step. Ratios compare with plain fp32 in the same run.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from common.networks.unet import ConditionalDiffusionUNet
from tests.networks.paper import config_network

PLAIN = {"precision": "fp32", "memory_format": "contiguous"}
AUTO = {"precision": "auto", "memory_format": "auto"}
OVERLAYS = {"head": "paper.json", "brats": "brats"}


def network(variant: str, plain: bool) -> ConditionalDiffusionUNet:
    """The paper's network with random weights, none of them zero."""
    torch.manual_seed(0)
    made = config_network(OVERLAYS[variant], **(PLAIN if plain else AUTO)).eval()
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return made


def step(made: ConditionalDiffusionUNet, size: int, device: str) -> tuple[torch.Tensor, float]:
    """One prediction and its seconds."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, made.in_channels, size, size, size, generator=generator).to(device)
    start = time.perf_counter()
    with torch.no_grad():
        output = made(x, torch.tensor([100], device=device))
    if device != "cpu":
        torch.cuda.synchronize()
    return output.float().cpu(), time.perf_counter() - start


def peak(variant: str, plain: bool, size: int, device: str) -> int:
    """Bytes at the peak of this process (CPU) or of the device, after one step."""
    step(network(variant, plain).to(device), size, device)
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    # VmHWM and not getrusage's ru_maxrss, which a started process inherits from the one that started it
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def peak_of_fresh_process(variant: str, plain: bool, size: int, device: str, threads: int) -> float:
    """``peak`` in a process of its own, in GiB."""
    arguments = json.dumps([variant, plain, size, device])
    code = f"import json, torch; torch.set_num_threads({threads}); from benchmarks.denoising_step import peak; "
    code += f"print(peak(*json.loads({arguments!r})))"
    run = [sys.executable, "-c", code]
    folder = Path(__file__).resolve().parents[1]
    return int(subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True).stdout.split()[-1]) / 2**30


def hardware(device: str) -> str:
    """The processor's name and how it computes; for a device that the benchmarks cannot time, ValueError."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, {'TF32' if torch.backends.cudnn.allow_tf32 else 'fp32'} in fp32 layers"
    if device != "cpu":
        raise ValueError(f"device must be 'cpu' or 'cuda' (CUDA_VISIBLE_DEVICES says which), got {device!r}.")
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def main(
    sizes: str | int | tuple[int, ...] = 128,
    variant: str = "head",
    repeats: int = 3,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """
    Print one row a size.

    Args:
        sizes: sides of the cubes, e.g. 64,96,128; multiples of 16.
        variant: "head" or "brats".
        repeats: timed steps of each kind, after one that is not timed.
        device: "cpu" or "cuda".
        threads: of PyTorch on the CPU; None leaves them.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    print(f"{hardware(device)}; PyTorch {torch.__version__}; Med-DDPM {variant}, batch 1, medians of {repeats}\n")
    print("| size | plain s | auto s | ratio | plain GiB | auto GiB | ratio | RMS difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in sizes if isinstance(sizes, tuple | list) else (int(sizes),):
        kinds = {plain: network(variant, plain).to(device) for plain in (True, False)}
        outputs = {plain: step(made, size, device)[0] for plain, made in kinds.items()}
        difference = ((outputs[True] - outputs[False]).square().mean().sqrt() / outputs[True].std()).item()
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(repeats):
            for plain, made in kinds.items():
                seconds[plain].append(step(made, size, device)[1])
        plain_s, auto_s = (statistics.median(seconds[plain]) for plain in (True, False))
        del kinds, outputs
        peaks = [
            peak_of_fresh_process(variant, plain, size, device, torch.get_num_threads()) for plain in (True, False)
        ]
        row = [f"{size}³", f"{plain_s:.2f}", f"{auto_s:.2f}", f"{auto_s / plain_s:.2f}"]
        row += [f"{peaks[0]:.2f}", f"{peaks[1]:.2f}", f"{peaks[1] / peaks[0]:.2f}", f"{difference:.1e}"]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
