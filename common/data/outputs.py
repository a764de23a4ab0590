"""The files of one case: images in the format of their source, and the record of their making."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.files import write_json, written_whole, written_whole_folder
from .dicom_volumes import write_series
from .dicom_writer import write_dicom
from .image_file import ImageFile, describe, sides
from .nifti import write_nifti
from .raster import write_png

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Output:
    """
    One file to write.

    Attributes:
        path: of the file.
        values: (X, Y, Z), or (X, Y, Z, C) for a 4D NIfTI file, in the units of ``like``.
        like: how it is stored.
        affine: (4, 4), of ``values``.
        name: of a map beside the result, "" for the result.
        padding: see ``ImageFile``, in the pixels of the source.
    """

    path: Path
    values: np.ndarray
    like: ImageFile
    affine: np.ndarray
    name: str = ""
    padding: np.ndarray | None = None


def write_image(
    path: str | Path,
    values: np.ndarray,
    like: ImageFile,
    affine: np.ndarray,
    record: Mapping[str, Any],
    padding: np.ndarray | None = None,
    link_to_patient: bool = False,
) -> None:
    """
    Write an image in the format of another.

    Args:
        path: of the file, ending as ``output_ending`` says.
        values: (X, Y, Z), in the units of ``like.values``.
        like: the image that it was made from, or ``for_deviation`` of that.
        affine: (4, 4), of ``values``; written to NIfTI. DICOM keeps the position of the source, with finer pixels
            where ``values`` has more of them.
        record: provenance; goes in short to the file's header.
        padding: where nothing was measured in the source, whose padding value goes there again.
        link_to_patient: of DICOM, see ``write_dicom``.
    """
    array = like.stored(values)
    padding = like.padding if padding is None else padding
    if padding is not None and not like.deviation:
        rows, columns = (np.arange(new) * old // new for new, old in zip(array.shape[:2], padding.shape[:2]))
        array[np.asarray(padding, dtype=bool)[np.ix_(rows, columns)]] = like.extra["padding"]
    if like.kind == "nifti":
        write_nifti(Path(path), array, like, affine, describe(record))
        return
    if like.kind == "series":
        write_series(Path(path), array, affine, record, describe(record), like.extra["body_part"])
        return
    pixels = np.ascontiguousarray(array[..., 0].T)
    if like.kind == "raster":
        write_png(path, pixels, {"Description": describe(record)})
    else:
        rescale = (like.slope, like.inter) if like.deviation else None
        write_dicom(path, pixels, like.path, record, describe(record), rescale, link_to_patient)


def write_outputs(
    outputs: Sequence[Output], record: Mapping[str, Any], record_path: Path, run: str = "", link: bool = False
) -> None:
    """
    Write the files of one case, the result last, after the record: where it stands, everything does.

    Args:
        outputs: the result last.
        record: provenance.
        record_path: of the JSON file.
        run: see ``write_dicom``.
        link: see ``write_dicom``.

    Raises:
        OSError, ValueError: when a file cannot be written, names the result; none of them is left.
    """
    written: list[Path] = []
    try:
        for output in outputs:
            if output is outputs[-1]:
                written.append(write_json(record_path, record, default=str))
            whole = written_whole_folder if output.like.kind == "series" else written_whole
            with whole(output.path) as temporary:
                about = {**record, "run": run, "map": output.name}
                write_image(temporary, output.values, output.like, output.affine, about, output.padding, link)
            written.append(output.path)
    except Exception as error:
        for path in written:
            path.unlink(missing_ok=True)
        target = str(outputs[-1].path)
        if not isinstance(error, OSError):
            raise ValueError(f"{target}: the image cannot be written ({type(error).__name__}: {error}).") from error
        raise type(error)(error.errno, f"the image cannot be written ({error.strerror})", target) from error
    shape = outputs[-1].values.shape
    seed = "" if record.get("seed") is None else f", seed {record['seed']}"
    unit = "pixels" if shape[2] == 1 else "voxels"
    logger.debug(f"Wrote {outputs[-1].path} ({sides(shape[:2] if shape[2] == 1 else shape)} {unit}{seed})")
