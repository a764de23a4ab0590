"""Every metric by name: what it looks at, which class computes it, its definition and source; and how to make it."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("features", "sets", "each", "pairs", "training", "bundle")


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


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(f"..{module}", __package__), name)


_LOW, _HIGH, _REAL = (
    "lower is better, 0 for equal sets",
    "higher is better, at most 1",
    "aim for the real images' value",
)

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


def known(names: Any) -> list[str]:
    """
    Metric names as given on a command line ("fid,kid" or a list), in the order of the catalogue.

    Raises:
        ValueError: for a name that is not in ``METRICS`` or belongs to bundles; lists those that can be named.
    """
    given = [part.strip() for part in names.split(",")] if isinstance(names, str) else [str(part) for part in names]
    possible = [name for name, entry in METRICS.items() if entry.kind != "bundle"]
    unknown = [name for name in given if name not in possible]
    if unknown or not given:
        raise ValueError(f"No metric {', '.join(map(repr, unknown))}; there are {', '.join(possible)}.")
    return [name for name in possible if name in given]


def metrics_by_name(
    names: Sequence[str],
    networks: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **shared: Any,
) -> dict[str, Any]:
    """
    Metrics by their names, as an ``evaluate.json`` lists them.

    A name is one of ``METRICS``; with ``_real`` behind it where the metric looks at one set and the real one is meant;
    with the key of a feature network in brackets, ``fid[v1]``, where it is not the first of ``networks``.

    Args:
        names: such as ``["kid", "fid[v1]", "ms_ssim_real"]``.
        networks: key -> feature network; the metrics of a network that is None are left out.
        options: name -> further arguments of this metric's class.
        shared: given to every class that takes an argument of that name (see ``Entry.given``), such as ``spacing``,
            ``device``, ``lpips_weights``, ``classifier``; a metric whose argument is None here is left out.

    Returns:
        Name -> metric.

    Raises:
        ValueError: for an unknown name or network, or where a class needs an argument that is not given.

    >>> list(metrics_by_name(["ssim", "acutance_real", "lpips"], spacing=1.0, lpips_weights=None))
    ['ssim', 'acutance_real']
    """
    return {name: make() for name, make in metric_makers(names, networks, options, **shared).items()}


def metric_makers(
    names: Sequence[str],
    networks: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **shared: Any,
) -> dict[str, Callable[[], Any]]:
    """Name -> makes a new metric, for tables of several methods; arguments as of ``metrics_by_name``."""
    networks = dict(networks or {})
    makers: dict[str, Callable[[], Any]] = {}
    for full in names:
        name, of, key = _parsed(full, networks)
        entry = METRICS[name]
        made_by = _imported(entry.metric or entry.made_by)
        arguments: dict[str, Any] = {**entry.arguments, **({"of": of} if of else {})}
        parameters = inspect.signature(made_by).parameters
        if "features" in parameters and entry.kind != "sets" and key:
            arguments["features"] = networks[key]
        for parameter in parameters:
            source = entry.given.get(parameter, parameter)
            if source in shared:
                arguments[parameter] = shared[source]
        if any(value is None for value in arguments.values()):
            continue
        arguments |= (options or {}).get(full, {})
        missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in arguments]
        if missing:
            needed = ", ".join(entry.given.get(argument, argument) for argument in missing)
            raise ValueError(f"The metric {full} needs {needed}.")
        makers[full] = functools.partial(made_by, **arguments)
    return makers


def _parsed(full: str, networks: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name in the catalogue, "real" or "generated" where it looks at one set, and key of the network."""
    name, _, key = full.removesuffix("]").partition("[")
    of = ""
    if name not in METRICS and METRICS.get(name.removesuffix("_real"), METRICS["fid"]).one_set:
        name, of = name.removesuffix("_real"), "real"
    if name not in METRICS:
        raise ValueError(f"No metric {full!r}; there are {', '.join(METRICS)}.")
    if key and key not in networks:
        raise ValueError(f"{full} names a network that is not among {', '.join(networks)}.")
    return name, of or "generated" * METRICS[name].one_set, key or next(iter(networks), "")
