"""The one finder: which files are images, and what they and their outputs are called."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from .dicom import has_pixels, is_dicom
from .dicom_volumes import is_segmentation
from .image_file import read_record

ENDINGS = {
    "raster": (".png", ".jpg", ".jpeg"),
    "nifti": (".nii.gz", ".nii"),
    "dicom": (".dcm", ".ima"),
}
"""File name endings of each kind of image, in any case; a DICOM file may have any name."""

EXPECTED = "a PNG, JPEG, NIfTI or DICOM image"
MAPS = ("mean", "std")
_SHEETS = ("contact_sheet", "worst_pairs")  # what their names begin with
_OTHER_SHEETS = ("reconstructions", "interpolations")  # plain words, which count beside records alone
MANIFEST = "manifest.csv"
"""Table that lists the images of a folder, and what belongs together."""

logger = logging.getLogger(__name__)


def ending_of(path: str | Path) -> str:
    """
    The ending of an image's file name as it stands there; "" where it has none.

    Example:
        >>> ending_of("a.b.NII.GZ"), ending_of("1.2.840")
        ('.NII.GZ', '')
    """
    name = Path(path).name
    every = sorted((end for ends in ENDINGS.values() for end in ends), key=len, reverse=True)
    return next((name[-len(end) :] for end in every if name.lower().endswith(end)), "")


def stem_of(path: str | Path) -> str:
    """
    File name without the ending of an image; other dots, as in the UIDs that name DICOM files, stay.

    Example:
        >>> stem_of("in/case.1.NII.GZ")
        'case.1'
    """
    return Path(path).name.removesuffix(ending_of(path))


def kind_of(path: str | Path) -> str:
    """ "raster", "nifti", or "dicom" for any other name and for a file with DICOM's mark, whatever its name."""
    return "dicom" if is_dicom(path) else _kind_by_name(path)


def _kind_by_name(path: str | Path) -> str:
    ending = ending_of(path).lower()
    return next((kind for kind, endings in ENDINGS.items() if ending in endings), "dicom")


def is_image(path: str | Path, kinds: Collection[str] = tuple(ENDINGS)) -> bool:
    """
    True for a file, not hidden, with DICOM's mark and pixels, or else with the ending of an image, of these kinds.

    Args:
        path: need not exist.
        kinds: of ``ENDINGS``.
    """
    path = Path(path)
    if path.name.startswith(".") or _is_index(path) or not path.is_file():
        return False
    if is_dicom(path):
        return "dicom" in kinds and has_pixels(path)
    return bool(ending_of(path)) and _kind_by_name(path) in kinds


def find_images(
    folder: str | Path,
    only: str | Path | Sequence[str | Path] | None = None,
    kinds: Collection[str] = tuple(ENDINGS),
    recursive: bool = False,
    generated: bool = False,
    leave_out: Sequence[str | Path | None] = (),
    series: bool = False,
) -> list[str]:
    """
    Images of a folder, sorted by name, or the files named in ``only``.

    Whatever else lies there (reports and tables of contents of a DICOM export, texts, files of other kinds) is left
    out, with a notice that counts it; hidden files, manifests and records of earlier runs are left out without.

    Args:
        folder: one that does not exist holds nothing.
        only: one file or several instead of the folder's; they need not exist (``check_run`` says so).
        kinds: of ``ENDINGS``.
        recursive: whether sub-folders are searched.
        generated: whether to take what earlier runs wrote there, see ``own_outputs``. It is left out, with a notice,
            where other images lie beside it, as in a run whose output folder is its input folder; generated images
            alone are taken, without their maps and previews.
        leave_out: files and sub-folders that hold no inputs.
        series: whether the DICOM slices of a folder are one volume, given as that folder; segmentations stay files.

    Sub-folders behind links are searched too, each once; one that cannot be read is named in a notice.

    Returns:
        The paths.

    Raises:
        OSError: when the folder itself cannot be read.
        ValueError: for an empty name, which stood for the default or for the folder that the run was started in.
    """
    named = [str(path) for path in ([only] if isinstance(only, (str, Path)) else only or [])]
    if "" in (*named, folder):
        raise ValueError("The name of a file or folder was expected, got an empty text (a variable that is not set?).")
    if named:
        return named
    inside = _visible(Path(folder), recursive, leave_out)
    found = [str(path) for path in inside if is_image(path, kinds)]
    taken = set(found)
    others = [path for path in inside if str(path) not in taken and not _expected(path)]
    if others:
        names = ", ".join(path.name for path in others[:3]) + (", ..." if len(others) > 3 else "")
        logger.warning("%s: %d left out, no file of the kinds %s: %s", folder, len(others), "/".join(kinds), names)
    if series:
        slices = {path for path in found if is_dicom(path) and not is_segmentation(path)}
        found = sorted({str(Path(path).parent) if path in slices else path for path in found})
    return found if generated else _without_outputs(folder, found)


