"""What a data set looks like before anything is trained on it: facts a case, and what is odd about them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes

from ..utils.files import sha256_of
from .image_file import sides
from .lists import Case
from .reader import LoadSliced, image_header, read_image

_FEW = 20  # subjects, below which a model will learn them by heart
_UNLIKE = 5.0  # times the usual spread of intensities
_BEGINNING = "(.*?[0-9]+)[_-]"  # of a name with several runs of one subject


@dataclass
class Survey:
    """
    Facts of the cases of a data set, in their order, and sentences on what is odd.

    Attributes:
        rows: a dict a case: "case", "group", "side", and what the files say, see ``survey``.
        errors: why cases cannot be used, in words; training would stop.
        notices: what may be meant as it is, and what to do if not.

    Example:
        >>> Survey([{"case": "a", "group": "s1", "side": "training"}]).summary()
        '1 case of 1 subject or group: 1 training.'
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """How many cases, of how many groups, on which side of the split."""
        groups, count = len({row["group"] for row in self.rows}), len(self.rows)
        parts = ", ".join(f"{n} {side}" for side, n in Counter(row["side"] for row in self.rows).items())
        of = "1 subject or group" if groups == 1 else f"{groups} subjects or groups"
        return f"{count} case{'s' * (count != 1)} of {of}: {parts}."


def survey(
    shares: Mapping[str, Sequence[Case]],
    keys: Sequence[str] = ("image",),
    spacing: Sequence[float] | None = None,
    labels: Mapping[str, int] | None = None,
    pixels: bool = False,
    progress: Callable[[Any], Any] = iter,
) -> Survey:
    """
    Look at every case of a split.

    Args:
        shares: side ("training", "held out") -> its cases.
        keys: of the files of a case; the first is the image, "label" is a label map.
        spacing: mm, that training resamples to; None for none.
        labels: name -> value, for the volumes of a case's labels.
        pixels: whether to read the images too, for ranges, volumes of labels and equal files; else headers alone.
        progress: wraps the list of cases, such as ``tqdm``.

    Returns:
        The facts of a case, or of the volume that it is a slice of: "shape", "spacing", "axes" (of the voxels, such as
        "RAS"), "class"; with ``pixels`` also "range" (smallest, percentiles 0.5, 50 and 99.5, largest), "volumes"
        (ml by label) and "sha256".
    """
    found = Survey()
    every = [(side, case) for side, cases in shares.items() for case in cases]
    known: dict[tuple[str, ...], dict[str, Any]] = {}  # slices of a volume are cases of one file
    for side, case in progress(every):
        row = {"case": case["case"], "group": case["group"], "side": side, "files": {key: case[key] for key in keys}}
        row |= {name: case[name] for name in ("class", "slice", "axis", "channel") if name in case}
        files = tuple(row["files"].values())
        try:
            if files not in known:
                known[files] = _header_facts(case, keys)
                known[files] |= _pixel_facts(case, keys, labels or {}) if pixels else {}
            row |= known[files]
        except (OSError, ValueError, ImportError) as error:
            found.errors.append(str(error))
        found.rows.append(row)
    for look in (_grids, _groups, _classes, _intensities, _labels, _copies):
        found.notices += look(found.rows)
    if spacing is not None:
        found.notices += _spacings(found.rows, spacing)
    return found


