"""Sets of generated images: their marks, the manifest that lists them, and which real images their model has seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from ..bundle.record import record_of, update_record
from ..data.finder import MANIFEST, ending_of
from ..data.image_file import describe
from ..data.lists import Case
from ..data.raster import write_png
from ..utils.files import read_csv, sha256_of, write_csv, written_whole

# What the record in a file must say, and its row of the manifest repeats; "sha256" is of the file.
RECORDED = ("class", "number", "seed", "steps", "step_rule", "weights_sha256")
COLUMNS = ("path", *RECORDED, "synthetic", "sha256")
_MARK, _ENTRY = "synthetic", "SyntheticRecord"


def image_name(name: str, number: int) -> str:
    """Path of an image within its set, e.g. "glioma/glioma_00012.png"."""
    return f"{name}/{name}_{number:05d}.png"


def write_synthetic(path: str | Path, pixels: np.ndarray, record: Mapping[str, Any]) -> None:
    """
    Write a generated image as PNG, marked as synthetic, under its name only when it is complete.

    Args:
        path: of the file; ``image_name`` says where it lies in a set.
        pixels: (rows, columns) grey or (rows, columns, 3) colour, uint8.
        record: what made it, with at least ``RECORDED``; JSON-ready.

    Raises:
        ValueError: when the record is not complete, or ``pixels`` is no such image.
    """
    absent = [name for name in RECORDED if name not in record]
    if absent:
        raise ValueError(f"{path}: the record of a synthetic image must say {absent}.")
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim not in (2, 3):
        raise ValueError(f"{path}: uint8 (rows, columns) or (rows, columns, 3) was expected, got {pixels.shape}.")
    entry = json.dumps({**record, _MARK: True}, sort_keys=True)
    with written_whole(path) as temporary:
        write_png(temporary, pixels, {"Description": describe(record), _ENTRY: entry})


def synthetic_record(path: str | Path) -> dict[str, Any] | None:
    """What made the image in a PNG file, or None where it says nothing or cannot be read."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            record = json.loads(image.info.get(_ENTRY, "null"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get(_MARK) is True else None


def write_manifest(folder: str | Path, paths: Iterable[str]) -> Path:
    """
    List the images of a complete set, from what each file says of itself.

    Args:
        folder: of the set.
        paths: of the images, relative to ``folder``, in the order of the rows.

    Returns:
        The manifest's path.

    Raises:
        ValueError: when a file is missing or not marked, by name.
    """
    folder, rows = Path(folder), []
    for path in paths:
        record = synthetic_record(folder / path)
        if record is None:
            raise ValueError(f"{folder / path}: a generated image with its record was expected.")
        told = {name: record[name] for name in RECORDED}
        found = {f"quality_{name}": value for name, value in (record.get("quality") or {}).items()}
        rows.append({"path": path, **told, _MARK: True, "sha256": sha256_of(folder / path), **found})
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))  # checked in part, or not
    return write_csv(folder / MANIFEST, columns, [list(map(row.get, columns)) for row in rows], "\n")


