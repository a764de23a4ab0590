"""Lists of images that are to be drawn, or made of others: those that are not done, in whole batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.files import sha256_of
from .checks import check_folder, is_done
from .finder import stem_of
from .image_file import source_record

FORMATS = {"png": ".png", "nifti": ".nii.gz"}

logger = logging.getLogger(__name__)


def sample_cases(
    num_samples: int,
    output_dir: str | Path = "",
    image_format: str = "png",
    first: int = 0,
    classes: Sequence[str] | None = None,
    class_name: str | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    batch_size: int = 1,
) -> list[dict[str, Any]]:
    """
    One case for each image that is not done, and for those that are drawn in one batch with such an image.

    Batches are fixed, consecutive numbers, and drawn again as a whole: so no pixel depends on where a run was killed.

    Args:
        num_samples: number of images, at least 1.
        output_dir: folder of the outputs, made where it is missing.
        image_format: "png" or "nifti".
        first: number of the first image; a number gives the same image in every run with the same seed.
        classes: of a model of classes, drawn in turns; None for a model without.
        class_name: the one class to draw instead.
        overwrite: take every number, whatever is there.
        provenance: what makes the images, as ``SaveImaged`` has it, for the comparison with what made those there.
        batch_size: images drawn together.

    Returns:
        ``{"image": number, "case": name, "missing": 1}`` a case, 0 where the image is there already, with its "class"
        where there are any; in the order of their numbers.

    Raises:
        ValueError: for no image, a negative number, an unknown format or class.
        FileExistsError: when an image is there that was made with other weights or settings.
        OSError: when the folder cannot be written.
    """
    if num_samples < 1 or first < 0:
        raise ValueError(f"num_samples must be at least 1 and first at least 0, got {num_samples} and {first}.")
    if image_format not in FORMATS:
        raise ValueError(f"image_format must be one of {sorted(FORMATS)}, got {image_format!r}.")
    if class_name is not None and class_name not in (classes or ()):
        raise ValueError(f"class_name must be one of {list(classes or ())}, got {class_name!r}.")
    check_folder(output_dir)
    drawn = [class_name] if class_name is not None else list(classes or ())
    paths = [Path(file) for file in sample_files(num_samples, output_dir, image_format, first)]
    every: list[dict[str, Any]] = [{"image": first + n, "case": stem_of(path)} for n, path in enumerate(paths)]
    if drawn:
        every = [{**case, "class": drawn[case["image"] % len(drawn)]} for case in every]
    for case, path in zip(every, paths):
        about: dict[str, Any] = {key: case[key] for key in ("case", "class") if key in case}
        done = not overwrite and is_done(path, (), {**dict(provenance or {}), **about})
        case["missing"] = int(not done)
    return _whole_batches(every, batch_size, output_dir)


def _whole_batches(cases: Sequence[dict[str, Any]], size: int, output_dir: str | Path) -> list[dict[str, Any]]:
    """The batches of consecutive cases that lack one; says how many cases are there."""
    there = sum(not case["missing"] for case in cases)
    if there:
        logger.info(f"{there} of {len(cases)} already in {output_dir}, skipped; --overwrite True redoes them.")
    batches = [cases[start : start + size] for start in range(0, len(cases), size)]
    return [case for batch in batches if any(case["missing"] for case in batch) for case in batch]


def sample_files(num_samples: int, output_dir: str | Path = "", image_format: str = "png", first: int = 0) -> list[str]:
    """
    The paths of drawn images, in the order of their numbers, see ``sample_cases``.

    Example:
        >>> sample_files(2, "out", first=7)
        ['out/sample_00007.png', 'out/sample_00008.png']
    """
    numbers = range(first, first + num_samples)
    return [str(Path(output_dir) / f"sample_{number:05d}{FORMATS[image_format]}") for number in numbers]


def remade_cases(
    cases: Sequence[Mapping[str, Any]],
    files: Sequence[Sequence[str]],
    provenance: Mapping[str, Any],
    overwrite: bool = False,
    batch_size: int = 1,
) -> list[dict[str, Any]]:
    """
    Those of ``cases`` whose results are not done, in whole batches as in ``sample_cases``.

    Args:
        cases: with "case", and one path or several under "image".
        files: results of each, see ``remade_files``.
        provenance, overwrite, batch_size: as in ``sample_cases``.

    Returns:
        Copies with "missing", and with "sources", the names and hashes of their images, for the record.

    Raises:
        ValueError: when two cases have the same result; names their images.
        FileExistsError, OSError: as ``sample_cases``.
    """
    every: list[dict[str, Any]] = []
    seen: dict[str, Any] = {}
    for case, paths in zip(cases, files):
        other = seen.setdefault(paths[0], case["image"])
        if other is not case["image"]:
            raise ValueError(f"{other} and {case['image']} would be written to the same output: rename one of them.")
        given = case["image"] if isinstance(case["image"], list) else [case["image"]]
        named = dict(zip(("image", "second_image"), given))
        about = {key: case[key] for key in ("case", "class") if key in case}
        first, *others = map(Path, paths)
        name = stem_of(first).rpartition("_")[0] if others else stem_of(first)
        record = first.with_name(f"{name}.json")
        done = not overwrite and is_done(first, others, {**provenance, **about}, named, record_path=record)
        sources: dict[str, str] = {}
        for name, path in named.items():
            sources |= source_record(name, path, sha256_of(path))
        every.append({**case, "sources": sources, "missing": int(not done)})
    if files:
        check_folder(Path(files[0][0]).parent)
    return _whole_batches(every, batch_size, Path(files[0][0]).parent if files else "")


def remade_files(
    cases: Sequence[Mapping[str, Any]], output_dir: str | Path, postfix: str, image_format: str = "png", parts: int = 1
) -> list[list[str]]:
    """
    The paths of what ``SaveImaged`` makes of each case, ``parts`` images each.

    Example:
        >>> remade_files([{"case": "a"}], "out", "between", parts=2)
        [['out/a_between_0.png', 'out/a_between_1.png']]
    """
    ends = [""] if parts == 1 else [f"_{number}" for number in range(parts)]
    return [
        [str(Path(output_dir) / f"{case['case']}_{postfix}{end}{FORMATS[image_format]}") for end in ends]
        for case in cases
    ]
