"""Pictures and files of a memorisation audit: the worst pairs side by side, the verdict in words and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..metrics.nearest import flipped
from ..utils.files import written_whole
from .memorisation import AuditPair, AuditResult, AuditSettings, Match, audit

_COLOURS = {True: "#D55E00", False: "white"}


def worst_pairs_page(
    result: AuditResult,
    synthetic: Sequence[Tensor],
    train: Sequence[Tensor],
    held_out: Sequence[Tensor],
    path: str | Path,
    rows: int = 12,
) -> Path:
    """
    A PNG of the worst pairs: synthetic image, nearest training image, nearest held-out image, a row a synthetic image.

    Real images are flipped as they match, not shifted. Black and white are -1 and 1 for all. Volumes show the middle
    slice of their last axis (in RAS: axial, the patient's right on the viewer's left). Copies have an orange frame.

    Args:
        result: of ``audit`` with the same three sets.
        synthetic: (C, *spatial) each, in [-1, 1]; three channels are shown in colour, otherwise the first.
        train: as many as audited.
        held_out: as many as audited.
        path: PNG to write.
        rows: most pairs to show.

    Returns:
        ``path``.

    Raises:
        ValueError: when the sets are not those of the audit, by their numbers.
    """
    sets = (synthetic, train, held_out)
    if [len(images) for images in sets] != list(result.n.values()):
        raise ValueError(f"The audit saw {result.n}, got sets of {[len(images) for images in sets]}.")
    pairs = result.pairs[:rows]
    figure = Figure(figsize=(7.8, 2.75 * len(pairs) + 0.9), dpi=100, facecolor="black", layout="constrained")
    axes = figure.subplots(len(pairs), 3, squeeze=False)
    for row, pair in zip(axes, pairs):
        _show(row[0], synthetic[pair.index], (), pair.name, pair.copy)
        _show(row[1], train[pair.train.index], pair.train.flip, _caption(pair.train, "training"), pair.copy)
        _show(row[2], held_out[pair.held_out.index], pair.held_out.flip, _caption(pair.held_out, "held-out"), False)
    figure.suptitle(_title(result, pairs), color=_COLOURS[bool(result.copies)], fontsize=10)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="black", metadata={"Software": None})
    return Path(path)


def run_audit(
    synthetic: Sequence[Tensor],
    train: Sequence[Tensor],
    held_out: Sequence[Tensor],
    out: str | Path,
    features: tuple[Tensor, Tensor, Tensor] | None = None,
    names: tuple[Sequence[str], Sequence[str], Sequence[str]] | None = None,
    settings: AuditSettings | None = None,
    context: dict[str, Any] | None = None,
    rows: int = 12,
) -> AuditResult:
    """
    Audit, and write ``audit.json``, ``audit.md`` and ``worst_pairs.png``.

    Args:
        synthetic: as ``audit`` takes them.
        train: what the generator was trained with.
        held_out: real, from the same source, of other patients.
        out: folder of the three files; made at once, so that a bad one stops the run early.
        features: of the three sets, or None.
        names: of the three sets.
        settings: choices.
        context: what else belongs to the result: folders, network, how images were read.
        rows: most pairs in the picture.

    Returns:
        The result; its ``exit_code`` is 0 without copies and 3 with.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    result = audit(synthetic, train, held_out, features, names, settings)
    worst_pairs_page(result, synthetic, train, held_out, out / "worst_pairs.png", rows)
    with written_whole(out / "audit.md") as path:
        path.write_text(audit_text(result))
    with written_whole(out / "audit.json") as path:
        content = {**result.to_dict(), "context": context or {}}
        path.write_text(json.dumps(content, indent=2, allow_nan=False, default=str) + "\n")
    return result


def audit_text(result: AuditResult, rows: int = 50) -> str:
    """The verdict and a table of all copies, or of the ten nearest pairs where there are none, as Markdown."""
    lines = ["# Memorisation audit", "", *(f"{line}\n" for line in result.verdict.split("\n"))]
    pairs = result.copies[:rows] or result.pairs[:10]
    lines += ["| synthetic | nearest training | distance | flipped axes | nearest held-out | distance | copy |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for pair in pairs:
        a, b = pair.train, pair.held_out
        flip = ", ".join(str(axis) for axis in a.flip) or "none"
        copy = "yes" if pair.copy else "no"
        lines.append(f"| {pair.name} | {a.name} | {a.distance:.3f} | {flip} | {b.name} | {b.distance:.3f} | {copy} |")
    left = len(result.copies) - len(pairs)
    lines += ["", f"{left} more copies in audit.json."] if left > 0 else []
    how = result.comparison
    lines += [
        "",
        "Distance: root mean squared difference of standardised, band-passed images (0 equal, 1.41 unrelated) on a "
        f"grid of {' x '.join(map(str, how.grid))} after {'cropping' if how.fit == 'crop' else 'resizing'}, over all "
        f"flips and shifts of {result.settings.shift}. Images: {', '.join(f'{k} {v}' for k, v in result.n.items())}.",
    ]
    return "\n".join(lines) + "\n"


def _title(result: AuditResult, pairs: Sequence[AuditPair]) -> str:
    found = f"{len(result.copies)} of {result.n['synthetic']} synthetic images are copies of training images"
    head = found if result.copies else f"No copies among {result.n['synthetic']} synthetic images"
    return f"{head}\n{len(pairs)} worst pairs; below {result.control.threshold:.3f} it is a copy"


def _caption(match: Match, kind: str) -> str:
    flip = f", flipped along {', '.join(map(str, match.flip))}" if match.flip else ""
    return f"{kind} {match.name}\n{match.distance:.3f}{flip}"


def _show(ax: Any, image: Tensor, flip: tuple[int, ...], caption: str, copy: bool) -> None:
    plain = flipped(torch.as_tensor(image).detach().cpu().float()[None], flip)[0]
    if plain.ndim == 4:
        plain = plain[..., plain.shape[-1] // 2].flip(-1).transpose(1, 2).flip(1).flip(2)
    pixels = plain.permute(1, 2, 0).numpy() if len(plain) == 3 else plain[0].numpy()
    ax.imshow(np.clip((pixels + 1) / 2, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(_shortened(caption), color=_COLOURS[copy], fontsize=8)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(color=_COLOURS[copy] if copy else "black", linewidth=2)


def _shortened(caption: str, most: int = 38) -> str:
    """Lines of at most ``most`` characters; the end of a name tells more than its middle."""
    return "\n".join(
        line if len(line) <= most else f"{line[: most // 2]}…{line[1 - most // 2 :]}" for line in caption.split("\n")
    )
