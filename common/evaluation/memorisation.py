"""Memorisation audit: does a set of synthetic images hold copies of training images, real held-out ones as control?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from ..metrics.groups import groups_in_both
from .copy_threshold import Control, copy_threshold
from .nearest import Comparison, Matches, comparable, comparison_of, flips, nearest
from .share_nearer import share_in_features, share_nearer, unflipped

COPIES_FOUND = 3
_SETS = ("synthetic", "train", "held_out")
_PART = 256  # synthetic images in memory at once


@dataclass(frozen=True)
class AuditSettings:
    """
    Choices of an audit, all recorded.

    Attributes:
        false_alarm: probability that a set that copies nothing has one image called a copy.
        longest_side: of the grid on which pixels are compared; None for 64 in 2D, 32 in 3D.
        fit: "crop" or "resize", see ``nearest.comparison_of``; None for "crop" in 3D, "resize" in 2D.
        shift: largest shift in grid points.
        candidates: nearest images, of each kind, whose pixels are aligned.
        seed: of bootstrap and permutations.
        resamples: of both.

    >>> AuditSettings(seed=1).false_alarm
    0.01
    """

    false_alarm: float = 0.01
    longest_side: int | None = None
    fit: str | None = None
    shift: int = 1
    candidates: int = 5
    seed: int = 0
    resamples: int = 1000


@dataclass(frozen=True)
class Match:
    """
    A nearest image: index, name, distance, spatial axes along which it is flipped, shift in grid points.

    >>> Match(0, "a.png", 0.1, flip=(1,), shift=(0, 0)).flip
    (1,)
    """

    index: int
    name: str
    distance: float
    flip: tuple[int, ...]
    shift: tuple[int, ...]


@dataclass(frozen=True)
class AuditPair:
    """
    A synthetic image, its nearest training image, its nearest held-out image, and whether it is a copy.

    >>> near, far = (Match(0, name, distance, (), (0, 0)) for name, distance in (("a", 0.1), ("b", 0.9)))
    >>> AuditPair(0, "generated", train=near, held_out=far, copy=True).train.name
    'a'
    """

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
            images, or groups of them, which holds where many synthetic images share a nearest real one.
        p_value_less: of so few or fewer by chance, likewise.
        feature_share: the same share in feature space, with its interval; None without features.
        comparison: grid and band of the pixel distance.
        settings: of the audit.
        groups: number of them in training and among the held-out images, where the p-values know of any.

    >>> images = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    >>> len(audit(synthetic=images[:5], train=images[:20], held_out=images[20:]).copies)
    5
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
    groups: dict[str, int] | None = None

    @property
    def copies(self) -> list[AuditPair]:
        """The pairs that are copies, worst first."""
        return [pair for pair in self.pairs if pair.copy]

    @property
    def exit_code(self) -> int:
        """0 without copies, 3 with."""
        return COPIES_FOUND if self.copies else 0


def audit(
    synthetic: Sequence[Tensor],
    train: Sequence[Tensor],
    held_out: Sequence[Tensor],
    features: tuple[Tensor, Tensor, Tensor] | None = None,
    names: tuple[Sequence[str], Sequence[str], Sequence[str]] | None = None,
    settings: AuditSettings | None = None,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
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
        groups: what each training and each held-out image belongs to, such as a patient, for the p-values of the share;
            None where each stands for itself.

    Raises:
        ValueError: for an empty set, fewer than 10 held-out images or nearly all of them copies, other channels or
            dimensions, NaN, features of another number of images, or groups that have images in both sets.

    Source: Levina and Bickel 2004 (distances to neighbours and the dimension of the data); Clopper and Pearson 1934.
    """
    settings = settings or AuditSettings()
    sets = (synthetic, train, held_out)
    check_groups(groups)
    how = comparison_of(_checked_shapes(sets, features), settings.fit, settings.longest_side)
    references = [comparable(images, how, name) for name, images in zip(_SETS[1:], sets[1:])]
    channels = {images.shape[1] for images in references} | {len(synthetic[0])}
    if len(channels) > 1:
        raise ValueError(f"Images of {sorted(channels)} channels; the three sets must have the same.")
    of = [_names(names[i] if names else None, images) for i, images in enumerate(sets)]
    near = [(None, None)] * 2 if features is None else [(features[0], unflipped(features[i])) for i in (1, 2)]
    to_train, to_held_out = _matches(synthetic, how, references, near, settings)
    controls = None if features is None else (features[2], unflipped(features[1]))
    distances = nearest(references[1], references[0], controls, settings.shift, settings.candidates).distance.numpy()
    drawn = settings.seed, settings.resamples
    control = copy_threshold(distances, len(synthetic), settings.false_alarm, *drawn)
    pairs = [
        AuditPair(i, of[0][i], one, _match(to_held_out, i, of[2]), one.distance < control.threshold)
        for i, one in enumerate(_match(to_train, i, of[1]) for i in range(len(synthetic)))
    ]
    chance = len(train) / (len(train) + len(held_out))
    return AuditResult(
        pairs=sorted(pairs, key=lambda pair: pair.train.distance),
        control=control,
        n={name: len(images) for name, images in zip(_SETS, sets)},
        **share_nearer(to_train, to_held_out, len(train), len(held_out), *drawn, groups),
        chance=chance,
        feature_share=None if features is None else share_in_features(features, *drawn, groups),
        comparison=how,
        settings=settings,
        groups=groups and {name: len(set(own)) for name, own in zip(_SETS[1:], groups)},
    )


def _matches(
    synthetic: Sequence[Tensor],
    how: Comparison,
    references: Sequence[Tensor],
    features: Sequence[tuple[Tensor | None, Tensor | None]],
    settings: AuditSettings,
) -> list[Matches]:
    """The nearest of each set of references; images are read in parts, so memory does not grow with their number."""
    found: list[list[Matches]] = [[] for _ in references]
    for start in range(0, len(synthetic), _PART):
        rows = range(start, min(start + _PART, len(synthetic)))
        queries = comparable(Subset(synthetic, rows), how, _SETS[0], start)  # type: ignore[arg-type]
        for matches, reference, (own, other) in zip(found, references, features):
            near = None if own is None or other is None else (own[..., rows.start : rows.stop, :], other)
            matches.append(nearest(queries, reference, near, settings.shift, settings.candidates))
    return [Matches.joined(parts) for parts in found]


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


def check_groups(groups: tuple[Sequence[str], Sequence[str]] | None) -> None:
    """Refuse groups of training images that are those of held-out images too, by a ValueError that names one."""
    both = groups_in_both(*groups) if groups else []
    if both:
        raise ValueError(
            f"{len(both)} groups, such as {both[0]}, have images in training and among the held-out ones; the audit "
            "needs held-out images of others."
        )


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