def _expected(path: Path) -> bool:
    """Whether it is no image, and needs no notice."""
    return path.name == MANIFEST or (path.suffix == ".json" and bool(read_record(path)))


def _visible(folder: Path, recursive: bool, leave_out: Sequence[str | Path | None]) -> list[Path]:
    """What lies in a folder but for hidden things, sub-folders and ``leave_out``; a folder called as an image stays."""
    root = Path(os.path.abspath(folder))
    left = {path for path in (Path(os.path.abspath(one)) for one in leave_out if one) if root in path.parents}
    inside = []
    for place in _folders(folder, recursive):
        for entry in place.iterdir():
            hidden = entry.name.startswith(".") or (entry.is_dir() and (recursive or not ending_of(entry)))
            where = Path(os.path.abspath(entry))
            if not hidden and left.isdisjoint((where, *where.parents)):
                inside.append(entry)
    return sorted(inside)


def _folders(folder: Path, recursive: bool) -> Iterator[Path]:
    """The folder and, where asked for, those below it, through links as well, each once; hidden ones are left out."""
    if not folder.is_dir():
        return
    os.listdir(folder)  # an error where it cannot be read
    seen = {os.path.realpath(folder)}

    def unreadable(error: OSError) -> None:
        logger.warning(
            "%s: this folder cannot be read (%s); what lies in it is left out.", error.filename, error.strerror
        )

    for place, below, _ in os.walk(folder, onerror=unreadable, followlinks=True):
        if os.access(place, os.R_OK | os.X_OK):
            yield Path(place)
        wanted = [name for name in sorted(below) if not name.startswith(".")] if recursive else []
        below.clear()
        for name in wanted:
            real = os.path.realpath(os.path.join(place, name))
            if real not in seen:
                seen.add(real)
                below.append(name)


def own_outputs(files: Sequence[str | Path], by_name: bool = False) -> tuple[set[str], set[str]]:
    """
    What runs of this project wrote, as the records beside the files say.

    Args:
        files: of any folders.
        by_name: whether names count where records are lost: contact sheets, the worst pairs of an audit, and what is
            called as another of the files and "_mean", "_std" or "_preview".

    Returns:
        The generated images among them, and what stands beside such images: maps, previews, contact sheets.
    """
    images: set[str] = set()
    beside: set[str] = set()
    recorded: set[Path] = set()
    stems = {(file.parent, stem_of(file)) for file in map(Path, files)} if by_name else set()
    for file in map(Path, files):
        stem = stem_of(file)
        parts = stem.split("_")
        for end in range(len(parts), 0, -1):
            base = "_".join(parts[:end])
            outputs = _outputs_in(file.with_name(f"{base}.json"))
            if outputs is None:
                continue
            recorded.add(file.parent)
            others = MAPS if "pred" not in outputs else outputs.keys() - {"pred"}  # four modalities have no "pred"
            kinds = {kind for kind, name in outputs.items() if name == file.name}
            if kinds or stem == f"{base}_preview":
                (beside if kinds <= set(others) else images).add(str(file))
        if len(parts) > 1 and parts[-1] in (*MAPS, "preview") and (file.parent, "_".join(parts[:-1])) in stems:
            beside.add(str(file))
    sheets = {str(file) for file in map(Path, files) if stem_of(file).startswith(_SHEETS)}
    beside |= {file for file in sheets if by_name or Path(file).parent in recorded}
    beside |= {str(file) for file in map(Path, files) if stem_of(file) in _OTHER_SHEETS and file.parent in recorded}
    return images - beside, beside


def _outputs_in(record: Path) -> dict[str, str] | None:
    found = read_record(record)
    outputs = None if found is None else found.get("outputs")
    if isinstance(outputs, list):
        return {str(number): str(name) for number, name in enumerate(outputs)}
    return outputs if isinstance(outputs, dict) else None


def _without_outputs(folder: str | Path, found: list[str]) -> list[str]:
    images, beside = own_outputs(found)
    own = images | beside if len(images | beside) < len(found) else beside
    if own:
        name = Path(min(own)).name
        logger.warning("%s: %d left out, which earlier runs wrote there, e.g. %s", folder, len(own), name)
    return [path for path in found if path not in own]


def _is_index(path: Path) -> bool:
    """Whether it is the table of contents of a DICOM medium, which has the mark of an image and no pixels."""
    return path.name.upper() == "DICOMDIR"
