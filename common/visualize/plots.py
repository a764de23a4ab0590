"""Plots of numbers: curves with intervals, histograms, features in the plane."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .pictures import COLOURS, save_figure

Curve = Sequence[tuple[float, float | None, Sequence[float] | None]]
"""Points (x, y, interval) of one curve; y and the interval may be None."""


def curve_panels(
    panels: Mapping[str, Mapping[str, Curve]],
    path: str | Path,
    x_label: str,
    level_lines: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "",
) -> Path:
    """
    Curves over a factor of powers of √2, a panel each beside one another, with intervals as bars.

    Args:
        panels: title of a panel -> title of a curve -> its points.
        path: PNG to write.
        x_label: of the horizontal axis, which is logarithmic.
        level_lines: title of a panel -> title -> value of a dashed line across it.
        title: written above all.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     curve_panels({"PZ": {"bilinear": [(4.0, 0.7, (0.6, 0.8))]}}, f"{folder}/a.png", "factor").name
        'a.png'
    """
    figure = Figure(figsize=(1.2 + 4.4 * len(panels), 3.8), dpi=110, layout="constrained")
    for ax, (name, curves) in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels.items()):
        ticks = sorted({x for points in curves.values() for x, _, _ in points})
        for index, (label, points) in enumerate(curves.items()):
            shift = 1 + 0.02 * (index - (len(curves) - 1) / 2)  # bars of one place stand beside one another
            known = [(x * shift, y, interval or (y, y)) for x, y, interval in points if y is not None]
            bars = [[max(0, y - low) for _, y, (low, _) in known], [max(0, high - y) for _, y, (_, high) in known]]
            style: dict[str, Any] = {"marker": "o", "ms": 4, "capsize": 2, "color": COLOURS[index % len(COLOURS)]}
            ax.errorbar([x for x, _, _ in known], [y for _, y, _ in known], bars, label=label, **style)
        for label, value in (level_lines or {}).get(name, {}).items():
            ax.axhline(value, color="purple", linestyle=":", label=label)
        ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, [root_two(x) for x in ticks])
        ax.minorticks_off()
        ax.set(title=name, xlabel=x_label)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def interval_chart(rows: Mapping[str, Mapping[str, Any]], path: str | Path, x_label: str) -> Path:
    """
    A row a method: its value as a dot, and its interval as a bar; the first row's value as a line through all.

    Args:
        rows: title -> "value" and "interval95", as ``common.evaluation.results.entry_of`` gives them.
        path: PNG to write.
        x_label: of the horizontal axis.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     interval_chart({"real": {"value": 0.8, "interval95": [0.7, 0.9]}}, f"{folder}/a.png", "Dice").name
        'a.png'
    """
    figure = Figure(figsize=(7.0, 0.8 + 0.26 * len(rows)), dpi=110, layout="constrained")
    ax = figure.subplots()
    for place, entry in enumerate(rows.values()):
        value, (low, high) = entry["value"], entry["interval95"] or (entry["value"], entry["value"])
        bar = [[max(0.0, value - low)], [max(0.0, high - value)]]
        ax.errorbar([value], [place], xerr=bar, marker="o", ms=4, capsize=2, color=COLOURS[0])
    ax.axvline(next(iter(rows.values()))["value"], color="grey", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(x_label, fontsize=8)
    ax.grid(axis="x", alpha=0.3)
    return save_figure(figure, path)


def root_two(value: float) -> str:
    """
    A power of √2 as it is written, another number with two decimals.

    Example:
        >>> root_two(2 ** 1.5), root_two(16.0), root_two(3.0)
        ('2√2', '16', '3')
    """
    half: Any = 2 * math.log2(value) if value > 0 else math.nan
    if abs(half - round(half)) < 1e-6:
        whole = 2 ** (round(half) // 2)
        return f"{whole:g}" if round(half) % 2 == 0 else f"{whole:g}√2" if whole != 1 else "√2"
    return f"{value:.2f}".rstrip("0").rstrip(".")


def histogram_plot(sets: Mapping[str, np.ndarray], x_label: str) -> bytes:
    """
    Histograms of several sets of values over one another, as a PNG.

    Args:
        sets: title -> values, any shape.
        x_label: of the horizontal axis.
    """
    figure, ax = _single()
    low, high = (float(end([end(values) for values in sets.values()])) for end in (np.min, np.max))
    bins = np.linspace(low, high if high > low else low + 1, 65)
    for (title, values), colour in zip(sets.items(), COLOURS):
        ax.hist(np.ravel(values), bins, density=True, histtype="step", linewidth=1.6, color=colour, label=title)
    ax.set(xlabel=x_label, ylabel="share", yticks=[])
    ax.legend(fontsize=8)
    return _png(figure)


def scatter_plot(sets: Mapping[str, np.ndarray]) -> bytes:
    """
    Feature vectors of several sets in the plane of their two main directions, as a PNG.

    Args:
        sets: title -> (n, d), at least two vectors in all and d of at least 2.

    Source: principal component analysis, Pearson 1901, of all sets together.
    """
    every = np.concatenate([np.asarray(vectors, dtype=np.float64) for vectors in sets.values()])
    centred = every - every.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    power = float((centred @ directions.T).var(0).sum() / max(centred.var(0).sum(), 1e-30))
    figure, ax = _single()
    start = 0
    for (title, vectors), colour, marker in zip(sets.items(), COLOURS, "o^sD"):
        place = centred[start : start + len(vectors)] @ directions.T
        ax.scatter(*place.T, s=14, alpha=0.6, color=colour, marker=marker, label=title, linewidths=0)
        start += len(vectors)
    ax.set(xticks=[], yticks=[], xlabel=f"two main directions, {100 * power:.0f} % of the variance")
    ax.legend(fontsize=8)
    return _png(figure)


def _single() -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 3.6), dpi=100, layout="constrained")
    return figure, figure.subplots()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
