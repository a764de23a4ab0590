"""How often the check of the noise's width warns: of chest X-rays that are clean, with white noise, and enlarged."""

from __future__ import annotations

import random
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from common.transforms.degrade import noisy
from common.transforms.noise import noise_width

WHITE = ((0.02, 0.0), (0.02, 0.1), (0.05, 0.0), (0.1, 0.05), (0.2, 0.1))  # the corners of train.json's ranges and more


def resized(image: Tensor, factor: float, mode: str) -> Tensor:
    """``image``, (1, H, W), on a grid ``factor`` times finer."""
    return F.interpolate(image[None], scale_factor=factor, mode=mode, antialias=factor < 1)[0]


def variants(clean: Tensor, number: int) -> dict[str, Tensor]:
    """What the check is asked about, (1, H, W) each, by name; 224 and 128 are sides."""
    draws = np.random.RandomState(number)
    small = resized(clean, 128 / clean.shape[1], "bilinear")
    found = {"224, clean": clean, "128, clean": small, "448 from 224, clean": resized(clean, 2, "bicubic")}
    for sigma, share in WHITE:
        found[f"224, white, sigma {sigma}, share {share}"] = noisy(clean, sigma, share, draws)
        found[f"128, white, sigma {sigma}, share {share}"] = noisy(small, sigma, share, draws)
    shift = number % 4  # the grid of the enlargement may lie anywhere
    for sigma in (0.05, 0.1):
        for factor, mode in ((2, "bilinear"), (2, "bicubic"), (3, "bicubic"), (4, "bilinear"), (4, "bicubic")):
            large = resized(noisy(small, sigma, 0.0, draws), factor, mode)[:, shift:, shift:]
            found[f"128 enlarged {factor} times, {mode}, sigma {sigma}"] = large
    return found


@click.command()
@click.option("--dataset_dir", required=True, type=click.Path(exists=True), help="of chest X-rays.")
@click.option("--images", default=60)
@click.option("--seed", default=0)
def main(dataset_dir: str, images: int, seed: int) -> None:
    """Print the share of warnings, and of right widths, a kind of image."""
    files = sorted(path for path in Path(dataset_dir).rglob("*") if path.suffix in (".png", ".jpeg", ".jpg"))
    widths: dict[str, list[int]] = {}
    for number, path in enumerate(random.Random(seed).sample(files, images)):
        with Image.open(path, formats=["PNG", "JPEG"]) as picture:
            clean = torch.from_numpy(np.asarray(picture.convert("L"), dtype=np.float32))[None] / 255
        for name, image in variants(clean, number).items():
            widths.setdefault(name, []).append(noise_width(image[0]))
    print("| image | warned of, % | widths found |\n| --- | --- | --- |")
    for name, found in widths.items():
        shown = ", ".join(f"{width}: {found.count(width)}" for width in sorted(set(found)))
        print(f"| {name} | {100 * sum(width > 1 for width in found) / len(found):.1f} | {shown} |")


if __name__ == "__main__":
    main()
