"""A study of explanations: of real and of synthetic images, how they agree, and how stable they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from torch import nn

from ..data.raster import write_png
from ..data.splits import at_strides, by_key
from ..evaluation.results import entry_of, finite, markdown, versions, write_report
from ..utils.files import written_whole
from .lime_maps import Explanation, as_picture, correlation, explain, foreground, share_inside, stability, superpixels
from .study_sets import load_images

logger = logging.getLogger(__name__)
_NUMBERS = {
    "inside": "share of importance in the foreground",
    "area": "share of the foreground's area",
    "correlation": "correlation over seeds",
    "overlap": "overlap of the top 5 over seeds",
    "fit": "R² of the linear model",
    "correct": "accuracy on these images",
}


@dataclass(eq=False, repr=False)
class ExplanationStudy:
    """
    Explain a classifier on real and synthetic images, and write overlays, ``metrics.json`` and ``metrics.md``.

    Args:
        network: (N, C, H, W) in [-1, 1] -> (N, classes) logits, trained, in eval mode.
        sets: name -> cases; those of a set named "synthetic" are marked so in the overlays.
        transform: loads, checks and resizes a case, and adds "class_index".
        classes: names in the order of the outputs.
        output_dir: folder of the results and of ``overlays/``.
        images_per_class: explained in each set, at equal strides.
        seeds: LIME's, at least two; the numbers are means over them.
        options: of ``explain`` and "num_segments".
        foreground_options: of ``foreground``.
        settings: what else belongs to the result.

    Raises:
        ValueError: for fewer than two seeds, segments or samples, no image a class, or a set without a case.

    >>> cases = [{"image": "x.png", "class": "a", "case": "x"}]
    >>> ExplanationStudy(nn.Identity(), {"real": cases}, dict, ["a"], "out", options={"num_samples": 100}).options
    {'num_segments': 60, 'num_samples': 100}
    """

    network: nn.Module
    sets: Mapping[str, Sequence[dict[str, Any]]]
    transform: Callable[[Any], Any]
    classes: Sequence[str]
    output_dir: str | Path
    images_per_class: int = 10
    seeds: Sequence[int] = (0, 1, 2)
    options: Mapping[str, Any] = field(default_factory=dict)
    foreground_options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.seeds) < 2 or self.images_per_class < 1 or not all(self.sets.values()):
            sizes = {name: len(cases) for name, cases in self.sets.items()}
            raise ValueError(
                "At least two seeds, an image a class and a case in each set were expected, got "
                f"{list(self.seeds)}, {self.images_per_class} and {sizes}."
            )
        self.options = {"num_segments": 60, "num_samples": 500, **self.options}
        if self.options["num_segments"] < 2 or self.options["num_samples"] < 2:
            raise ValueError(f"At least 2 segments and 2 samples were expected, got {self.options}.")

    def run(self) -> dict[str, Any]:
        """Explain all chosen images and write the results; returns what ``metrics.json`` holds."""
        Path(self.output_dir).mkdir(parents=True, exist_ok=True)
        rows: dict[str, list[dict[str, Any]]] = {}
        for name, cases in self.sets.items():
            chosen = load_images(per_class(cases, self.images_per_class), self.transform)
            rows[name] = [self._image(name, case) for case in chosen]
            logger.info("%d %s images explained", len(chosen), name)
        content = finite(
            {
                "sets": {name: summary(found) for name, found in rows.items()},
                "agreement": self._agreement(rows),
                "images": {n: [{k: v for k, v in r.items() if k != "map"} for r in f] for n, f in rows.items()},
                "seeds": list(self.seeds),
                "lime": self.options,
                "settings": self.settings,
                "versions": versions(),
            }
        )
        write_report(content, table(content), self.output_dir)
        return content

    def _image(self, name: str, case: Mapping[str, Any]) -> dict[str, Any]:
        image = torch.as_tensor(case["image"]).float()
        options = {key: value for key, value in self.options.items() if key != "num_segments"}
        segments = superpixels(image, self.options["num_segments"])
        found = [explain(self.network, image, segments, seed, **options) for seed in self.seeds]
        mask = foreground(image, **self.foreground_options)
        about = "synthetic image with an explanation" if name == "synthetic" else "image with an explanation"
        with written_whole(Path(self.output_dir, "overlays", f"{name}_{case['class']}_{case['case']}.png")) as path:
            write_png(path, overlaid(image, found[0], mask), {"Description": about})
        correlated, overlap = stability(found)
        return {
            "case": case["case"],
            "class": case["class"],
            "found": self.classes[found[0].label],
            "probability": found[0].probability,
            "correct": float(self.classes[found[0].label] == case["class"]),
            "inside": float(np.mean([share_inside(one, mask) for one in found])),
            "area": float(mask.mean()),
            "correlation": correlated,
            "overlap": overlap,
            "fit": float(np.mean([one.fit for one in found])),
            "map": np.mean([one.map for one in found], axis=0),
        }

    def _agreement(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        """``agreement`` of the first two sets, class by class."""
        result = {}
        for name in self.classes:
            maps = [np.array([row["map"] for row in rows[s] if row["class"] == name]) for s in rows]
            if len(maps) > 1 and all(map(len, maps)):
                result[name] = {**agreement(maps[0], maps[1]), "n": [len(m) for m in maps]}
        return result


def agreement(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float | None]:
    """
    Correlation of mean importance maps of real and of synthetic images, and what two lots of real images reach.

    A mean over more maps correlates better, so all means are over as many: half of the images, drawn 200 times.

    Args:
        real: (n, rows, columns), one map an image.
        synthetic: (m, rows, columns).

    Returns:
        "between" and "halves_of_real"; of fewer than two images a set, the latter is None.
    """
    half = min(len(real), len(synthetic)) // 2
    if half == 0:
        return {"between": correlation(real[0], synthetic[0]), "halves_of_real": None}
    random = np.random.default_rng(0)
    found = []
    for _ in range(200):
        one, other = (real[part].mean(0) for part in np.split(random.permutation(len(real))[: 2 * half], 2))
        drawn = synthetic[random.permutation(len(synthetic))[:half]].mean(0)
        found.append((correlation(one, drawn), correlation(one, other)))
    between, halves = np.mean(found, 0)
    return {"between": float(between), "halves_of_real": float(halves)}


def per_class(cases: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """``number`` cases of each class, at equal strides."""
    return [case for _, found in sorted(by_key(cases).items()) for case in at_strides(found, number)]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over images with bootstrap intervals over images; images without a number are left out and counted."""
    values = {key: np.array([row[key] for row in rows], dtype=np.float64) for key in _NUMBERS}
    return {key: entry_of(found[~np.isnan(found)]) for key, found in values.items()}


