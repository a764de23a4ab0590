"""A set of masks to generate from, drawn by a shape model or from a folder at random; a rerun draws the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose

from ..data.finder import find_images, stem_of
from ..data.reader import LoadImaged, read_image
from ..transforms.checks import CheckImaged
from .files import SUFFIX, write_mask
from .heads import HeadMasks
from .shape_model import ShapeModel, centred_affine


def mask_set(
    out: str | Path,
    count: int,
    seed: int = 0,
    model: str | Path | ShapeModel | HeadMasks | None = None,
    masks_dir: str | Path | None = None,
    edits: Sequence[Callable[..., Any]] = (),
    overwrite: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> list[str]:
    """
    Write the masks that are missing in a folder, each from a seed of its own: ``seed``, ``seed`` + 1, ….

    Args:
        out: folder of the masks.
        count: how many.
        seed: of the first one; it stands in the name.
        model: shape model to draw from, or its file (.npz), or ``HeadMasks``.
        masks_dir: a folder of NIfTI masks instead, taken in turns and edited.
        edits: transforms of "mask" that change it; random ones of MONAI draw from the mask's seed.
        overwrite: replace masks that are there and differ.
        rank: of this process, in [0, ``world_size``); it writes every ``world_size``-th mask, from that of its number.
        world_size: processes that draw the set together.

    Returns:
        All files, also those of other processes, in the order of their seeds.

    Raises:
        ValueError: for no mask to begin with, more processes than masks, or an edit that is impossible, by file.
        FileExistsError: when a mask is there that was drawn otherwise.

    Example:
        >>> mask_set("masks", 0)
        Traceback (most recent call last):
        ValueError: count must be a whole number above 0 and seed one from 0 up, got 0 and 0.
    """
    if not isinstance(count, int) or count < 1 or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"count must be a whole number above 0 and seed one from 0 up, got {count} and {seed}.")
    if not 0 <= rank < world_size <= count:
        raise ValueError(f"At most as many processes as masks were expected, got {world_size} (rank {rank}), {count}.")
    sources = find_images(masks_dir, kinds=("nifti",), recursive=True) if masks_dir else []
    if masks_dir and not sources:
        raise ValueError(f"{masks_dir}: a folder of NIfTI masks was expected.")
    known = isinstance(model, (ShapeModel, HeadMasks))
    shapes: Any = None if masks_dir else model if known else ShapeModel.load(str(model))
    change = Compose([LoadImaged("mask", spatial_dims=3), CheckImaged("mask", whole_numbers=True), *edits])
    paths = []
    for number in range(seed, seed + count):
        source = sources[(number - seed) % len(sources)] if sources else ""
        path = Path(out) / f"{stem_of(source) if source else 'mask'}_{number:03d}{SUFFIX}"
        paths.append(str(path))
        if (number - seed) % world_size != rank:
            continue
        if shapes is not None:
            mask = shapes.sample(number)
            affine = centred_affine(mask.shape, shapes.spacing)
        else:
            edited = change.set_random_state(seed=number)({"mask": source})["mask"]  # type: ignore[index]
            mask, affine = np.asarray(edited[0]), np.asarray(edited.affine)
        _write_missing(path, mask, affine, overwrite)
    return paths


def _write_missing(path: Path, mask: np.ndarray, affine: np.ndarray, overwrite: bool) -> None:
    """Write a mask that is not there; one that is cut off is written again."""
    try:
        found = read_image(path)
    except (FileNotFoundError, ValueError):
        found = None
    if found is not None and not overwrite:
        values = found.values[0]
        if values.shape == mask.shape and (values == mask).all() and np.allclose(found.affine, affine, atol=1e-4):
            return
        raise FileExistsError(
            f"{path} is another mask than this run draws: choose another output_dir, or --overwrite True."
        )
    write_mask(path, mask, affine)
