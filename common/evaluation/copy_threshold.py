"""The distance below which an image is a copy, from the distances of real images that are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST_CONTROLS = 10


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

    >>> copy_threshold(np.linspace(0.5, 1.0, 40), n=10).copies
    []
    """

    threshold: float
    dimension: float
    scale: float
    n: int
    nearest: float
    copies: list[int]


def copy_threshold(
    distances: np.ndarray, n: int, false_alarm: float = 0.01, seed: int = 0, resamples: int = 1000
) -> Control:
    """
    Distance below which an image is a copy, from distances of images that are none, save a minority.

    The law is first fitted to the upper half of the distances, which copies among the controls do not reach; what lies
    below its threshold is left out, and the fit repeated on percentiles 5 to 75 of the rest until nothing changes.

    Args:
        distances: of the controls to their nearest training images, (m,), m at least 10.
        n: images to be judged.
        false_alarm: probability that a set of ``n`` that copies nothing has one image called a copy.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: for fewer than 10 controls, or when most of them are copies.
    """
    least_n = f"the audit needs at least {LEAST_CONTROLS} held-out images as control"
    if len(distances) < LEAST_CONTROLS:
        raise ValueError(f"{least_n}, got {len(distances)}.")
    logs = np.log(np.maximum(distances, 1e-6))
    if np.median(distances) < 0.05:
        raise ValueError("Most held-out images are copies of training images; they are no control.")
    at = _log_log(false_alarm / max(n, len(logs)))
    intercept, slope = _weibull_fit(np.sort(logs), 0.5, 0.9)
    clean = logs >= intercept + slope * at
    for _ in range(10):
        if clean.sum() < LEAST_CONTROLS:
            raise ValueError(f"{least_n}; {int((~clean).sum())} of {len(logs)} are copies of training images.")
        intercept, slope = _weibull_fit(np.sort(logs[clean]), 0.05, 0.75)
        before, clean = clean, logs >= intercept + slope * at
        if (before == clean).all():
            break
    rng = np.random.default_rng(seed)
    kept = np.sort(logs[clean])
    drawn = np.sort(rng.choice(kept, (resamples, len(kept))), axis=1)
    intercepts, slopes = _weibull_fit(drawn, 0.05, 0.75)
    lower = np.percentile(intercepts + slopes * _log_log(false_alarm / n), 10)
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
