"""
Accuracy of the step rules where the truth is known: Gaussian data, whose best denoiser has a closed form.

Prints a Markdown table of (standard deviation of the samples) / (true standard deviation) for each rule, spacing and
number of steps; 1 is right, below 1 is too smooth, above 1 is grainy.

    python -m benchmarks.sampler_accuracy --std 0.2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from common.diffusion.schedules import SPACINGS, NoiseSchedule
from common.diffusion.steps import DDIM, Ancestral, DPMSolverPP2M, StepRule
from common.inferers.sampler import DiffusionSampler

RULES: dict[str, StepRule] = {
    "ancestral, beta_tilde": Ancestral("beta_tilde"),
    "ancestral, beta": Ancestral("beta"),
    "DDIM": DDIM(),
    "DPM-Solver++(2M)": DPMSolverPP2M(),
}


def exact_denoiser(schedule: NoiseSchedule, mean: float, std: float) -> Callable[..., Tensor]:
    """The network that a perfect training on N(mean, std^2) voxels would give: it returns E[x_0 | x_t] ("sample")."""

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        alpha_bar = float(schedule.alpha_bar[int(timesteps[0])])
        gain = alpha_bar**0.5 * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        return mean + gain * (x - alpha_bar**0.5 * mean)

    return network


def mean_and_std(
    rule: StepRule, steps: int, spacing: str, schedule: NoiseSchedule, mean: float, std: float, side: int = 64
) -> tuple[float, float]:
    """Mean and standard deviation of ``side``^3 voxels sampled with the exact denoiser."""
    sampler = DiffusionSampler(
        schedule, rule, steps, "sample", spacing=spacing, concatenate=False, clip_sample=False, progress=False
    )
    image = sampler(torch.zeros(1, 1, side, side, side), exact_denoiser(schedule, mean, std), seeds=[0])
    return float(image.double().mean()), float(image.double().std())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedule", default="cosine")
    parser.add_argument("--train-steps", type=int, default=250)
    parser.add_argument("--mean", type=float, default=-0.3)
    parser.add_argument("--std", type=float, default=0.2)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50, 100, 250])
    args = parser.parse_args()
    schedule = NoiseSchedule(args.schedule, args.train_steps)
    print(f"| rule | spacing | {' | '.join(map(str, args.steps))} |")
    print(f"| --- | --- | {' | '.join('---' for _ in args.steps)} |")
    for name, rule in RULES.items():
        for spacing in SPACINGS:
            stds = [mean_and_std(rule, n, spacing, schedule, args.mean, args.std)[1] for n in args.steps]
            print(f"| {name} | {spacing} | {' | '.join(f'{s / args.std:.3f}' for s in stds)} |")


if __name__ == "__main__":
    main()
