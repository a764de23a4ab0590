"""Which volumes a run reads and writes: what is there, what is complete already, and what cannot be used."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..networks.memory import check_inference

ENDINGS = (".nii.gz", ".nii")

logger = logging.getLogger(__name__)


def stem_of(path: str | Path) -> str:
    """File name without ``.nii.gz`` or ``.nii``."""
    name = Path(path).name
    return next((name[: -len(ending)] for ending in ENDINGS if name.endswith(ending)), Path(name).stem)


def find_volumes(folder: str | Path, only: str | Path | Sequence[str | Path] | None = None) -> list[str]:
    """
    NIfTI files of a folder, sorted by name, or the files named in ``only``.

    Args:
        folder: looked through without its sub-folders; one that does not exist holds nothing.
        only: one file or several instead of the folder's; they need not exist (``check_run`` says so).

    Returns:
        The paths.
    """
    if only:
        return [str(path) for path in ([only] if isinstance(only, (str, Path)) else only)]
    return sorted(str(p) for p in Path(folder).glob("[!.]*") if p.name.endswith(ENDINGS))


def pending_cases(
    files: Sequence[str], output_dir: str | Path, outputs: Sequence[str], overwrite: bool = False, key: str = "image"
) -> list[dict[str, str]]:
    """
    One case for each file that lacks one of its outputs.

    Args:
        files: inputs.
        output_dir: folder of the outputs.
        outputs: what follows the stem of the input in the names of its outputs, e.g. ``["_mr.nii.gz"]``.
        overwrite: take every file, whatever is there.
        key: of the file in a case.

    Returns:
        ``{key: file}`` a case, in the order of ``files``.
    """
    folder = Path(output_dir)
    done = {f for f in files if all((folder / f"{stem_of(f)}{output}").is_file() for output in outputs)}
    return [{key: file} for file in files if overwrite or file not in done]


def check_run(
    files: Sequence[str],
    cases: Sequence[dict[str, str]],
    transform: Callable[[Any], Any],
    output_dir: str | Path,
    dataset_dir: str | Path = "",
    network: Any = None,
) -> int:
    """
    Look at everything that a run needs before it starts: its inputs, one by one, and its output folder.

    Args:
        files: all inputs.
        cases: those to be done, of ``pending_cases``.
        transform: the preprocessing, which raises where a case cannot be used.
        output_dir: made where it is missing.
        dataset_dir: where the inputs were looked for, for the message.
        network: whose memory is estimated for the largest case; None for no estimate.

    Returns:
        The number of cases to be done.

    Raises:
        FileNotFoundError: when there is no input at all.
        ValueError: when inputs cannot be used, or two would have the same output; every file is named with its reason.
        OSError: when the output folder cannot be written.
        MemoryError: when the largest case needs more memory than is free.
    """
    none = f"No .nii.gz or .nii file in {dataset_dir}: set dataset_dir to a folder of masks, or mask to one file."
    return check_inputs(files, cases, transform, output_dir, network, none)


def check_inputs(
    files: Sequence[str],
    cases: Sequence[dict[str, str]],
    transform: Callable[[Any], Any],
    output_dir: str | Path,
    network: Any,
    none: str,
    stem: Callable[[str], str] = stem_of,
    check_file: Callable[[str], None] | None = None,
    spatial_dims: int = 3,
) -> int:
    """
    What ``check_run`` does, for any kind of file.

    Args:
        files: see ``check_run``, as ``cases``, ``transform``, ``output_dir``, ``network``, result and errors.
        none: the message when there is no file.
        stem: of a file's name; two files of one stem would have one output.
        check_file: see ``check_cases``.
        spatial_dims: of what the network sees at once; further axes of a case are taken one by one.
    """
    if not files:
        raise FileNotFoundError(none)
    check_names(files, stem)
    shapes = check_cases(cases, transform, check_file)
    check_folder(output_dir)
    if network is not None:
        check_inference(network, [shape[: spatial_dims + 1] for shape in shapes])
    pending = {value for case in cases for value in case.values()}
    skipped = [Path(file).name for file in files if file not in pending]
    if skipped:
        names = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        logger.info(
            f"{len(skipped)} of {len(files)} already in {output_dir}, skipped ({names}); --overwrite True redoes them."
        )
    return len(cases)


def check_names(files: Collection[str], stem: Callable[[str], str] = stem_of) -> None:
    """Raises ValueError when two of ``files`` have the same stem, and so the same output."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(stem(file), file)
        if other != file:
            raise ValueError(f"{other} and {file} would be written to the same output: rename one of them.")


def check_cases(
    cases: Sequence[dict[str, str]], transform: Callable[[Any], Any], check_file: Callable[[str], None] | None = None
) -> list[tuple[int, ...]]:
    """
    Read and transform every case, and report all that fail at once.

    Args:
        cases: a path for each key.
        transform: the preprocessing.
        check_file: looks at each path first; ``check_nifti`` by default.

    Returns:
        The shape of each transformed volume, (C, *spatial).

    Raises:
        ValueError: names every file that cannot be used, and why.
    """
    problems: list[str] = []
    shapes: list[tuple[int, ...]] = []
    for case in cases:
        try:
            for path in case.values():
                (check_file or check_nifti)(path)
            transformed = transform(case)
            shapes.extend(tuple(transformed[key].shape) for key in case)
        except Exception as error:
            problems.append(f"  {_root(error)}")
    if problems:
        raise ValueError(f"{len(problems)} of {len(cases)} inputs cannot be used:\n" + "\n".join(problems))
    return shapes


def check_nifti(path: str | Path) -> None:
    """
    Read a NIfTI file to its end.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged or no NIfTI file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; a NIfTI label map was expected.")
    try:
        np.asanyarray(nib.load(str(path)).dataobj)  # type: ignore[attr-defined]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: damaged, cut off, or no NIfTI file ({reason}).") from error


def check_folder(folder: str | Path) -> None:
    """
    Make a folder and write to it, as a run will.

    Raises:
        OSError: when it cannot be made or written; the message names it.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(error.errno, f"output_dir cannot be written ({error.strerror})", str(folder)) from error


def _root(error: BaseException) -> BaseException:
    """The first error of a chain: MONAI wraps what a transform raises."""
    while error.__cause__ is not None and isinstance(error, RuntimeError):
        error = error.__cause__
    return error
