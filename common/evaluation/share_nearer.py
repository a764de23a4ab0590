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
    decided = (a**2 - b**2).abs() > _TIE
    closer, counted = int((a < b)[decided].sum()), int(decided.sum())
    share = {"counted": counted, "closer": closer, **_share(closer, counted)}
    if not counted:
        return {**share, "p_value": None, "p_value_less": None}
    # Several synthetic images may share a nearest real image, or patient, and are then no independent trials.
    nearest_real = torch.where(a < b, to_train.unmoved_index, n_train + to_held_out.unmoved_index)[decided]
    chance = n_train / (n_train + n_held)
    excess, found = _excess(nearest_real.numpy(), group_numbers((n_train, n_held), groups), counted)
    rng = np.random.default_rng(seed)
    roles = np.arange(len(excess)) < len(set(groups[0]) if groups else range(n_train))
    drawn = np.array([excess @ rng.permutation(roles) for _ in range(resamples)])
    p = [
        float(max(binomtest(closer, counted, chance, side).pvalue, (1 + extreme) / (1 + len(drawn))))
        for side, extreme in (
            ("greater", (drawn >= found - _ROUNDING).sum()),
            ("less", (drawn <= found + _ROUNDING).sum()),
        )
    ]
    return {**share, "p_value": p[0], "p_value_less": p[1]}


def share_in_features(features: Sequence[Tensor], chance: float) -> dict[str, Any]:
    """The same share by distances of features, (N, d) or (flips, N, d), of synthetic, training, held-out images."""
    a, b = (nearest_features(features[0], unflipped(features[i])) for i in (1, 2))
    closer, counted = int((a < b).sum()), int((a != b).sum())
    p_value = float(binomtest(closer, counted, chance, "greater").pvalue) if counted else None
    return {**_share(closer, counted), "p_value": p_value, "counted": counted}


def unflipped(features: Tensor) -> Tensor:
    """(N, d) of features that may be (flips, N, d), no flip first."""
    return features[0] if features.ndim == 3 else features


def _share(closer: int, counted: int) -> dict[str, Any]:
    if not counted:
        return {"share": None, "interval95": None}
    return {"share": closer / counted, "interval95": binomial_interval(closer, counted)}


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
