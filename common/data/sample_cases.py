"""Which images an unconditional model has to draw: numbered cases, less those that are complete already."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cases import check_folder

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
) -> list[dict[str, Any]]:
    """
    One case for each image that lacks one of its outputs.

    Args:
        num_samples: number of images, at least 1.
        output_dir: folder of the outputs, made where it is missing.
        image_format: "png" or "nifti".
        first: number of the first image; a number gives the same image in every run with the same seed.
        classes: of a model of classes, drawn in turns; None for a model without.
        class_name: the one class to draw instead.
        overwrite: take every number, whatever is there.

    Returns:
        ``{"image": number, "case": name}`` a case, with its "class" where there are any.

    Raises:
        ValueError: for no image, a negative number, an unknown format or class.
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
    every: list[dict[str, Any]] = [{"image": n, "case": f"sample_{n:05d}"} for n in range(first, first + num_samples)]
    if drawn:
        every = [{**case, "class": drawn[case["image"] % len(drawn)]} for case in every]
    cases = [case for case in every if overwrite or not _complete(Path(output_dir), case["case"], image_format)]
    if len(cases) < len(every):
        logger.info(
            f"{len(every) - len(cases)} of {len(every)} already in {output_dir}, skipped; --overwrite True redoes them."
        )
    return cases


def _complete(folder: Path, name: str, image_format: str) -> bool:
    return all((folder / f"{name}{ending}").is_file() for ending in (FORMATS[image_format], ".json"))
