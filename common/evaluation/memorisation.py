"""Memorisation audit: does a set of synthetic images hold copies of training images, real held-out ones as control?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..metrics.nearest import Comparison, Matches, comparable, comparison_of, flips, nearest
from .memorisation_statistics import (
    AuditSettings,
    Control,
    copy_threshold,
    share_nearer,
    share_nearer_in_features,
    unflipped,
)

COPIES_FOUND = 3
_SETS = ("synthetic", "train", "held_out")


@dataclass(frozen=True)
class Match:
    """A nearest image: index, name, distance, spatial axes along which it is flipped, shift in grid points."""

    index: int
    name: str
    distance: float
    flip: tuple[int, ...]
    shift: tuple[int, ...]


@dataclass(frozen=True)
class AuditPair:
    """A synthetic image, its nearest training image, its nearest held-out image, and whether it is a copy."""

    index: int
    name: str
    train: Match
    held_out: Match
    copy: bool


@dataclass(frozen=True)
class AuditResult:
    """
    What an audit found.

    Attributes:
        pairs: one a synthetic image, nearest to a training image first.
        control: threshold and its origin; distances of the held-out images.
        n: images of the three sets.
        counted: synthetic images that are nearer to one of the two sets; ties are left out.
        closer: of these, those nearer to training.
        share: closer / counted; None without any.
        interval95: exact binomial interval of the share.
        chance: share of training images among all real ones: where the nearest image lies when nothing is memorised.
        p_value: of so many or more by chance; the larger of the binomial one and that of permuted roles of the real
            images, which holds where many synthetic images share a nearest real one.
        p_value_less: of so few or fewer by chance, likewise.
        feature_share: the same share in feature space, with its interval; None without features.
        comparison: grid and band of the pixel distance.
        settings: of the audit.
    """

    pairs: list[AuditPair]
    control: Control
    n: dict[str, int]
    counted: int
    closer: int
    share: float | None
    interval95: list[float] | None
    chance: float
    p_value: float | None
    p_value_less: float | None
    feature_share: dict[str, Any] | None
    comparison: Comparison
    settings: AuditSettings = field(default_factory=AuditSettings)

    @property
    def copies(self) -> list[AuditPair]:
        """The pairs that are copies, worst first."""
        return [pair for pair in self.pairs if pair.copy]

    @property
    def exit_code(self) -> int:
        """0 without copies, 3 with."""
        return COPIES_FOUND if self.copies else 0

    @property
    def verdict(self) -> str:
        """In words: copies or none, share against chance, state of the control."""
        return "\n".join(filter(None, (_on_copies(self), _on_share(self), _on_control(self))))

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        extra = {"verdict": self.verdict, "exit_code": self.exit_code, "number_of_copies": len(self.copies)}
        return {**extra, **asdict(self)}


def audit(
    synthetic: Sequence[Tensor],
    train: Sequence[Tensor],
    held_out: Sequence[Tensor],
    features: tuple[Tensor, Tensor, Tensor] | None = None,
    names: tuple[Sequence[str], Sequence[str], Sequence[str]] | None = None,
    settings: AuditSettings | None = None,
) -> AuditResult:
    """
    Look for copies of training images among synthetic ones, with real held-out images as control.

    Two questions, since one alone misses something. *Single copies*: the distances of held-out images to their nearest
    training images are what images that are no copies have; near 0, distances to the nearest of many points follow a
    Weibull law whose exponent is the dimension of the data, so it is fitted to the middle of these distances and
    extrapolated to where one of n images is expected with probability ``false_alarm``. The threshold is the lower end
    (10 %) of a bootstrap, so few controls make it stricter. Held-out images below it are copies of training images
    themselves; they are reported and not fitted. *The set as a whole*: if nothing is memorised, the nearest of all real
    images is a training image as often as training images are among them, n_train / (n_train + n_held_out); not 1/2.

    The distance is that of pixels, after band-pass and standardisation, over all flips and small shifts (the share:
    without shifts); it ignores intensity scale, noise and compression. Rotated, warped or partial copies, and copies of
    a region, are not looked for: "no copies found" is no proof of anonymity.

    Args:
        synthetic: (C, *spatial) each, or (N, C, *spatial); in [-1, 1]; 2D or 3D; read one at a time.
        train: what the generator was trained with.
        held_out: at least 10, real, from the same source, of other patients; not seen in training.
        features: of the three sets, (N, d) each, or (flips, N, d) in the order of ``nearest.flips`` for the synthetic
            and held-out ones; None to find candidates by pixels alone.
        names: of the three sets; by default their ``names`` or their indices.
        settings: choices.

    Raises:
        ValueError: for an empty set, fewer than 10 held-out images or nearly all of them copies, other channels or
            dimensions, NaN, or features of another number of images.

    Source: Levina and Bickel 2004 (distances to neighbours and the dimension of the data); Clopper and Pearson 1934.
    """
    settings = settings or AuditSettings()
    sets = (synthetic, train, held_out)
    how = comparison_of(_checked_shapes(sets, features), settings.fit, settings.longest_side)
    on_grid = [comparable(images, how, name) for name, images in zip(_SETS, sets)]
    channels = {images.shape[1] for images in on_grid}
    if len(channels) > 1:
        raise ValueError(f"Images of {sorted(channels)} channels; the three sets must have the same.")
    of = [_names(names[i] if names else None, images) for i, images in enumerate(sets)]

    def match(a: int, b: int) -> Matches:
        near = None if features is None else (features[a], unflipped(features[b]))
        return nearest(on_grid[a], on_grid[b], near, settings.shift, settings.candidates)

    to_train, to_held_out, control_distances = match(0, 1), match(0, 2), match(2, 1).distance
    control = copy_threshold(control_distances.numpy(), len(synthetic), settings)
    pairs = [
        AuditPair(i, of[0][i], one, _match(to_held_out, i, of[2]), one.distance < control.threshold)
        for i, one in enumerate(_match(to_train, i, of[1]) for i in range(len(synthetic)))
    ]
    chance = len(train) / (len(train) + len(held_out))
    return AuditResult(
        pairs=sorted(pairs, key=lambda pair: pair.train.distance),
        control=control,
        n={name: len(images) for name, images in zip(_SETS, sets)},
        **share_nearer(to_train, to_held_out, len(train), len(held_out), settings),
        chance=chance,
        feature_share=None if features is None else share_nearer_in_features(features, chance),
        comparison=how,
        settings=settings,
    )


def _match(matches: Matches, i: int, names: Sequence[str]) -> Match:
    index = int(matches.index[i])
    return Match(index, names[index], float(matches.distance[i]), matches.flip[i], matches.shift[i])


def _checked_shapes(sets: Sequence[Sequence[Tensor]], features: Sequence[Tensor] | None) -> list[tuple[int, ...]]:
    """Sides of all images of all sets; ValueError where the sets or their features do not go together."""
    for name, images in zip(_SETS, sets):
        if not len(images):
            raise ValueError(f"The set {name} is empty.")
    shapes = [_shapes(images) for images in sets]
    dims = {len(sides) for of_set in shapes for sides in of_set}
    if len(dims) > 1:
        raise ValueError(f"Images of {sorted(dims)} spatial dimensions; the three sets must have the same, 2 or 3.")
    for name, images, vectors in zip(_SETS, sets, features or ()):
        number = vectors.shape[-2] if vectors.ndim in (2, 3) else None
        if number != len(images) or (vectors.ndim == 3 and len(vectors) != len(flips(min(dims)))):
            raise ValueError(f"Features of {name} have shape {tuple(vectors.shape)} for {len(images)} images.")
        if not bool(torch.isfinite(vectors).all()):
            raise ValueError(f"Features of {name} hold NaN or infinity.")
    return [sides for of_set in shapes for sides in of_set]


def _names(given: Sequence[str] | None, images: Sequence[Tensor]) -> Sequence[str]:
    names = given if given is not None else getattr(images, "names", None)
    if isinstance(images, Tensor) and given is None:
        names = None  # a tensor's "names" are those of its axes
    if names is None:
        return [str(i) for i in range(len(images))]
    if len(names) != len(images):
        raise ValueError(f"{len(names)} names for {len(images)} images.")
    return names


def _shapes(images: Sequence[Tensor]) -> list[tuple[int, ...]]:
    known = getattr(images, "shapes", None)
    return [tuple(sides) for sides in known] if known else [tuple(images[i].shape[1:]) for i in range(len(images))]


def _on_copies(result: AuditResult) -> str:
    n, control, copies = result.n, result.control, result.copies
    rule = (
        f"A copy is nearer to a training image than {control.threshold:.3f}; the nearest of {control.n} held-out "
        f"images is at {control.nearest:.3f}. A set of {n['synthetic']} images that copies nothing has one called a "
        f"copy with a probability of about {result.settings.false_alarm:g}."
    )
    if not copies:
        least = result.pairs[0].train.distance
        return f"NO COPIES FOUND among {n['synthetic']} synthetic images; the nearest is at {least:.3f}. {rule}"
    both = sum(pair.held_out.distance < control.threshold for pair in copies)
    also = f" {both} of them are copies of held-out images too: the two sets share images." if both else ""
    return (
        f"COPIES FOUND: {len(copies)} of {n['synthetic']} synthetic images are copies of training images. {rule}{also}"
    )


def _on_share(result: AuditResult) -> str:
    if result.share is None or result.interval95 is None or result.p_value is None:
        return "No synthetic image is nearer to one of the two real sets."
    low, high = result.interval95
    judged = "MORE than chance allows." if result.p_value < 0.05 else "no more than chance allows."
    if result.p_value_less is not None and result.p_value_less < 0.025:
        judged = "LESS than chance: training and held-out images are different mixes, so this share says nothing."
    return (
        f"{result.closer} of {result.counted} ({result.share:.1%}, 95 % interval {low:.1%} to {high:.1%}) are nearer "
        f"to a training than to any held-out image; chance is {result.chance:.1%} (training images among all real "
        f"ones), p = {result.p_value:.2g}: {judged}"
    )


def _on_control(result: AuditResult) -> str:
    copies = result.control.copies
    if not copies:
        return ""
    are = "image is itself a copy" if len(copies) == 1 else "images are themselves copies"
    return f"{len(copies)} held-out {are} of training images, left out of the control; check the split."