def _header_facts(case: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    headers = [image_header(case[key], case.get("channel", -1) >= 0) for key in keys]
    first = headers[0]
    for key, other in zip(keys[1:], headers[1:]):
        if other.shape != first.shape:
            raise ValueError(
                f"{case[key]}: {sides(first.shape)} voxels as its image were expected, got {sides(other.shape)}."
            )
    axes = "".join(aff2axcodes(first.affine)) if first.kind != "raster" else ""
    return {"shape": first.shape, "spacing": tuple(round(side, 4) for side in first.spacing), "axes": axes}


def _pixel_facts(case: Mapping[str, Any], keys: Sequence[str], labels: Mapping[str, int]) -> dict[str, Any]:
    first = keys[0]
    if "slice" in case:
        stack: dict[Any, Any] = dict(case, slice=-1)
        values = LoadSliced(first)(stack)[first].numpy()
    else:
        values = read_image(case[first]).values
    facts: dict[str, Any] = {"range": np.percentile(values, (0, 0.5, 50, 99.5, 100)).tolist()}
    facts["sha256"] = sha256_of(case[first])
    if "label" in keys:
        mask = read_image(case["label"])
        voxel = abs(float(np.linalg.det(mask.affine[:3, :3]))) / 1000
        counts = dict(zip(*np.unique(np.rint(mask.values), return_counts=True)))
        names = {value: name for name, value in labels.items()}
        volumes = {names.get(int(v), f"value {int(v)}"): round(n * voxel, 3) for v, n in counts.items() if v}
        facts["volumes"] = {**dict.fromkeys(labels, 0.0), **volumes}
    return facts


def _named(rows: Collection[Mapping[str, Any]]) -> str:
    names = [str(row["case"]) for row in rows]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _minority(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[Any, dict[Any, list[Mapping[str, Any]]]]:
    """The usual value of a fact, and the cases of every other."""
    by_value: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row.get(key) not in (None, ""):
            by_value[row[key]].append(row)
    usual = max(by_value, key=lambda value: len(by_value[value]), default=None)
    return usual, {value: of for value, of in by_value.items() if value != usual}


def _grids(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    usual, others = _minority(rows, "axes")
    if not others:
        return []
    said = "; ".join(f"{axes} in {_named(of)}" for axes, of in others.items())
    return [
        f"Voxel axes are {usual} in most cases, {said}. Volumes are turned by their headers: check that left is left."
    ]


def _spacings(rows: Sequence[Mapping[str, Any]], spacing: Sequence[float]) -> list[str]:
    far = [row for row in rows if "spacing" in row and max(row["spacing"]) > 1.5 * max(spacing)]
    fine = [row for row in rows if "spacing" in row and min(row["spacing"]) < min(spacing) / 1.5]
    notes = (
        [f"Coarser than {list(spacing)} mm, to which they are resampled: {_named(far)}. --spacing sets it."]
        if far
        else []
    )
    return notes + (
        [f"Finer than {list(spacing)} mm, to which they are resampled: {_named(fine)}. --spacing sets it."]
        if fine
        else []
    )


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    groups = Counter(row["group"] for row in rows)
    notes = []
    if len(groups) < _FEW:
        notes.append(
            f"{len(groups)} subjects or groups are few: expect a model that knows them by heart; start from weights "
            "(fine_tune.json)."
        )
    if len(groups) == len(rows):
        names = [str(row["case"]) for row in rows]
        starts = Counter(match[1] if (match := re.match(_BEGINNING, name)) else name for name in names)
        again = [start for start, times in starts.items() if times > 1]
        if again and len(starts) > 1:
            rule = (
                f'--subject_of "{_BEGINNING}"' if all(re.match(_BEGINNING, name) for name in names) else "--subject_of"
            )
            how = rule if "label" in rows[0]["files"] else "a column of manifest.csv and --group_by"
            notes.append(
                f"Each file counts as a subject of its own, but {len(again)} names begin alike (such as {again[0]!r}): "
                f"if these are one subject, say so by {how}."
            )
    return notes


def _classes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = Counter(row["class"] for row in rows if "class" in row)
    small = {name: count for name, count in counts.items() if count * 5 < max(counts.values())}
    return [f"Classes of few images: {small}, the largest has {max(counts.values())}."] if small else []


def _intensities(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = [row for row in rows if "range" in row]
    flat = [row for row in known if row["range"][3] <= row["range"][1]]
    notes = [f"Images without contrast: {_named(flat)}."] if flat else []
    widths = np.array([row["range"][3] - row["range"][1] for row in known])
    usual = float(np.median(widths)) if len(widths) else 0.0
    odd = [row for row, width in zip(known, widths) if width > 0 and not usual / _UNLIKE <= width <= usual * _UNLIKE]
    if odd:
        notes.append(
            f"Intensities spread {_UNLIKE:g} times more or less than usual ({usual:.4g}) in {_named(odd)}: another "
            "unit or sequence?"
        )
    return notes


def _labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = [row for row in rows if "volumes" in row]
    notes = []
    for name in sorted({name for row in known for name in row["volumes"]}):
        volumes = np.array([row["volumes"].get(name, 0.0) for row in known])
        usual = float(np.median(volumes[volumes > 0])) if (volumes > 0).any() else 0.0
        odd = [row for row, v in zip(known, volumes) if 0 < v < usual / _UNLIKE or v > usual * _UNLIKE]
        if odd:
            notes.append(f"The volume of {name} is far from the usual {usual:.3g} ml in {_named(odd)}.")
    return notes


def _copies(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    by_hash: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if "sha256" in row:
            by_hash[row["sha256"]].append(row)
    twice = [of for of in by_hash.values() if len({tuple(row["files"].values()) for row in of}) > 1]
    across = [of for of in twice if len({row["side"] for row in of}) > 1]
    notes = [f"Equal files: {'; '.join(_named(of) for of in twice[:3])} ({len(twice)} in all)."] if twice else []
    return notes + (
        [f"{len(across)} of them lie on both sides of the split: what is measured would be known."] if across else []
    )
