"""Every metric by name: what it looks at, which class computes it, its definition and its source."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """
    One metric.

    Attributes:
        kind: "features" (two sets of feature vectors), "sets" (two sets of images), "each" (a value an image, of both
            sets), "pairs" (a generated and the real image of one name), "training" (needs the training images too),
            "bundle" (needs what only a bundle has, such as a mask or a classifier).
        made_by: "room.module:class" of this package; for "each", "module:function" of (N, C, *spatial) images.
        definition: one line.
        read: what a good value is.
        source: paper and equation.
        arguments: of the class.
        metric: the class for ``metrics_by_name``, where ``made_by`` is a function.
        given: argument of the class -> the name under which ``metrics_by_name`` is given it.
        equalised: the network sees volumes with equalised histograms.
        maps: the network gives feature maps, not vectors.
        spacing: the function takes the voxel's sides after the image.
        by_default: compared when no metrics are named and the data allow it.
        one_set: looks at one set only, so that both sets are measured one by one.

    >>> METRICS["fid"].source, METRICS["fid"].needs_network
    ('Heusel et al. 2017, eq. 6', True)
    """

    kind: str
    made_by: str
    definition: str
    read: str
    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
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
        return _imported(self.made_by)

    def metric_class(self) -> Any:
        """The class for ``metrics_by_name``."""
        return _imported(self.metric or self.made_by)


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(f"..{module}", __package__), name)


_LOW = "lower is better, 0 for equal sets"
_HIGH = "higher is better, at most 1"
_REAL = "aim for the real images' value"
_KYNKAANNIEMI, _NAEEM = "Kynkäänniemi et al. 2019, eq. 1 and 2", "Naeem et al. 2020, eq. "
_NEIGHBOURS = {
    "precision": (
        "share of generated images within the k-th-neighbour balls of real ones, k = 3",
        _HIGH + " (fidelity)",
        _KYNKAANNIEMI,
    ),
    "recall": (
        "share of real images within the k-th-neighbour balls of generated ones, k = 3",
        _HIGH + " (diversity)",
        _KYNKAANNIEMI,
    ),
    "density": (
        "mean number of real k-th-neighbour balls around a generated image, over k = 5",
        "about 1 for equal distributions",
        _NAEEM + "3",
    ),
    "coverage": ("share of real k-th-neighbour balls that hold a generated image, k = 5", _HIGH, _NAEEM + "4"),
}
METRICS: dict[str, Entry] = {
    "fid": Entry(
        "features",
        "metrics.frechet:FrechetDistanceMetric",
        "Fréchet distance of two Gaussians with the features' means and covariances",
        _LOW + "; biased upwards for small n",
        "Heusel et al. 2017, eq. 6",
    ),
    "fid_equalised": Entry(
        "features",
        "metrics.frechet:FrechetDistanceMetric",
        "fid of images whose histograms were equalised one by one",
        _LOW + "; biased upwards for small n",
        "Med-DDPM 2024, section III",
        equalised=True,
        by_default=False,
    ),
    "kid": Entry(
        "features",
        "metrics.mmd:KernelDistanceMetric",
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
    **{
        quantity: Entry("features", "metrics.neighbours:CoverageMetric", *words, {"quantity": quantity})
        for quantity, words in _NEIGHBOURS.items()
    },
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
        "metrics.diversity:SetMSSSIM",
        "mean MS-SSIM of random pairs within one set (200 pairs)",
        _REAL + "; the lower, the more diverse",
        "Wang et al. 2003, eq. 7; Med-DDPM 2024, Table I",
        one_set=True,
    ),
    "acutance": Entry(
        "each",
        "metrics.sharpness:acutance",
        "mean squared gradient over contrast, in physical units: sharpness",
        _REAL + "; above is noise, below is blur",
        "Higgins and Jones 1952",
        metric="metrics.sharpness:Acutance",
        spacing=True,
        one_set=True,
    ),
    "grain": Entry(
        "each",
        "metrics.sharpness:grain",
        "mean squared Laplacian on the voxel grid: change from voxel to voxel",
        _REAL + "; above is noise, below is blur",
        "this project",
        metric="metrics.sharpness:Grain",
        one_set=True,
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
        "metrics.ssim:StructuralSimilarity",
        "mean structural similarity, Gaussian window of 11, range 2, intensities counted from -1",
        _HIGH,
        "Wang et al. 2004, eq. 13",
    ),
    "ms_ssim_paired": Entry(
        "pairs",
        "metrics.ssim:PairedMSSSIM",
        "multi-scale SSIM of pairs, as many of five scales as fit, range 2, intensities counted from -1",
        _HIGH,
        "Wang et al. 2003, eq. 7",
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
        given={"weights": "lpips_weights"},
        by_default=False,
    ),
    "lpips_vgg": Entry(
        "pairs",
        "metrics.perceptual:LPIPS",
        "LPIPS v1.0 with VGG16 and its learned weights, by the lpips package",
        "lower is better, 0 for equal images",
        "Zhang et al. 2018, eq. 1",
        arguments={"net": "vgg"},
        given={"weights": "vgg16_weights"},
        by_default=False,
    ),
    "memorisation": Entry(
        "training",
        "evaluation.memorisation:audit",
        "share of generated images nearer to a training than to any held-out image, and copies of training images",
        "no copies, and a share no larger than chance",
        "this project, see the reference page",
        metric="evaluation.audit:MemorisationMetric",
        given={"train": "training_images"},
    ),
    "psnr_in_hole": Entry(
        "bundle",
        "metrics.fidelity:PeakSignalToNoise",
        "psnr inside the mask that is the last channel of the reference",
        "higher is better, dB",
        "image processing",
        {"region": "inside"},
        by_default=False,
    ),
    "background_rms": Entry(
        "bundle",
        "metrics.fidelity:BackgroundDeviation",
        "error inside the mask (last channel of the reference) where all around is background, grey levels of 255",
        "lower is better; nothing is seen below about 1",
        "this project",
        by_default=False,
    ),
    "machine_2afc_paired": Entry(
        "bundle",
        "evaluation.observer:MachineObserverMetric",
        "machine_2afc with an image and its restored version in one fold of the cross-validation",
        "0.5 where it cannot tell, 1 where it always can",
        "Med-cDiff 2023, Table 3 (by readers)",
        {"paired": True},
        by_default=False,
    ),
    "accuracy": Entry(
        "bundle",
        "metrics.consistency:ClassAccuracy",
        "share of images whose class a classifier finds",
        _REAL,
        "Med-cDiff 2023, section 4 (downstream task)",
        given={"network": "classifier"},
        by_default=False,
    ),
    "mask_dice": Entry(
        "bundle",
        "metrics.consistency:MaskDice",
        "Dice of the input mask and a segmenter's reading of the volume",
        _REAL,
        "Dice 1945",
        one_set=True,
        by_default=False,
    ),
}
