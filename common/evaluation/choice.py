"""What a comparison of two folders will do: images, metrics and networks that go together, or an error early."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..features.features import FeatureNetwork
from ..features.registry import REGISTRY, spec_of
from .catalogue import known
from .entries import METRICS
from .folders import ImageFolder, median_spacing
from .groups import groups_of_folders

_YES, _NO = ("true", "yes", "1"), ("false", "no", "0", "none")
VOXELS_ALIKE = 0.05  # relative difference of median voxel sides that is none


@dataclass(frozen=True)
class Options:
    """
    Choices of a comparison or an audit, in Python and on the command line.

    Attributes:
        metrics: names, comma between; `metrics` lists them. By default what data and network allow.
        network: one or several feature networks, comma between; `networks` lists them. None is chosen by itself.
        weights: a file for each network that brings none, in the same order.
        lpips_weights: torchvision's AlexNet for lpips.
        vgg16_weights: torchvision's VGG16 for lpips_vgg.
        scaling: of intensities to [-1, 1]: percentiles (0.5 and 99.5 of each image), dtype (range of the file's
            integers), none (is there already), auto (dtype for PNG and JPEG, percentiles for others).
        grey: measure the luminance of colour pictures.
        size: sides to bring every image to, e.g. 224,224.
        spacing: voxel sides in mm to bring every image to, e.g. 1,1,1.
        crop: accept folders of different image or voxel sizes.
        subject_of: rule that tells a patient by a file's name, so that intervals draw whole patients: a regular
            expression whose first group is the patient, e.g. "(sub-[0-9]+)", or "decathlon_hippocampus".
        group_by: column of the manifest.csv in --real that tells it, beside its column "path".
        seed: of every draw.
        batch_size: images that a network sees at a time.
        device: for the networks, e.g. cuda.
        max_images: most images of a folder that pixel metrics of whole sets keep in memory.

    >>> Options.of(metrics="fid,kid", network="cxr_v1", size="64,64").metrics
    ('fid', 'kid')
    """

    metrics: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    lpips_weights: str | None = None
    vgg16_weights: str | None = None
    scaling: str = "auto"
    grey: bool = False
    size: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    crop: bool = False
    subject_of: str | None = None
    group_by: str | None = None
    seed: int = 0
    batch_size: int = 8
    device: str = "cpu"
    max_images: int = 256

    @classmethod
    def of(cls, **words: Any) -> Options:
        """Options from words of a command line, numbers, or tuples."""
        numbers: dict[str, Callable[[Any], Any]] = {"size": int, "spacing": float}
        defaults = {f.name: f.default for f in fields(cls)}
        found: dict[str, Any] = {}
        for name, value in words.items():
            if name in numbers:
                found[name] = tuple(_number(name, part, numbers[name]) for part in _words(value)) or None
            elif isinstance(defaults[name], tuple):
                found[name] = _words(value)
            elif isinstance(defaults[name], bool):
                if str(value).lower() not in (*_YES, *_NO):
                    raise ValueError(f"--{name}: true or false was expected, got {value!r}.")
                found[name] = str(value).lower() in _YES
            else:
                number = isinstance(defaults[name], int)
                found[name] = _number(name, value, int) if number else value and str(value)
        return cls(**found)

    def folder(self, path: str | Path) -> ImageFolder:
        """A folder, read as these options say."""
        return ImageFolder(path, self.scaling, self.grey, self.size, self.spacing)


def _number(name: str, value: Any, kind: Callable[[Any], Any]) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        expected = "a whole number" if kind is int else "a number"
        raise ValueError(f"--{name}: {expected} was expected, got {value!r}.") from error


def _words(given: Any) -> tuple[str, ...]:
    """Fire gives "a,b" as text or as a tuple."""
    if given is None:
        return ()
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, (tuple, list)) else [given]
    return tuple(str(part).strip() for part in parts if str(part).strip())


@dataclass
class Plan:
    """
    Folders, metrics and networks that go together.

    Attributes:
        real: images to compare with.
        fake: generated images.
        train: what the generator was trained with, for the memorisation audit.
        paired: whether both folders hold files of the same names.
        metrics: names of the table, in its order.
        networks: in the order given.
        notices: what a reader should know, one line each.
        groups: what each image of "real", "fake" and "train" belongs to; nothing where each stands for itself.

    >>> plan("nowhere", "nowhere", None, Options())
    Traceback (most recent call last):
    FileNotFoundError: No folder nowhere.
    """

    real: ImageFolder
    fake: ImageFolder
    train: ImageFolder | None
    paired: bool
    metrics: list[str]
    networks: list[FeatureNetwork] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)


def plan(real: str | Path, fake: str | Path, train: str | Path | None, options: Options) -> Plan:
    """
    Folders opened, checked against each other, metrics chosen, networks loaded; no pixel metric is computed yet.

    Raises:
        FileNotFoundError: for a folder without images, or weights that are not there.
        ValueError: for whatever does not go together; names folder, file or metric.
    """
    opened = [options.folder(path) for path in (real, fake, train) if path is not None]
    folders = dict(zip(("real", "fake", "train"), opened))
    check_together(folders, options.crop)
    paired = opened[0].names == opened[1].names
    metrics = list(known(options.metrics)) if options.metrics else default_metrics(folders, paired, options)
    result = Plan(opened[0], opened[1], folders.get("train"), paired, metrics)
    _check_metrics(result, options)
    result.groups = groups_of_folders(folders, options.subject_of, options.group_by)
    result.notices = about_folders(folders)
    if not options.metrics:
        result.notices += _about_defaults(result, options)
    names = options.network if any(METRICS[name].needs_network for name in metrics) or "memorisation" in metrics else ()
    result.networks = load_networks(names, options, opened[0].spatial_dims)
    return result


def about_folders(folders: Mapping[str, ImageFolder]) -> list[str]:
    """A line for each folder with outputs of runs that are not measured, or whose type is far wider than its values."""
    left_out = [
        f"--{name}: {len(folder.left_out)} sheets, previews or maps of runs are left out, e.g. {folder.left_out[0]}."
        for name, folder in folders.items()
        if folder.left_out
    ]
    ranges = {name: folder.unused_range() for name, folder in folders.items()}
    return left_out + [f"--{name}: {notice}" for name, notice in ranges.items() if notice]


def check_together(folders: Mapping[str, ImageFolder], crop: bool, one_size: bool = True) -> None:
    """
    Refuse folders whose images cannot be compared.

    Sizes that vary within a folder are as the data are; one size here and another there, of images or of voxels, is a
    difference between the folders that every metric would see, so it must be wanted (``crop``).

    Args:
        folders: by the names of their arguments.
        crop: whether such differences are wanted.
        one_size: whether images must have one size as well; the audit brings all to one grid by itself.

    Raises:
        ValueError: for different dimensions, directions of axes or rules of scaling, or one size each that differs.
    """
    for key, value, hint in (
        ("spatial_dims", "{}D images", ""),
        ("scaling", "images scaled by the rule '{}'", "; choose one rule with --scaling"),
        ("axes", "slices whose axes point to {}", "; store them alike"),
    ):
        found = {name: value.format(getattr(folder, key)) for name, folder in folders.items()}
        if len(set(found.values())) > 1:
            raise ValueError(", ".join(f"--{name} holds {what}" for name, what in found.items()) + f"{hint}.")
    if crop:
        return
    sizes = {name: set(folder.shapes) for name, folder in folders.items()}
    if one_size and all(len(found) == 1 for found in sizes.values()) and len(set.union(*sizes.values())) > 1:
        text = ", ".join(f"--{name} {'x'.join(map(str, next(iter(found))))}" for name, found in sizes.items())
        raise ValueError(
            f"The folders hold images of different sizes: {text}. --size brings all to one size, --crop true measures "
            "them as they are (pixel metrics at the centre, features of whole images)."
        )
    voxels = {name: median_spacing(folder) for name, folder in folders.items() if folder.measured}
    first = next(iter(voxels.values()), [])
    if not all(np.allclose(found, first, rtol=VOXELS_ALIKE) for found in voxels.values()):
        text = ", ".join(f"--{name} {' x '.join(f'{mm:g}' for mm in found)} mm" for name, found in voxels.items())
        raise ValueError(
            f"The folders hold voxels of different sizes: {text}. --spacing brings all to one, --crop true measures "
            "them as they are."
        )


def default_metrics(folders: dict[str, ImageFolder], paired: bool, options: Options) -> list[str]:
    """What the data and the options allow, in the order of the table."""

    def possible(name: str) -> bool:
        entry = METRICS[name]
        if not entry.by_default or (entry.needs_network and not options.network):
            return False
        enough = min(len(folders["real"]), len(folders["fake"])) > 1
        same_sizes = folders["real"].shapes == folders["fake"].shapes
        return {"pairs": paired and same_sizes, "training": "train" in folders, "each": True}.get(entry.kind, enough)

    return [name for name in METRICS if possible(name)]


def _about_defaults(chosen: Plan, options: Options) -> list[str]:
    notices = []
    if not options.network:
        left_out = [name for name, entry in METRICS.items() if entry.needs_network and entry.by_default]
        notices.append(
            f"No --network was named, so these are left out: {', '.join(left_out)}. "
            f"Networks for {chosen.real.spatial_dims}D images: {', '.join(fitting(chosen.real.spatial_dims))}."
        )
    if chosen.paired and chosen.real.shapes == chosen.fake.shapes:
        notices.append("Both folders hold files of the same names: metrics of pairs are included.")
    elif chosen.paired:
        notices.append("Files of the same names differ in size: metrics of pairs are left out.")
    return notices


def _check_metrics(chosen: Plan, options: Options) -> None:
    kinds = {METRICS[name].kind: name for name in chosen.metrics}
    wanting = [name for name in chosen.metrics if METRICS[name].needs_network]
    if wanting and not options.network:
        fit = ", ".join(fitting(chosen.real.spatial_dims))
        raise ValueError(f"{', '.join(wanting)} need a feature network: --network, one or several of {fit}.")
    for folder in (chosen.real, chosen.fake):
        for kind in {"features", "sets"} & set(kinds):
            if len(folder) < 2:
                raise ValueError(f"{kinds[kind]} needs at least two images in each folder; {folder.path} holds one.")
    if "training" in kinds and chosen.train is None:
        raise ValueError("memorisation needs the training images: --train DIR.")
    if "pairs" in kinds:
        _check_pairs(chosen, kinds["pairs"])


def _check_pairs(chosen: Plan, metric: str) -> None:
    alone = sorted(set(chosen.real.names) ^ set(chosen.fake.names))
    if alone:
        raise ValueError(
            f"{metric} compares files of the same names; {len(alone)} have no partner, such as {', '.join(alone[:3])}."
        )
    for name, a, b in zip(chosen.real.names, chosen.real.shapes, chosen.fake.shapes):
        if a != b:
            raise ValueError(
                f"{metric} compares images of one size; {name} is {'x'.join(map(str, b))} in {chosen.fake.path} and "
                f"{'x'.join(map(str, a))} in {chosen.real.path}. --size brings all to one size."
            )


def fitting(spatial_dims: int) -> list[str]:
    """Names of the registered networks for images of so many dimensions, those whose weights are shipped first."""
    names = [name for name, spec in REGISTRY.items() if spec.spatial_dims in (None, spatial_dims)]
    return sorted(names, key=lambda name: REGISTRY[name].file is None)


def load_networks(names: Sequence[str], options: Options, spatial_dims: int) -> list[FeatureNetwork]:
    """
    The feature networks, with their weights.

    Raises:
        FileNotFoundError: for weights that are not there; says where to get them.
        ValueError: for an unknown name, another number of files than of names, or a network for other images.
    """
    if options.weights and len(options.weights) != len(names):
        raise ValueError(f"--weights names {len(options.weights)} files for {len(names)} networks; one each is needed.")
    networks = []
    for index, name in enumerate(names):
        if name not in REGISTRY and ":" not in name:
            raise ValueError(f"No feature network {name!r}; for {spatial_dims}D: {', '.join(fitting(spatial_dims))}.")
        dims = spec_of(name).spatial_dims
        if dims not in (None, spatial_dims):
            fit = ", ".join(fitting(spatial_dims))
            raise ValueError(f"{name} reads {dims}D images, these are {spatial_dims}D; for them there are {fit}.")
        networks.append(
            FeatureNetwork(name, options.weights[index] if options.weights else None, device=options.device)
        )
    return networks
