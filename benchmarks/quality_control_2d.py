"""How many good MR slices the quality control of the dm_* sets rejects, and how many spoilt on purpose it finds."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Resized
from scipy import ndimage
from torch import Tensor, nn

from benchmarks.quality_control import print_table, spoilt
from common.data.lists import image_cases
from common.data.reader import LoadImaged
from common.data.splits import share_by_split, split_cases
from common.metrics.class_quality import ClassQualityCheck, fit_class_quality
from common.networks.classifiers import grey_vgg11, load_classifier
from common.studies.synthetic import synthetic_cases

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
KINDS = ("noise", "cut", "blur", "wrong class")
SIZE = (64, 64)


class OwnRange(nn.Module):
    """A classifier of images that are scaled to [-1, 1] each."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, X, Y) -> logits."""
        low, high = (getattr(images, end)((1, 2, 3), keepdim=True) for end in ("amin", "amax"))
        return self.classifier(2 * (images - low) / (high - low).clamp(min=1e-6) - 1)


def loader() -> Compose:
    """A file -> "image", (1, X, Y) in [-1, 1], as the bundle's training loads it."""
    return Compose(
        [
            LoadImaged("image", spatial_dims=2),
            Resized("image", SIZE, mode="area"),
            lambda case: {**case, "image": torch.as_tensor(case["image"].as_tensor()) / 127.5 - 1},
        ]
    )


def made_bad(kind: str, image: Tensor, index: int, rng: np.random.Generator) -> tuple[Tensor, int]:
    """Image and class, made bad."""
    if kind == "wrong class":
        return image, (index + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    if kind == "blur":  # standard deviation 1.5 to 3 of 64 pixels
        sigma = rng.uniform(1.5, 3.0)
        return torch.as_tensor(ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma))), index
    return spoilt(kind, image, image, image, rng)[0], index


def held_out(dataset_dir: str, count: int) -> tuple[list[Any], list[Any]]:
    """The sample that the bundle was trained on, and images that neither it nor the classifier has seen."""
    cases = image_cases(dataset_dir, "group")
    sample = share_by_split(cases, "random", 0.2, 0, list(CLASSES))[0]
    known = {case["image"] for case in sample}
    rest = [case for case in split_cases(cases, [0.8, 0.2])[1] if case["image"] not in known]
    return sample, rest[:: max(1, len(rest) // count)][:count]


def counted(check: ClassQualityCheck, images: list[tuple[Tensor, int]]) -> tuple[tuple[int, int], Counter[str]]:
    """How many images are rejected of how many, and by which scores."""
    found = [check(image[None], None, torch.tensor([index]))[0]["failed"] for image, index in images]
    return (sum(map(bool, found)), len(found)), Counter(name for one in found for name in one)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_dir", required=True, help="images of the four classes, with manifest.csv")
    parser.add_argument("--generated", help="a complete set of generate.json, for a row of its own")
    parser.add_argument("--count", type=int, default=100, help="real images, and as many spoilt ones")
    parser.add_argument(
        "--classifier", help="weights of train_classifier.json (super-resolution) at 64 x 64; none without"
    )
    options = parser.parse_args()
    load, weights = loader(), options.classifier
    classifier = None if weights is None else OwnRange(load_classifier(grey_vgg11(len(CLASSES)), weights))
    sample, rest = held_out(options.dataset_dir, options.count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quality.json"
        fit_class_quality(sample, load, CLASSES, path, classifier, weights)
        check = ClassQualityCheck(path, CLASSES, SIZE, classifier, weights)
    good = [(load(dict(case))["image"], CLASSES.index(case["class"])) for case in rest]
    rng = np.random.default_rng(0)
    groups: dict[str, list[tuple[Tensor, int]]] = {"good, real": good}
    if options.generated:
        made = synthetic_cases(options.generated, CLASSES)
        made = made[:: max(1, len(made) // options.count)][: options.count]
        groups["generated, as drawn"] = [(load(dict(c))["image"], CLASSES.index(c["class"])) for c in made]
    for kind in KINDS:
        chosen = [one for n, one in enumerate(good) if KINDS[n % len(KINDS)] == kind]
        groups[kind] = [made_bad(kind, image, index, rng) for image, index in chosen]
    results = {kind: counted(check, images) for kind, images in groups.items()}
    print_table({k: v[0] for k, v in results.items()}, {k: v[1] for k, v in results.items()})


if __name__ == "__main__":
    main()
