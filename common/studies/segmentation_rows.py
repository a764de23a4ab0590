"""Rows of a segmentation study: what each segmenter is trained on, real volumes, generated ones, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.lists import Case
from ..utils.files import sha256_of
from .volume_set import training_cases

REAL, AUGMENTED = "real", "real, augmented"
MIXTURE = "mixture"


@dataclass(frozen=True)
class Row:
    """
    What one segmenter is trained on.

    Attributes:
        sets: names of the sets of generated volumes, in equal parts; none for real volumes alone.
        times: generated volumes for each real one of the study.
        real: with the real volumes.
        augmented: with the random changes of ``train_segmenter.json``.
    """

    sets: tuple[str, ...] = ()
    times: int = 0
    real: bool = True
    augmented: bool = False

    @property
    def title(self) -> str:
        """As it stands in the table, e.g. ``real + 5 × Med-DDPM, augmented``."""
        drawn = f"{self.times} × {self.sets[0] if len(self.sets) == 1 else MIXTURE}" if self.sets else ""
        parts = [part for part in (REAL if self.real else "", drawn) if part]
        return " + ".join(parts) + (", augmented" if self.augmented else "")

    @property
    def against(self) -> str | None:
        """Title of the row that this one is set against; None for the real volumes without augmentation."""
        if not self.sets:
            return REAL if self.augmented else None
        return AUGMENTED if self.augmented else REAL


def study_rows(
    sets: Iterable[str], multiples: Sequence[int] = (1, 2, 5), rows: Sequence[str] | None = None
) -> list[Row]:
    """
    The rows of Med-DDPM's Table II: real, augmented, sets of each method and of their mixture, and both together.

    Sets are added to the real volumes at the largest of ``multiples``.

    Args:
        sets: names of the sets of generated volumes.
        multiples: generated volumes for each real one.
        rows: titles of those that are wanted; None for all.

    Raises:
        ValueError: for a title that there is not.

    Source: Dorjsembe et al. 2024, Table II.

    Example:
        >>> [row.title for row in study_rows(["Med-DDPM"], multiples=[1])]
        ['real', 'real, augmented', '1 × Med-DDPM', 'real + 1 × Med-DDPM', 'real + 1 × Med-DDPM, augmented']
    """
    names = tuple(sets)
    kinds = [(name,) for name in names] + ([names] if len(names) > 1 else [])
    most = max(multiples, default=1)
    every = [Row(), Row(augmented=True)]
    every += [Row(kind, times, real=False) for kind in kinds for times in multiples]
    every += [Row(kind, most, augmented=augmented) for kind in kinds for augmented in (False, True)]
    if rows is None:
        return every
    unknown = set(rows) - {row.title for row in every}
    if unknown:
        raise ValueError(f"No row {sorted(unknown)}; there are {[row.title for row in every]}.")
    needed = {row.against for row in every if row.title in rows}
    return [row for row in every if row.title in rows or row.title in needed]


def row_cases(row: Row, real: Sequence[Case], sets: Mapping[str, str | Path]) -> list[Case]:
    """
    The training cases of a row: of each set the first volumes of its manifest.

    Args:
        row: of ``study_rows``.
        real: real training cases; a multiple counts these.
        sets: name -> folder of ``generate.json``.

    Raises:
        FileNotFoundError: for a set that is not complete.
        ValueError: for one with too few volumes; says how many are needed.
    """
    cases = list(real) if row.real else []
    for place, name in enumerate(row.sets):
        count = len(real) * row.times
        share = count * (place + 1) // len(row.sets) - count * place // len(row.sets)
        drawn = training_cases([], sets[name], "synthetic")
        if len(drawn) < share:
            raise ValueError(
                f"{sets[name]} has {len(drawn)} volumes, and {row.title!r} needs {share}: run generate.json again with "
                f"a larger --count, which goes on."
            )
        cases += drawn[:share]
    return cases


def files_digest(cases: Sequence[Case]) -> str:
    """A short hash of the contents of the cases' images and labels, in their order."""
    every = "".join(sha256_of(case[key]) for case in cases for key in ("image", "label"))
    return hashlib.sha256(every.encode()).hexdigest()[:16]
