"""Plots of numbers: curves with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
