"""How many of 50 good volumes the quality control rejects, and how many of 50 that were spoilt on purpose it finds."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Orientationd, ResizeWithPadOrCrop, ScaleIntensityRangePercentilesd
from torch import Tensor

from common.data.lists import paired_cases
from common.data.reader import LoadImaged
from common.data.splits import split_cases
from common.features.segmenter import Segmenter, build_segmenter
from common.metrics.quality import QualityCheck
from common.transforms.conditions import LabelsToChannelsd

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "med_ddpm_3d"
LABELS = {"anterior": 1, "posterior": 2}


def spoilt(kind: str, image: Tensor, mask: Tensor, other: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(1, X, Y, Z) in [-1, 1] and (L, X, Y, Z), made bad: "noise", "wrong mask" or "cut"."""
    if kind == "noise":  # standard deviation 0.2 to 0.6 of a range of 2
        noise = torch.as_tensor(rng.standard_normal(image.shape), dtype=image.dtype)
        return (image + rng.uniform(0.2, 0.6) * noise).clamp(-1, 1), mask
    if kind == "wrong mask":  # of another subject, in the middle of this volume
        return image, ResizeWithPadOrCrop(mask.shape[1:], mode="constant", value=float(mask.min()))(other)  # type: ignore[return-value]
    image = image.clone()  # a third to two thirds of the volume are black
    axis = int(rng.integers(1, image.ndim))
    length = round(image.shape[axis] * rng.uniform(1 / 3, 2 / 3))
    start = 0 if rng.random() < 0.5 else image.shape[axis] - length
    image.narrow(axis, start, length).fill_(-1)
    return image, mask


def loaded(dataset_dir: str, generated: str | None) -> list[dict[str, Any]]:
    """Held-out real volumes, and generated ones: "image" in [-1, 1] and "label", a channel each."""
    keys = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(keys, spatial_dims=3),
            Orientationd(keys, axcodes="RAS", labels=None),
            ScaleIntensityRangePercentilesd("image", 0.5, 99.5, -1.0, 1.0, clip=True),
            LabelsToChannelsd("label", LABELS),
        ]
    )
    pairs = paired_cases(dataset_dir, {"image": "images", "label": "labels"}, "decathlon_hippocampus")
    cases: list[Any] = list(split_cases(pairs, [0.8, 0.2])[1])
    if generated:
        volumes = sorted(Path(generated, "images").glob("*.nii.gz"))
        cases += [{"image": str(volume), "label": str(Path(generated, "labels", volume.name))} for volume in volumes]
    return [transform({"image": case["image"], "label": case["label"]}) for case in cases]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_dir", required=True, help="with images/ and labels/, of the shipped split")
    parser.add_argument("--generated", help="output_dir of generate.json; more good volumes, 50 in all")
    options = parser.parse_args()
    segmenter = Segmenter(build_segmenter(2), BUNDLE / "models" / "segmenter.pt")
    check = QualityCheck(BUNDLE / "models" / "quality.json", segmenter, LABELS)
    good = loaded(options.dataset_dir, options.generated)[-50:]
    rng = np.random.default_rng(0)
    rows, reasons = {}, {}
    for kind in ("good", "noise", "wrong mask", "cut"):
        kinds = ("noise", "wrong mask", "cut")
        chosen = [n for n in range(len(good)) if kind == "good" or kinds[n % 3] == kind]
        rejected: Counter[str] = Counter()
        count = 0
        for n in chosen:
            image, mask = (torch.as_tensor(good[n][key].as_tensor()) for key in ("image", "label"))
            if kind != "good":
                other = torch.as_tensor(good[(n + len(good) // 2) % len(good)]["label"].as_tensor())
                image, mask = spoilt(kind, image, mask, other, rng)
            (found,) = check(image[None], mask[None])
            count += bool(found["failed"])
            rejected.update(found["failed"])
        rows[kind], reasons[kind] = (count, len(chosen)), rejected
    print_table(rows, reasons)


def print_table(rows: Mapping[str, tuple[int, int]], reasons: Mapping[str, Counter[str]]) -> None:
    """Kind -> rejected and all, and which scores rejected how many, as Markdown."""
    bad = [sum(rows[kind][i] for kind in rows if not kind.startswith(("good", "generated"))) for i in (0, 1)]
    print("| images | rejected | of | by |\n| --- | --- | --- | --- |")
    for kind, (count, of) in rows.items():
        by = ", ".join(f"{name} {times}" for name, times in reasons[kind].most_common())
        print(f"| {kind} | {count} | {of} | {by} |")
    print(f"| all bad | {bad[0]} | {bad[1]} | |")


if __name__ == "__main__":
    main()
