"""Every metric by name: what it looks at, which class computes it, its definition and source."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = ("features", "sets", "each", "pairs", "training")


@dataclass(frozen=True)
class Entry:
    """
    One metric.

    Attributes:
        kind: "features" (two sets of feature vectors), "sets" (two sets of images), "each" (a value an image, of both
            sets), "pairs" (a generated and the real image of one name), "training" (needs the training images too).
        made_by: "room.module:class" of this package; for "each", "module:function" of (N, C, *spatial) images.
        definition: one line.
        read: what a good value is.
        source: paper and equation.
        arguments: of the class.
        equalised: the network sees volumes with equalised histograms.
        maps: the network gives feature maps, not vectors.
        spacing: the function takes the voxel's sides after the image.
        by_default: compared when no metrics are named and the data allow it.
        one_set: looks at one set only, so that both sets are measured one by one.
    """

    kind: str
    made_by: str
    definition: str
    read: str
    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    equalised: bool = False
    maps: bool = False
    spacing: bool = False
    by_default: bool = True
    one_set: bool = False

    @property
    def needs_network(self) -> bool:
        """Whether a feature network must be named."""
        return self.kind == "features" or self.maps

    def make(self, *given: Any, **more: Any) -> Any:
        """The metric, by its class; ``given`` is the feature network where it needs one."""
        return self.code()(*given, **{**self.arguments, **more})

    def code(self) -> Any:
        """The class or function itself; imported only now, since some need optional packages."""
        module, name = self.made_by.split(":")
        return getattr(importlib.import_module(f"..{module}", __package__), name)


_LOW, _HIGH, _REAL = (
    "lower is better, 0 for equal sets",
    "higher is better, at most 1",
    "aim for the real images' value",
)

METRICS: dict[str, Entry] = {
    "fid": Entry(
        "features",
        "metrics.fid:FrechetDistanceMetric",
        "Fréchet distance of two Gaussians with the features' means and covariances",
        _LOW + "; biased upwards for small n",
        "Heusel et al. 2017, eq. 6",
    ),
    "fid_equalised": Entry(
        "features",
        "metrics.fid:FrechetDistanceMetric",
        "fid of images whose histograms were equalised one by one",
        _LOW + "; biased upwards for small n",
        "Med-DDPM 2024, section III",
        equalised=True,
        by_default=False,
    ),
    "kid": Entry(
        "features",
        "metrics.fid:KernelDistanceMetric",
        "unbiased squared MMD of features, kernel (x.y / d + 1)^3",
        _LOW + " on average, may be slightly negative; comparable across n",
        "Bińkowski et al. 2018, section 4",
    ),
    "mmd_features": Entry(
        "features",
        "metrics.mmd:MaximumMeanDiscrepancy",
        "unbiased squared MMD of features, Gaussian kernel, bandwidth the median distance",
        _LOW + " on average",
        "Gretton et al. 2012, eq. 3",
        {"kernel": "rbf"},
        by_default=False,
    ),
    "precision": Entry(
        "features",
        "metrics.coverage:CoverageMetric",
        "share of generated images within the k-th-neighbour balls of real ones, k = 3",
        "higher is better, at most 1 (fidelity)",
        "Kynkäänniemi et al. 2019, eq. 1 and 2",
        {"quantity": "precision"},
    ),
    "recall": Entry(
        "features",
        "metrics.coverage:CoverageMetric",
        "share of real images within the k-th-neighbour balls of generated ones, k = 3",
        "higher is better, at most 1 (diversity)",
        "Kynkäänniemi et al. 2019, eq. 1 and 2",
        {"quantity": "recall"},
    ),
    "density": Entry(
        "features",
        "metrics.coverage:CoverageMetric",
        "mean number of real k-th-neighbour balls around a generated image, over k = 5",
        "about 1 for equal distributions",
        "Naeem et al. 2020, eq. 3",
        {"quantity": "density"},
    ),
    "coverage": Entry(
        "features",
        "metrics.coverage:CoverageMetric",
        "share of real k-th-neighbour balls that hold a generated image, k = 5",
        _HIGH,
        "Naeem et al. 2020, eq. 4",
        {"quantity": "coverage"},
    ),
    "machine_2afc": Entry(
        "features",
        "evaluation.observer:MachineObserverMetric",
        "two-alternative forced choice by logistic regression on the features, cross-validated",
        "0.5 where it cannot tell, 1 where it always can; a lower bound on what readers can tell",
        "Med-cDiff 2023, Table 3 (by readers)",
        by_default=False,
    ),
    "mmd": Entry(
        "sets",
        "metrics.mmd:MaximumMeanDiscrepancy",
        "unbiased squared MMD of pixels, linear kernel: squared distance of the two mean images",
        _LOW + " on average; grows with the number of pixels",
        "Gretton et al. 2012, eq. 3; Med-DDPM 2024, Table I",
        {"kernel": "linear"},
    ),
    "mmd_rbf": Entry(
        "sets",
        "metrics.mmd:MaximumMeanDiscrepancy",
        "unbiased squared MMD of pixels, Gaussian kernel, bandwidth the median distance",
        _LOW + " on average",
        "Gretton et al. 2012, eq. 3",
        {"kernel": "rbf"},
    ),
    "ms_ssim": Entry(
        "sets",
        "metrics.ms_ssim:SetMSSSIM",
        "mean MS-SSIM of random pairs within one set (200 pairs)",
        _REAL + "; the lower, the more diverse",
        "Wang et al. 2003, eq. 7; Med-DDPM 2024, Table I",
        {"lowest": -1.0},
        one_set=True,
    ),
    "acutance": Entry(
        "each",
        "metrics.acutance:acutance",
        "mean squared gradient over contrast, in physical units: sharpness",
        _REAL + "; above is noise, below is blur",
        "Higgins and Jones 1952",
        spacing=True,
    ),
    "grain": Entry(
        "each",
        "metrics.grain:grain",
        "mean squared Laplacian on the voxel grid: change from voxel to voxel",
        _REAL + "; above is noise, below is blur",
        "this project",
    ),
    "mse": Entry(
        "pairs",
        "metrics.fidelity:MeanSquaredError",
        "mean squared difference, images in [-1, 1]",
        "lower is better",
        "-",
    ),
    "mae": Entry(
        "pairs",
        "metrics.fidelity:MeanAbsoluteError",
        "mean absolute difference, images in [-1, 1]",
        "lower is better",
        "-",
    ),
    "psnr": Entry(
        "pairs",
        "metrics.fidelity:PeakSignalToNoise",
        "10 log10(range^2 / mse), range 2",
        "higher is better, dB",
        "image processing",
    ),
    "ssim": Entry(
        "pairs",
        "metrics.fidelity:StructuralSimilarity",
        "mean structural similarity, Gaussian window of 11, range 2, intensities counted from -1",
        _HIGH,
        "Wang et al. 2004, eq. 13",
    ),
    "ms_ssim_paired": Entry(
        "pairs",
        "metrics.ms_ssim:PairedMSSSIM",
        "multi-scale SSIM of pairs, as many of five scales as fit, range 2, intensities counted from -1",
        _HIGH,
        "Wang et al. 2003, eq. 7",
        {"lowest": -1.0},
    ),
    "perceptual": Entry(
        "pairs",
        "metrics.perceptual:PerceptualDistance",
        "squared distance of unit-length feature maps, mean over places, summed over levels",
        "lower is better, 0 for equal images",
        "Zhang et al. 2018, eq. 1, without learned weights",
        maps=True,
    ),
    "lpips": Entry(
        "pairs",
        "metrics.perceptual:LPIPS",
        "LPIPS v1.0 with AlexNet and its learned weights, by the lpips package",
        "lower is better, 0 for equal images",
        "Zhang et al. 2018, eq. 1",
        by_default=False,
    ),
    "memorisation": Entry(
        "training",
        "evaluation.memorisation:audit",
        "share of generated images nearer to a training than to any held-out image, and copies of training images",
        "no copies, and a share no larger than chance",
        "this project, see the reference page",
    ),
}


def known(names: Any) -> list[str]:
    """
    Metric names as given on a command line ("fid,kid" or a list), in the order of the table.

    Raises:
        ValueError: for a name that is not in ``METRICS``; lists those that are.
    """
    given = [part.strip() for part in names.split(",")] if isinstance(names, str) else [str(part) for part in names]
    unknown = [name for name in given if name not in METRICS]
    if unknown or not given:
        raise ValueError(f"No metric {', '.join(map(repr, unknown))}; there are {', '.join(METRICS)}.")
    return [name for name in METRICS if name in given]