def synthetic_cases(folder: str | Path, classes: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    The images of a complete synthetic set, one case each, sorted by class and number.

    Args:
        folder: that ``write_manifest`` has listed.
        classes: to take; None for all.

    Returns:
        ``{"image": path, "case": name, "class": class, "number": number, "group": relative path, "sample": digest}`` an
        image; the last says which real images its model has seen, see ``sample_of``, or is None.

    Raises:
        FileNotFoundError: when there is no manifest (the set is not complete), or a file of it is missing.
        ValueError: when the manifest lacks a column or a class, or a file is not marked as synthetic, differs from what
            the manifest says, is not in it or in it twice; names the first.
    """
    root = Path(folder)
    rows = _rows(root)
    records = {row["path"]: _checked_record(root, row) for row in rows}
    if len(records) < len(rows):
        raise ValueError(f"{root / MANIFEST} lists {len(rows) - len(records)} of its images twice.")
    pictures = {path for path in root.rglob("[!.]*") if ending_of(path)}
    strangers = sorted({path.relative_to(root).as_posix() for path in pictures} - set(records))
    strangers = [path for path in strangers if "/" in path]  # sheets of the whole set lie beside the classes
    if strangers:
        raise ValueError(f"{root / strangers[0]} is not in {root / MANIFEST} ({len(strangers)} such images).")
    found = sorted({row["class"] for row in rows})
    absent = sorted(set(classes or ()) - set(found))
    if absent or not rows:
        raise ValueError(f"No image of {absent or 'any class'} in {root / MANIFEST}; there are {found}.")
    cases = [
        {
            "image": str(root / row["path"]),
            "case": Path(row["path"]).stem,
            "class": row["class"],
            "number": int(row["number"]),
            "group": row["path"],
            "sample": records[row["path"]].get("sample"),
        }
        for row in rows
        if classes is None or row["class"] in classes
    ]
    return sorted(cases, key=lambda case: (case["class"], case["number"]))


def refuse_synthetic(cases: Sequence[Mapping[str, Any]], key: str = "image") -> list[Any]:
    """
    Pass on cases that are taken for real, if none of them is marked as generated.

    Args:
        cases: with a path under ``key``; PNG and NIfTI files are looked into, and manifests in the folders above.
        key: of the image's path.

    Returns:
        ``cases`` as a list.

    Raises:
        ValueError: when there are generated images among them; says how many, and names the first.
    """
    sets: dict[Path, bool] = {}
    marked = [case[key] for case in cases if _in_set(Path(case[key]), sets) or _is_marked(Path(case[key]))]
    if marked:
        raise ValueError(
            f"{len(marked)} of {len(cases)} images that should be real are synthetic, such as {marked[0]}: "
            "set dataset_dir to a folder of real images only."
        )
    return list(cases)


def image_id(case: Mapping[str, Any]) -> str:
    """Class and file name of a case, loaded ("path") or not; the same wherever the data set lies."""
    return f"{case['class']}/{Path(case.get('path', case['image'])).name}"


def names_digest(cases: Sequence[Mapping[str, Any]]) -> str:
    """A short hash of which images these are, whatever their order."""
    return hashlib.sha256("\n".join(sorted(map(image_id, cases))).encode()).hexdigest()[:16]


def write_sample_record(weights: str | Path, sample: Sequence[Case], initial_weights: str | Path | None = None) -> Path:
    """
    Write ``model.json`` beside a ``model.pt`` that is about to be trained; move the two together.

    Args:
        weights: the file that training will write.
        sample: all real images of the sample, of every class.
        initial_weights: that training begins with, if any.

    Returns:
        The path written.

    Raises:
        ValueError: when weights that are there, or the initial ones, were trained on another sample.
    """
    weights, digest = Path(weights), names_digest(sample)
    for path in (weights, initial_weights):
        known = sample_of(path) if path is not None and Path(path).is_file() else None
        if known not in (None, digest):
            raise ValueError(
                f"{path} was trained on another sample of real images: the weights of this run would have seen images "
                "that are kept to test on. Give the same split, fraction and split_seed, or other weights."
            )
    return update_record(weights, sample=digest, images=len(sample))


def sample_of(weights: str | Path) -> str | None:
    """The digest of the sample that ``weights`` were trained on, None where no record of them lies beside them."""
    record = record_of(weights)
    known = record.get("weights_sha256")  # in the records of weights that are complete
    return record.get("sample") if known is None or known == sha256_of(weights) else None


def _rows(root: Path) -> list[dict[str, str]]:
    path = root / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"No {path}: a synthetic set has one once it is complete; run generate.json to its end."
        )
    return read_csv(path, COLUMNS, "the manifest of a synthetic set")


def _checked_record(root: Path, row: Mapping[str, str]) -> dict[str, Any]:
    path = root / row["path"]
    if not path.is_file():
        raise FileNotFoundError(f"{root / MANIFEST} lists {path}, which is missing.")
    record = synthetic_record(path)
    if record is None or row[_MARK] != "True":
        raise ValueError(f"{path} is not marked as synthetic, in its header or in {root / MANIFEST}.")
    said = ["" if record[name] is None else str(record[name]) for name in RECORDED]
    if sha256_of(path) != row["sha256"] or said != [row[name] for name in RECORDED]:
        raise ValueError(f"{path} has changed since {root / MANIFEST} was written; generate it again.")
    return record


def _in_set(path: Path, known: dict[Path, bool]) -> bool:
    """Whether one of the two folders above is a synthetic set; a copy saved anew as JPEG has lost its mark."""
    for folder in path.parents[:2]:
        if folder not in known:
            manifest = folder / MANIFEST
            first = manifest.open(encoding="utf-8").readline() if manifest.is_file() else ""
            known[folder] = _MARK in first.strip().split(",")
    return any(known[folder] for folder in path.parents[:2])


def _is_marked(path: Path) -> bool:
    """Whether the header says that the image is synthetic, as all that the bundles write does."""
    name = path.name.lower()
    try:
        if name.endswith(".png"):
            with Image.open(path, formats=["PNG"]) as image:
                return str(image.info.get("Description", "")).startswith(_MARK)
        if name.endswith((".nii", ".nii.gz")):
            header: Any = nib.load(path).header  # type: ignore[attr-defined]
            return bytes(header["descrip"]).decode(errors="ignore").startswith(_MARK)
    except (OSError, ValueError, KeyError, nib.filebasedimages.ImageFileError):
        return False  # a damaged file is another check's matter
    return False
