"""Masks to generate from, and simulated volumes: ``python -m common.masks sample|phantom|head|simulate --help``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..data.finder import find_images, stem_of
from ..data.reader import LoadImaged
from ..transforms.checks import CheckImaged
from ..utils.commands import run_commands
from ..utils.files import written_whole_folder
from .editor import EditLabels
from .files import SUFFIX, read_volume, refuse_existing, write_mask
from .heads import TissueMaps, draw_head
from .mr_signal import MODALITIES, scan
from .numbered import described, missing, numbered
from .phantom import FIELD_OF_VIEW, head_mask_from_image, head_phantom
from .prostate import prostate_phantom
from .shape_model import ShapeModel, centred_affine


def sample(
    model: str | Path, out: str | Path, count: int = 1, seed: int = 0, mirror: bool = False, overwrite: bool = False
) -> list[str]:
    """
    Draw new masks from a shape model.

    Args:
        model: .npz of ``fit``.
        out: folder; mask number ``seed + i`` is written to ``mask_<seed + i>.nii.gz``, so that runs can be continued.
        count: how many.
        seed: of the first one.
        mirror: left and right exchanged.
        overwrite: replace what is there already; otherwise a run that was ended goes on with what is missing.

    Returns:
        The files.

    Raises:
        FileExistsError: when one is there that was made otherwise, before any is drawn.
    """
    paths = numbered(out, "mask", count, seed)
    shapes = ShapeModel.load(model)
    about = described("drawn", [mirror], np.fromfile(model, np.uint8))
    for path in missing(paths, about, overwrite):
        mask = shapes.sample(seed + paths.index(path))
        write_mask(path, mask[::-1] if mirror else mask, centred_affine(mask.shape, shapes.spacing), about=about)
    return [str(path) for path in paths]


def phantom(
    out: str | Path,
    count: int = 1,
    size: int | Sequence[int] = 128,
    spacing: float | None = None,
    seed: int = 0,
    lesion: bool = True,
    overwrite: bool = False,
) -> list[str]:
    """
    Draw whole-head phantoms (1 head, 2 lesion).

    Args:
        out: folder; phantom number ``seed + i`` is written to ``head_<seed + i>.nii.gz``.
        count: how many.
        size: voxels, one a side or three.
        spacing: mm; by default 192 mm over the shortest side.
        seed: of the first one.
        lesion: False for healthy heads.
        overwrite: replace what is there already; otherwise a run that was ended goes on with what is missing.

    Returns:
        The files.

    Raises:
        FileExistsError: when one is there that was made otherwise, before any is drawn.
    """
    paths = numbered(out, "head", count, seed)
    about = described("drawn", [size, spacing, lesion])
    for path in missing(paths, about, overwrite):
        mask = head_phantom(size, spacing, seed + paths.index(path), lesion)
        step = FIELD_OF_VIEW / min(mask.shape) if spacing is None else spacing
        write_mask(path, mask, centred_affine(mask.shape, (step,) * 3), about=about)
    return [str(path) for path in paths]


def simulate(
    out: str | Path,
    count: int = 1,
    size: int | Sequence[int] = 96,
    spacing: float | None = None,
    seed: int = 0,
    tumour: bool = True,
    masks: bool = False,
    tissues: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """
    Simulate brains with a tumour, in four modalities, in folders as BraTS publishes cases.

    Args:
        out: folder; brain number ``seed + i`` is written to ``head_<seed + i>/head_<seed + i>_t1.nii.gz``, ``_t1ce``,
            ``_t2``, ``_flair`` and ``_seg`` (1 necrotic core, 2 oedema, 4 enhancing tumour).
        count: how many.
        size: voxels, one a side or three.
        spacing: mm; by default 192 mm over the shortest side.
        seed: of the first one.
        tumour: False for healthy brains.
        masks: write label maps to generate from instead, ``mask_<seed + i>.nii.gz`` (1 to 3 the tumour, 4 the brain).
        tissues: folder of tissue maps, see ``TissueMaps.load``; None for those in the package nilearn.
        overwrite: replace what is there already; otherwise a run that was ended goes on with what is missing.

    Returns:
        The files or folders.

    Raises:
        FileExistsError: when one is there that was made otherwise, before any is drawn.
    """
    paths = numbered(out, "mask" if masks else "head", count, seed, SUFFIX if masks else "")
    maps = TissueMaps.load(tissues)
    about = described("simulated", [size, spacing, tumour], maps.grey, maps.white, maps.brain, maps.affine)
    names = [] if masks else [f"_{name}{SUFFIX}" for name in (*MODALITIES, "seg")]
    for path in missing(paths, about, overwrite, names):
        number = seed + paths.index(path)
        head = draw_head(maps, size, spacing, number, tumour)
        affine = centred_affine(head.labels.shape, (head.spacing,) * 3)
        if masks:
            write_mask(path, head.mask, affine, about=about)
            continue
        with written_whole_folder(path) as folder:
            for name, values in zip(names, (*scan(head, number), head.labels)):
                write_mask(folder / f"{path.name}{name}", values, affine, values.dtype, about)
    return [str(path) for path in paths]


def prostate(
    out: str | Path,
    count: int = 1,
    size: Sequence[int] = (128, 128, 16),
    spacing: Sequence[float] = (1.0, 1.0, 3.6),
    seed: int = 0,
    overwrite: bool = False,
) -> list[str]:
    """
    Simulate prostates with their zones, in the folders and with the channels and labels of Task05_Prostate.

    Args:
        out: folder; prostate number ``seed + i`` is written to ``imagesTr/prostate_<seed + i>.nii.gz`` (T2, ADC) and
            ``labelsTr/prostate_<seed + i>.nii.gz`` (1 peripheral, 2 transition zone).
        count: how many.
        size: voxels, three.
        spacing: mm, three.
        seed: of the first one.
        overwrite: replace what is there already; otherwise a run that was ended goes on with what is missing.

    Returns:
        The images.

    Raises:
        FileExistsError: when one is there that was made otherwise, before any is drawn.
    """
    images, labels = (numbered(Path(out) / folder, "prostate", count, seed) for folder in ("imagesTr", "labelsTr"))
    about = described("simulated", [size, spacing])
    wanted = missing([*images, *labels], about, overwrite)
    for number, paths in enumerate(zip(images, labels), start=seed):
        if not {*paths} & {*wanted}:
            continue
        affine = centred_affine(tuple(size), tuple(spacing))
        for path, values in zip(paths, prostate_phantom(size, spacing, number)):
            write_mask(path, values, affine, values.dtype, about)
    return [str(path) for path in images]


def head(image: str | Path, out: str | Path, lesion: str | Path | None = None, overwrite: bool = False) -> str:
    """
    Make a head mask (1 head, 2 lesion) of an MR volume, on its grid.

    Args:
        image: NIfTI volume with the whole head.
        out: file to write.
        lesion: NIfTI mask of the lesion on the same grid.
        overwrite: replace ``out`` where it is there already.

    Returns:
        The file.
    """
    refuse_existing([Path(out)], overwrite)
    volume = read_volume(image)
    marked = None if lesion is None else read_volume(lesion)
    if marked is not None and not np.allclose(marked.affine, volume.affine, atol=1e-3):
        raise ValueError(f"{lesion} and {image} have different affines: bring them to one grid.")
    spacing = nib.affines.voxel_sizes(volume.affine)
    try:
        mask = head_mask_from_image(volume.get_fdata(), None if marked is None else marked.get_fdata(), spacing)
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error
    return str(write_mask(out, mask, volume.affine))


def fit(
    out: str | Path,
    labels: Mapping[str, int],
    cases: Sequence[Mapping[str, str]] | None = None,
    dataset_dir: str | Path | None = None,
    variance: float = 0.95,
    grid_spacing: float = 2.0,
    overwrite: bool = False,
) -> str:
    """
    Learn a shape model from masks.

    Args:
        out: .npz to write.
        labels: name -> value, e.g. ``{"anterior": 1, "posterior": 2}``.
        cases: with the mask's file under "label", and its subject under "group"; from a config's split.
        dataset_dir: instead of ``cases``, a folder whose ``labels/`` are all used.
        variance: share of the variance that the modes keep.
        grid_spacing: mm a step of the distance maps.
        overwrite: replace ``out`` where it is there already.

    Returns:
        The file.
    """
    refuse_existing([Path(out)], overwrite)
    if cases is None:
        folder = Path(dataset_dir or ".") / "labels"
        cases = [{"label": path} for path in find_images(folder, kinds=("nifti",), recursive=True)]
        if not cases:
            raise FileNotFoundError(f"No NIfTI file in {folder}: set dataset_dir to a folder that holds labels/.")
    images = [nib.as_closest_canonical(read_volume(case["label"])) for case in cases]
    masks, spacings = zip(*((image.get_fdata(), nib.affines.voxel_sizes(image.affine)) for image in images))
    names = [case["label"] for case in cases]
    model = ShapeModel.fit(masks, spacings, labels, variance, grid_spacing, names=names)
    if all("group" in case for case in cases):
        model.info["subjects"] = len({case["group"] for case in cases})
    sizes = ", ".join(f"{name} {low:g} to {high:g} mm³" for name, (low, _, high) in model.info["volumes"].items())
    modes, kept = model.info["modes"], model.info["variance"]
    print(f"{len(names)} masks ({sizes}) in {modes} modes, which keep {kept:.0%} of their variance:")
    return str(model.save(out))


def edit(
    masks: Sequence[str], out: str | Path, edits: Sequence[EditLabels], postfix: str = "edited", overwrite: bool = False
) -> list[str]:
    """
    Edit masks, one edit after the other; the grid stays.

    Args:
        masks: NIfTI files.
        out: folder; ``case.nii.gz`` becomes ``case_<postfix>.nii.gz``.
        edits: of ``common.masks.editor``.
        postfix: after the name of the file.
        overwrite: replace masks that are there already.

    Returns:
        The files.

    Raises:
        ValueError: when there is no mask or no edit, or an edit is impossible, by file; no file is written then.
    """
    if not masks or not edits:
        raise ValueError("A mask (or a folder of masks) and at least one edit were expected: set mask and edits.")
    paths = [Path(out) / f"{stem_of(mask)}_{postfix}{SUFFIX}" for mask in masks]
    refuse_existing(paths, overwrite)
    changes = [LoadImaged("mask", spatial_dims=3), CheckImaged("mask", whole_numbers=True), *edits]
    cases: list[dict[str, Any]] = [{"mask": mask} for mask in masks]
    edited = [reduce(lambda case, change: change(case), changes, case)["mask"] for case in cases]
    for path, mask in zip(paths, edited):
        write_mask(path, mask[0].numpy(), np.asarray(mask.affine))
    return [str(path) for path in paths]


def main(command: list[str] | None = None) -> int:
    """The command line; mistakes end it with one line and status 2."""
    commands: dict[str, Callable[..., Any]] = {
        "sample": sample,
        "phantom": phantom,
        "prostate": prostate,
        "head": head,
        "fit": fit,
        "simulate": simulate,
    }
    return run_commands(commands, "common.masks", command)


if __name__ == "__main__":
    sys.exit(main())
