"""Which images a restoration reads and writes: what is there, what is complete already, and what cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .cases import check_inputs
from .images import EXPECTED, image_stem, is_image, output_ending

MAPS = ("mean", "std")


def find_images(folder: str | Path, only: str | Path | Sequence[str | Path] | None = None) -> list[str]:
    """
    Images of a folder, sorted by name, or the files named in ``only``.

    Args:
        folder: looked through without its sub-folders; one that does not exist holds nothing.
        only: one file or several instead of the folder's; they need not exist (``check_images`` says so).

    Returns:
        The paths.
    """
    if only:
        return [str(path) for path in ([only] if isinstance(only, (str, Path)) else only)]
    return sorted(str(path) for path in Path(folder).glob("*") if is_image(path))


def find_hole(hole: str | Path, image: str | Path) -> str:
    """``hole`` itself, or the file of the image's name in the folder ``hole``; it may be missing."""
    folder = Path(hole)
    if not folder.is_dir():
        return str(hole)
    stem = image_stem(image)
    found = [path for path in sorted(folder.glob("*")) if is_image(path) and image_stem(path) == stem]
    return str(found[0] if found else folder / Path(image).name)


def output_paths(image: str | Path, output_dir: str | Path, postfix: str, num_samples: int = 1) -> dict[str, Path]:
    """
    Where the results of an image go.

    Returns:
        ``{"pred": path}``, with "mean" and "std" where there are several samples.
    """
    ending, start = output_ending(image), f"{image_stem(image)}_{postfix}"
    names = {"pred": start, **({name: f"{start}_{name}" for name in MAPS} if num_samples > 1 else {})}
    return {key: Path(output_dir) / f"{name}{ending}" for key, name in names.items()}


def pending_images(
    files: Sequence[str],
    output_dir: str | Path,
    postfix: str,
    num_samples: int = 1,
    hole: str | Path | None = None,
    overwrite: bool = False,
) -> list[dict[str, str]]:
    """
    One case for each image that lacks one of its outputs.

    Args:
        files: images.
        output_dir: folder of the outputs.
        postfix: what follows the image's name in those of its outputs, after "_".
        num_samples: with more than one, mean and standard deviation are outputs too.
        hole: see ``find_hole``; None for restorations without.
        overwrite: take every image, whatever is there.

    Returns:
        ``{"image": file}`` a case, with "hole" where ``hole`` is given, in the order of ``files``.
    """
    cases = []
    for file in files:
        # a missing file has no format yet; check_images names it
        done = Path(file).is_file() and all(
            path.is_file() for path in output_paths(file, output_dir, postfix, num_samples).values()
        )
        if overwrite or not done:
            cases.append({"image": file} if hole is None else {"image": file, "hole": find_hole(hole, file)})
    return cases


def check_images(
    files: Sequence[str],
    cases: Sequence[dict[str, str]],
    transform: Callable[[Any], Any],
    output_dir: str | Path,
    dataset_dir: str | Path = "",
    network: Any = None,
) -> int:
    """
    Look at everything that a run needs before it starts: its images and holes, one by one, and its output folder.

    Args:
        files: all images.
        cases: those to be done, of ``pending_images``.
        transform: see ``check_run``, as ``output_dir``, result and errors.
        output_dir: made where it is missing.
        dataset_dir: where the images were looked for, for the message.
        network: whose memory is estimated for the largest slice as a whole; None for no estimate.
    """
    where = "set dataset_dir to a folder of images, or image to one file"
    none = f"No image in {dataset_dir} ({EXPECTED} was expected): {where}."
    return check_inputs(
        files, cases, transform, output_dir, network, none, stem=image_stem, check_file=check_exists, spatial_dims=2
    )


def check_exists(path: str | Path) -> None:
    """Raises FileNotFoundError for a missing file; the transforms read it."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; {EXPECTED} was expected.")
