"""Statistics of the memorisation audit: the distance of a copy, and whether a set lies too near to its training set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..metrics.intervals import binomial_interval, binomial_p_value
from ..metrics.nearest import Matches, nearest_features

LEAST_CONTROLS = 10
_TIE = 1e-5  # of squared distances: the rounding of correlations in float32


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
    """

    false_alarm: float = 0.01
    longest_side: int | None = None
    fit: str | None = None
    shift: int = 1
    candidates: int = 5
    seed: int = 0
    resamples: int = 1000


@dataclass(frozen=True)
class Control:
    """
    What real held-out images say about the distance of an image that is no copy.

    Attributes:
        threshold: distance to the nearest training image below which a synthetic image is a copy.
        dimension: exponent of the Weibull law of these distances.
        scale: its scale.
        n: held-out images that the law was fitted to.
        nearest: least distance among them.
        copies: held-out images that are themselves copies of training images, left out of the fit.
    """

    threshold: float
    dimension: float
    scale: float
    n: int
    nearest: float
    copies: list[int]


def copy_threshold(distances: np.ndarray, n: int, settings: AuditSettings | None = None) -> Control:
    """
    Distance below which an image is a copy, from distances of images that are none, save a minority.

    The law is first fitted to the upper half of the distances, which copies among the controls do not reach; what lies
    below its threshold is left out, and the fit repeated on percentiles 5 to 75 of the rest until nothing changes.

    Args:
        distances: of the controls to their nearest training images, (m,), m at least 10.
        n: images to be judged.
        settings: false alarm, seed, resamples.

    Raises:
        ValueError: for fewer than 10 controls, or when most of them are copies.
    """
    settings = settings or AuditSettings()
    least_n = f"the audit needs at least {LEAST_CONTROLS} held-out images as control"
    if len(distances) < LEAST_CONTROLS:
        raise ValueError(f"{least_n}, got {len(distances)}.")
    logs = np.log(np.maximum(distances, 1e-6))
    if np.median(distances) < 0.05:
        raise ValueError("Most held-out images are copies of training images; they are no control.")
    at = _log_log(settings.false_alarm / max(n, len(logs)))
    intercept, slope = _weibull_fit(np.sort(logs), 0.5, 0.9)
    clean = logs >= intercept + slope * at
    for _ in range(10):
        if clean.sum() < LEAST_CONTROLS:
            raise ValueError(f"{least_n}; {int((~clean).sum())} of {len(logs)} are copies of training images.")
        intercept, slope = _weibull_fit(np.sort(logs[clean]), 0.05, 0.75)
        before, clean = clean, logs >= intercept + slope * at
        if (before == clean).all():
            break
    rng = np.random.default_rng(settings.seed)
    kept = np.sort(logs[clean])
    drawn = np.sort(rng.choice(kept, (settings.resamples, len(kept))), axis=1)
    intercepts, slopes = _weibull_fit(drawn, 0.05, 0.75)
    lower = np.percentile(intercepts + slopes * _log_log(settings.false_alarm / n), 10)
    threshold = min(float(np.exp(lower)), float(np.exp(kept[0])))
    copies = [int(i) for i in np.flatnonzero(~clean)]
    scale, least = float(np.exp(intercept)), float(np.exp(kept[0]))
    return Control(threshold, float(1 / max(slope, 1e-6)), scale, len(kept), least, copies)


def _log_log(p: Any) -> Any:
    """Place of a probability on a Weibull plot."""
    return np.log(-np.log1p(-np.asarray(p)))


def _weibull_fit(ordered: np.ndarray, low: float, high: float) -> tuple[Any, Any]:
    """Intercept and slope (1 / exponent) of sorted log distances, (..., n), against their places on a Weibull plot."""
    n = ordered.shape[-1]
    p = (np.arange(n) + 0.7) / (n + 0.4)
    used = (p >= low) & (p <= high)
    x, y = ordered[..., used], _log_log(p[used])
    slope = ((x - x.mean(-1, keepdims=True)) * (y - y.mean())).mean(-1) / y.var()
    return x.mean(-1) - slope * y.mean(), slope


def share_nearer(
    to_train: Matches, to_held_out: Matches, n_train: int, n_held: int, settings: AuditSettings
) -> dict[str, Any]:
    """
    Share of synthetic images that are nearer to training than to held-out images.

    Args:
        to_train: nearest training image of each synthetic one.
        to_held_out: nearest held-out image of each.
        n_train: training images.
        n_held: held-out images.
        settings: seed and number of permutations.

    Returns:
        ``counted``, ``closer``, ``share``, ``interval95``, ``p_value`` and ``p_value_less`` as in ``AuditResult``.
    """
    # Distances without shifts: there all pairs are compared, so that the size of a set has no other influence.
    a, b = to_train.unmoved, to_held_out.unmoved
    decided = (a**2 - b**2).abs() > _TIE
    closer, counted = int((a < b)[decided].sum()), int(decided.sum())
    if not counted:
        return {"counted": 0, "closer": 0, "share": None, "interval95": None, "p_value": None, "p_value_less": None}
    # Several synthetic images may share a nearest real image, and are then no independent trials.
    nearest_real = torch.where(a < b, to_train.unmoved_index, n_train + to_held_out.unmoved_index)[decided]
    times = np.bincount(nearest_real.numpy())
    times = times[times > 0]
    rng = np.random.default_rng(settings.seed)
    roles = np.arange(n_train + n_held) < n_train
    drawn = np.array([times @ rng.permutation(roles)[: len(times)] for _ in range(settings.resamples)])
    p = [
        max(binomial_p_value(closer, counted, n_train / len(roles), side), float((1 + extreme) / (1 + len(drawn))))
        for side, extreme in (("greater", (drawn >= closer).sum()), ("less", (drawn <= closer).sum()))
    ]
    interval = binomial_interval(closer, counted)
    share = {"counted": counted, "closer": closer, "share": closer / counted, "interval95": interval}
    return {**share, "p_value": p[0], "p_value_less": p[1]}


def share_nearer_in_features(features: tuple[Tensor, Tensor, Tensor], chance: float) -> dict[str, Any]:
    """The same share by distances of features, (N, d) or (flips, N, d), of synthetic, training, held-out images."""
    a, b = (nearest_features(features[0], unflipped(features[i])) for i in (1, 2))
    closer, counted = int((a < b).sum()), int((a != b).sum())
    if not counted:
        return {"share": None, "interval95": None, "p_value": None, "counted": 0}
    return {
        "share": closer / counted,
        "interval95": binomial_interval(closer, counted),
        "p_value": binomial_p_value(closer, counted, chance),
        "counted": counted,
    }


def unflipped(features: Tensor) -> Tensor:
    """(N, d) of features that may be (flips, N, d), no flip first."""
    return features[0] if features.ndim == 3 else features