def overlaid(image: torch.Tensor, explanation: Explanation, mask: np.ndarray) -> np.ndarray:
    """(rows, 2 * columns, 3), uint8: the image, then with what speaks for its class (red) or against (blue)."""
    picture = (as_picture(image) + 1) / 2
    weights = explanation.weights / (np.abs(explanation.weights).max() or 1.0)
    strength = weights[explanation.segments][..., None]
    colour = np.where(strength > 0, [1.0, 0.1, 0.0], [0.0, 0.3, 1.0])
    shown = picture + 0.6 * np.abs(strength) * (colour - picture)
    shown[mask & ~binary_erosion(mask)] = [1.0, 1.0, 0.0]
    return np.rint(255 * np.concatenate([picture, shown], axis=1).clip(0, 1)).astype(np.uint8)


def table(content: Mapping[str, Any]) -> str:
    """A row a set, then a row a class with the agreement, in Markdown."""
    rows = [
        [name, str(row["correct"]["n"]), *(_cell(row[key]) for key in _NUMBERS)]
        for name, row in content["sets"].items()
    ]
    lines = markdown(["images", "n", *_NUMBERS.values()], rows)
    lines += ["", "Correlation of the mean importance maps of a class, each mean over half of the images:", ""]
    found = [[name, _cell(row["between"]), _cell(row["halves_of_real"])] for name, row in content["agreement"].items()]
    return "\n".join(lines + markdown(["class", "real and synthetic", "real and real"], found)) + "\n"


def _cell(entry: Mapping[str, Any] | float | None) -> str:
    value, interval = (entry["value"], entry["interval95"]) if isinstance(entry, Mapping) else (entry, None)
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
