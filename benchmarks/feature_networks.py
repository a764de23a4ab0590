"""
Do the small encoders see what they should? ``python -m benchmarks.feature_networks --name cxr_v1 --dataset_dir DIR``.

Distances of held-out images to training images, clean and degraded, as a Markdown table; the split is that of training.
"""

from __future__ import annotations

import time

import fire
import torch
from torch import Tensor

from common.data.lists import Case
from common.data.splits import split_cases
from common.features.encoders import ENCODERS, blur, resample
from common.features.features import FeatureNetwork
from common.features.train_encoder import encoder_cases, load_slices, load_volumes
from common.metrics.frechet import fid
from common.metrics.mmd import kid
from common.metrics.perceptual import perceptual_distance

STRENGTHS = {"blur": (0.5, 1.0, 2.0, 3.0), "down and up": (1.5, 2.0, 4.0, 8.0), "noise": (0.025, 0.05, 0.1, 0.2, 0.4)}
UNITS = {"blur": "sigma {} voxels", "down and up": "factor {}", "noise": "sigma {} of a range of 2"}


def images_of(cases: list[Case], n: int, classes: bool) -> list[Tensor]:
    """At most ``n`` images, evenly taken, each (1, 1, *spatial)."""
    cases = [cases[i * len(cases) // min(n, len(cases))] for i in range(min(n, len(cases)))]
    return list(load_slices(cases).float().split(1)) if classes else [v[None] for v, _ in load_volumes(cases)]


def degraded(image: Tensor, kind: str, strength: float, generator: torch.Generator) -> Tensor:
    """One image with one degradation."""
    if kind == "blur":
        return blur(image, torch.tensor([strength]))
    if kind == "noise":
        return (image + strength * torch.randn(image.shape, generator=generator)).clamp(-1, 1)
    return resample(image, strength)


def main(name: str, dataset_dir: str, held_out: int = 200, train: int = 600, pairs: int = 50, seed: int = 0) -> None:
    """Measure and print."""
    started = time.perf_counter()
    plan, network = ENCODERS[name], FeatureNetwork(name)
    shares = split_cases(encoder_cases(plan, dataset_dir), [0.8, 0.2], seed=0)
    known, new = (images_of(share, n, plan.classes) for share, n in zip(shares, (train, held_out)))
    reference = torch.cat([network(x) for x in known])
    clean = torch.cat([network(x) for x in new])
    maps = [network.maps(x) for x in new[:pairs]]
    halves = reference[torch.randperm(len(reference), generator=torch.Generator().manual_seed(seed))].chunk(2)
    print(f"{network.label}: {len(known)} training images, {len(new)} held out, {len(maps)} pairs, seed {seed}\n")
    print("| against the training images | FID | KID | perceptual, to itself clean |\n| --- | --- | --- | --- |")
    print(f"| training images, two halves of {len(halves[0])} | {fid(*halves):.3f} | {kid(*halves):.4f} | |")
    print(f"| held out, clean | {fid(clean, reference):.3f} | {kid(clean, reference):.4f} | 0 |")
    for kind, strengths in STRENGTHS.items():
        for strength in strengths:
            generator = torch.Generator().manual_seed(seed)
            made = [degraded(x, kind, strength, generator) for x in new]
            features = torch.cat([network(x) for x in made])
            distance = torch.cat([perceptual_distance(network.maps(x), m) for x, m in zip(made, maps)]).mean()
            values = f"{fid(features, reference):.3f} | {kid(features, reference):.4f} | {float(distance):.3f}"
            print(f"| {kind}, {UNITS[kind].format(strength)} | {values} |", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    fire.Fire(main)
