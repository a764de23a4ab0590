"""The share of synthetic images that are nearer to training than to held-out images, and what chance would give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from ..metrics.groups import group_numbers
from ..metrics.intervals import binomial_interval
from .nearest import Matches, nearest_features

_TIE = 1e-5  # of squared distances: the rounding of correlations in float32
_ROUNDING = 1e-6  # of numbers of images


def share_nearer(
    to_train: Matches,
    to_held_out: Matches,
    n_train: int,
    n_held: int,
    seed: int = 0,
    resamples: int = 1000,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
) -> dict[str, Any]:
    """
    Share of synthetic images that are nearer to training than to held-out images.

    Args:
        to_train: nearest training image of each synthetic one.
        to_held_out: nearest held-out image of each.
        n_train: training images.
        n_held: held-out images.
        seed: of the permutations.
        resamples: number of permutations.
        groups: what each training and each held-out image belongs to, such as a patient; None for itself.

    Returns:
        ``counted``, ``closer``, ``share``, ``interval95``, ``p_value`` and ``p_value_less``, see ``AuditResult``.
    """
    # Distances without shifts: there all pairs are compared, so that the size of a set has no other influence.
    a, b = to_train.unmoved, to_held_out.unmoved
    sides = (a, to_train.unmoved_index), (b, to_held_out.unmoved_index)
    return _share(*sides, (a**2 - b**2).abs() > _TIE, (n_train, n_held), seed, resamples, groups)


def share_in_features(
    features: Sequence[Tensor],
    seed: int = 0,
    resamples: int = 1000,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The same share by distances of features, (N, d) or (flips, N, d), of synthetic, training, held-out images."""
    others = [unflipped(own) for own in features[1:]]
    sides = [nearest_features(features[0], own) for own in others]
    numbers = len(others[0]), len(others[1])
    return _share(sides[0], sides[1], sides[0][0] != sides[1][0], numbers, seed, resamples, groups)


def unflipped(features: Tensor) -> Tensor:
    """(N, d) of features that may be (flips, N, d), no flip first."""
    return features[0] if features.ndim == 3 else features


def _share(
    to_train: tuple[Tensor, Tensor],
    to_held_out: tuple[Tensor, Tensor],
    decided: Tensor,
    numbers: tuple[int, int],
    seed: int,
    resamples: int,
    groups: tuple[Sequence[str], Sequence[str]] | None,
) -> dict[str, Any]:
    """Of the least distance of each synthetic image to each set, and the number of the image there."""
    (a, index), (b, other_index) = to_train, to_held_out
    closer, counted = int((a < b)[decided].sum()), int(decided.sum())
    if not counted:
        nothing = dict.fromkeys(("share", "interval95", "p_value", "p_value_less"))
        return {"counted": counted, "closer": closer, **nothing}
    # Several synthetic images may share a nearest real image, or patient, and are then no independent trials.
    nearest_real = torch.where(a < b, index, numbers[0] + other_index)[decided]
    excess, found = _excess(nearest_real.numpy(), group_numbers(numbers, groups), counted)
    rng = np.random.default_rng(seed)
    roles = np.arange(len(excess)) < len(set(groups[0]) if groups else range(numbers[0]))
    drawn = np.array([excess @ rng.permutation(roles) for _ in range(resamples)])
    p = [
        float(max(binomtest(closer, counted, numbers[0] / sum(numbers), side).pvalue, (1 + extreme) / (1 + resamples)))
        for side, extreme in (
            ("greater", (drawn >= found - _ROUNDING).sum()),
            ("less", (drawn <= found + _ROUNDING).sum()),
        )
    ]
    share = {"share": closer / counted, "interval95": binomial_interval(closer, counted)}
    return {"counted": counted, "closer": closer, **share, "p_value": p[0], "p_value_less": p[1]}


def _excess(nearest_real: np.ndarray, members: Sequence[np.ndarray], counted: int) -> tuple[np.ndarray, float]:
    """
    How many more synthetic images are nearest to each group of real images than its size lets expect, and of those of
    training the sum; groups that are nearest to any come first.
    """
    member = np.concatenate(members)
    size = 1 + int(member.max())
    times = np.bincount(member[nearest_real], minlength=size)
    excess = times - counted * np.bincount(member, minlength=size) / len(member)
    order = np.argsort(times == 0, kind="stable")
    return excess[order], float(excess[np.unique(members[0])].sum())
