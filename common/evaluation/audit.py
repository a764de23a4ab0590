"""What an audit writes: the verdict in words, the worst pairs side by side, JSON; and the audit as a metric."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from ..metrics.base import SetMetric
from ..metrics.groups import groups_in_both, named_groups, shared_groups
from ..visualize.panels import Panel, image_panel, slice_panels
from ..visualize.pictures import save_figure, sheet
from .memorisation import AuditResult, AuditSettings, Match, audit
from .nearest import flipped
from .results import finite, without_folders, write_report

logger = logging.getLogger(__name__)

_COPY = "#D55E00"


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
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
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
        groups: what each training and each held-out image belongs to, or None.

    Returns:
        The result; its ``exit_code`` is 0 without copies and 3 with.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    result = audit(synthetic, train, held_out, features, names, settings, groups)
    worst_pairs_page(result, synthetic, train, held_out, out / "worst_pairs.png", rows)
    extra = {"verdict": verdict(result), "exit_code": result.exit_code, "number_of_copies": len(result.copies)}
    content = {**extra, **asdict(result), "context": without_folders(context or {})}
    write_report(finite(content), audit_text(result), out, "audit")
    return result


def audit_text(result: AuditResult, rows: int = 50) -> str:
    """The verdict and a table of all copies, or of the ten nearest pairs where there are none, as Markdown."""
    lines = ["# Memorisation audit", "", *(f"{line}\n" for line in verdict(result).split("\n"))]
    pairs = result.copies[:rows] or result.pairs[:10]
    lines += ["| synthetic | nearest training | distance | flipped axes | nearest held-out | distance | copy |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for pair in pairs:
        a, b = pair.train, pair.held_out
        flip = ", ".join(str(axis) for axis in a.flip) or "none"
        copy = "yes" if pair.copy else "no"
        lines.append(f"| {pair.name} | {a.name} | {a.distance:.3f} | {flip} | {b.name} | {b.distance:.3f} | {copy} |")
    left, of_groups = len(result.copies) - len(pairs), ""
    if result.groups:
        of_groups = f" Groups, which change sides whole: {_counted(result.groups)}."
    lines += ["", f"{left} more copies in audit.json."] if left > 0 else []
    how = result.comparison
    lines += [
        "",
        "Distance: root mean squared difference of standardised, band-passed images (0 equal, 1.41 unrelated) on a "
        f"grid of {' x '.join(map(str, how.grid))} after {'cropping' if how.fit == 'crop' else 'resizing'}, over all "
        f"flips and shifts of {result.settings.shift}. Images: {_counted(result.n)}.{of_groups}",
    ]
    return "\n".join(lines) + "\n"


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def verdict(result: AuditResult) -> str:
    """In words: copies or none, share against chance, state of the control."""
    return "\n".join(filter(None, (_on_copies(result), _on_share(result), _on_control(result))))


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
    rows_of_panels = [
        [
            _panel(synthetic[pair.index], (), pair.name, pair.copy),
            _panel(train[pair.train.index], pair.train.flip, _caption(pair.train, "training"), pair.copy),
            _panel(held_out[pair.held_out.index], pair.held_out.flip, _caption(pair.held_out, "held-out"), False),
        ]
        for pair in result.pairs[:rows]
    ]
    found = f"{len(result.copies)} of {result.n['synthetic']} synthetic images are copies of training images"
    head = found if result.copies else f"No copies among {result.n['synthetic']} synthetic images"
    below = f"{len(rows_of_panels)} worst pairs; below {result.control.threshold:.3f} it is a copy"
    return save_figure(sheet(rows_of_panels, f"{head}\n{below}", width=7.8), path)


def _caption(match: Match, kind: str) -> str:
    flip = f", flipped along {', '.join(map(str, match.flip))}" if match.flip else ""
    return f"{kind} {match.name}\n{match.distance:.3f}{flip}"


def _panel(image: Tensor, flip: tuple[int, ...], caption: str, copy: bool) -> Panel:
    plain = flipped(torch.as_tensor(image).detach().cpu().float()[None], flip)[0]
    panel = slice_panels(plain)[0][0] if plain.ndim == 4 else image_panel(plain, upright=True)
    title = "\n".join(_shortened(line) for line in caption.split("\n"))
    return panel._replace(window=(-1.0, 1.0), labels=None, letters="", title=title, frame=_COPY if copy else None)


def _shortened(line: str, most: int = 38) -> str:
    """At most ``most`` characters; the end of a name tells more than its middle."""
    return line if len(line) <= most else f"{line[: most // 2]}…{line[1 - most // 2 :]}"


def audit_entry(result: AuditResult) -> dict[str, Any]:
    """What stands in the results of an evaluation for an audit."""
    return {
        "value": result.share,
        "interval95": result.interval95,
        "n": result.n,
        "copies": len(result.copies),
        "chance": result.chance,
        "p_value": result.p_value,
        "verdict": verdict(result),
    }


class MemorisationMetric(SetMetric):
    """
    Share of generated images that are nearer to a training image than to any held-out one; counts copies as well.

    Called with generated and held-out images, see ``memorisation.audit``; candidates are found by pixels alone.

    Args:
        train: what the generator was trained with: cases or images, (C, *spatial) in [-1, 1], read once.
        key: of the image in a case.
        seed: of bootstrap and permutations.
        max_images: kept of each set and process.

    >>> images = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    >>> metric = MemorisationMetric(train=images[:20])
    >>> _ = metric(images[10:22], images[28:])
    >>> metric.report()["copies"]
    10
    """

    name = "memorisation"

    def __init__(self, train: Sequence[Any], key: str = "image", seed: int = 0, max_images: int = 4096) -> None:
        super().__init__(max_images=max_images)
        self.train, self.key, self.seed = train, key, seed

    def _evaluate(self, generated: list[Tensor], real: list[Tensor]) -> dict[str, Any]:
        cases = [self.train[index] for index in range(len(self.train))]
        train = [convert_to_tensor(case[self.key] if isinstance(case, Mapping) else case) for case in cases]
        names = [case.get("group") if isinstance(case, Mapping) else None for case in cases]
        settings, groups = AuditSettings(seed=self.seed), self._groups_of(names)
        result = audit(generated, train, real, settings=settings, groups=groups)
        logger.info("Memorisation audit: %s", verdict(result))
        return audit_entry(result)

    def _groups_of(self, of_train: Sequence[Any]) -> tuple[list[str], list[str]] | None:
        """Of training and of real images; None where no image shares one, or a split (a paper's) tears them apart."""
        train = named_groups([None if name is None else str(name) for name in of_train], "training")
        known = self.groups_of_sets()
        if known is None and shared_groups(train) is None:
            return None
        real = known[1] if known else named_groups([None] * len(self.sets()[1]), "real")
        return None if groups_in_both(train, real) else (train, real)
