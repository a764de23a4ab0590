"""Lists of the slices of volumes, from the files' headers alone; ``LoadSliced`` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib

SUFFIXES = (".nii.gz", ".nii")


def slice_cases(
    dataset_dir: str | Path, axis: int = 2, channel: int | None = None, skip: int = 0, key: str = "image"
) -> list[dict[str, Any]]:
    """
    One case a slice of each NIfTI volume in a folder, sorted by file name and position; slices of a volume are a group.

    For the Decathlon's Task05_Prostate: ``dataset_dir`` is its imagesTr, ``channel`` 0 the T2-weighted image. A folder
    of single slices is what ``image_cases`` lists.

    Args:
        dataset_dir: folder with .nii.gz or .nii files; subfolders are not searched.
        axis: of the array that the slices are stacked along: 0, 1 or 2.
        channel: of 4D files; None where files are 3D.
        skip: slices to leave out at each end.
        key: of the volume's path in a case.

    Returns:
        ``{key: path, "slice": index, "axis": axis, "channel": channel or -1, "case": name_index, "group": name}``.

    Raises:
        FileNotFoundError: when there is no folder or no such file.
        ValueError: for another axis, a file of other dimensions, or one that has no slice left; names it.
    """
    if axis not in (0, 1, 2) or skip < 0:
        raise ValueError(f"axis 0, 1 or 2 and skip of at least 0 were expected, got {axis} and {skip}.")
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}: set dataset_dir to a folder of NIfTI volumes.")
    files = sorted(p for p in root.iterdir() if p.name.endswith(SUFFIXES) and not p.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"No NIfTI volume ({', '.join(SUFFIXES)}) in {root}.")
    cases = []
    for path in files:
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        number = _slices(path, axis, channel)
        if number <= 2 * skip:
            raise ValueError(
                f"{path}: {number} slices along axis {axis} leave none when {skip} are skipped at each end."
            )
        place = {key: str(path), "axis": axis, "channel": -1 if channel is None else channel, "group": name}
        cases += [{**place, "slice": k, "case": f"{name}_{k:03d}"} for k in range(skip, number - skip)]
    return cases


def _slices(path: Path, axis: int, channel: int | None) -> int:
    shape = nib.load(path).shape  # type: ignore[attr-defined]
    wanted = 3 if channel is None else 4
    if len(shape) != wanted or (channel is not None and not 0 <= channel < shape[3]):
        expected = "a 3D volume" if channel is None else f"a 4D file with channel {channel}"
        raise ValueError(f"{path}: {expected} was expected, got shape {tuple(shape)}.")
    return int(shape[axis])
