"""DICOM volumes: masks from segmentations and series of slices in, generated volumes as a series of MR slices out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..utils.files import written_whole
from ..utils.images import MAX_VOXELS
from ..utils.packages import import_optional
from .dicom import check_complete, decoded, has_pixels, import_pydicom, is_dicom, read_dataset
from .dicom_terms import body_part
from .dicom_writer import write_instance
from .image_file import ImageFile, Unsuitable, integer_limits, sides

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # of bits, of labels
_MR = "1.2.840.10008.5.1.4.1.1.4"
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's patient axes in those of NIfTI
_SQUARE = 1e-4  # largest cosine between axes that are at right angles

logger = logging.getLogger(__name__)


def _highdicom() -> Any:
    return import_optional("highdicom", "A DICOM volume", "pip install highdicom")


def is_segmentation(path: str | Path) -> bool:
    """Whether a DICOM file is a segmentation."""
    try:
        source = read_dataset(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except Exception:
        return False  # the reader says what is wrong
    return str(source.get("SOPClassUID")) in SEGMENTATIONS


def slices_of(folder: str | Path) -> list[Path]:
    """The DICOM images of a folder, by name, but for segmentations."""
    inside = [path for path in sorted(Path(folder).iterdir()) if not path.name.startswith(".") and is_dicom(path)]
    return [path for path in inside if has_pixels(path) and not is_segmentation(path)]


def read_segmentation(path: Path, segments: Mapping[str, int] | None) -> ImageFile:
    """
    Read a segmentation as a label map.

    Args:
        path: of the file.
        segments: name of a segment (SegmentLabel, in any case) -> label, 0 for segments to leave out.

    Returns:
        (1, X, Y, Z) whole numbers, in the file's own rows, columns and slices.

    Raises:
        ImportError: without highdicom.
        Unsuitable: for a segment of another name, segments that overlap, fractions, or slices at unequal distances.
    """
    found = _highdicom().seg.Segmentation.from_dataset(read_dataset(path), copy=False)
    every = {int(item.SegmentNumber): str(item.SegmentLabel) for item in found.SegmentSequence}
    names = {number: name for number, name in every.items() if number}  # 0 is the background
    labels = {name.strip().lower(): label for name, label in (segments or {}).items()}
    unknown = [name for name in names.values() if name.strip().lower() not in labels]
    if unknown:
        raise Unsuitable(
            f"{path}: segments called {sorted(segments or {})} were expected, got {unknown} among "
            f'{list(names.values())}; segment_labels says what they are, e.g. {{"{unknown[0]}": 1}}, 0 for nothing.'
        )
    if found.SegmentationType == "FRACTIONAL":
        raise Unsuitable(f"{path}: a BINARY or LABELMAP segmentation was expected, got FRACTIONAL.")
    volume = _as_volume(path, lambda: found.get_volume(dtype=np.uint8, segment_numbers=sorted(names)))
    array = np.zeros(volume.array.shape[:3], dtype=np.int64)
    for index, number in enumerate(sorted(names)):
        inside, label = volume.array[..., index] > 0, labels[names[number].strip().lower()]
        if label and bool((inside & (array > 0) & (array != label)).any()):
            raise Unsuitable(f"{path}: segments that do not overlap were expected, {names[number]} lies over another.")
        array[inside & (label > 0)] = label
    _note_missing_slices(path, found, len(array))
    return _image(path, array, volume.affine)


def read_series(folder: Path) -> ImageFile:
    """
    Read the slices of a folder as one volume.

    Args:
        folder: with one series, one slice a file, in any order and by any names.

    Returns:
        (1, X, Y, Z), in the rows, columns and slices of the files, with their rescale.

    Raises:
        ImportError: without highdicom, or without a decoder; names the file.
        Unsuitable: for several series, colour, MONOCHROME1, or slices that make no volume.
    """
    highdicom = _highdicom()
    files = _of_each(slices_of(folder), read_dataset)
    for path, one in files.items():
        check_complete(path, one)
    series = sorted({str(one.get("SeriesInstanceUID")) for one in files.values()})
    if len(series) > 1:
        raise Unsuitable(f"{folder}: one series was expected, got {len(series)}: {', '.join(series[:3])}.")
    if any(int(one.get("NumberOfFrames") or 1) > 1 or one.get("SamplesPerPixel", 1) != 1 for one in files.values()):
        raise Unsuitable(f"{folder}: grey slices of one frame a file were expected.")
    inverted = [path for path, one in files.items() if one.get("PhotometricInterpretation") != "MONOCHROME2"]
    if inverted:
        raise Unsuitable(
            f"{inverted[0]}: MONOCHROME2 was expected of slices ({len(inverted)} of {len(files)} are others)."
        )
    voxels = sum(int(one.get("Rows", 0)) * int(one.get("Columns", 0)) for one in files.values())
    if voxels > MAX_VOXELS:
        raise Unsuitable(f"{folder}: at most {MAX_VOXELS:,} voxels were expected, the headers say {voxels:,}.")
    _of_each(files, lambda path: decoded(path, files[path]))
    plain = {"apply_presentation_lut": False, "apply_real_world_transform": False}
    volume = _as_volume(folder, lambda: highdicom.get_volume_from_series(list(files.values()), **plain))
    return _image(folder, volume.array, volume.affine)


def _of_each(paths: Iterable[Path], read: Callable[[Path], Any]) -> dict[Path, Any]:
    """What is read of each file of a folder; an error says of which."""
    found = {}
    for path in paths:
        try:
            found[path] = read(path)
        except (ImportError, Unsuitable, PermissionError, MemoryError):
            raise
        except Exception as error:
            raise ValueError(f"{path.name}: {error}") from error
    return found


def is_whole(folder: Path) -> bool:
    """Whether a folder of ``write_series`` has all of its slices and each can be read."""
    try:
        slices = read_series(folder).values.shape[3]
    except (OSError, ValueError):
        return False
    first = read_dataset(slices_of(folder)[0], stop_before_pixels=True)
    return slices == int(first.get("ImagesInAcquisition") or 0)


def _as_volume(path: Path, read: Any) -> Any:
    try:
        volume = read()
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        expected = "slices with a place each, at equal distances, were expected"
        missing = getattr(error, "name", None)  # of an attribute of DICOM
        reason = f"{missing} is missing" if missing else f"{type(error).__name__}: {error}"
        raise Unsuitable(f"{path}: {expected} ({reason}).") from error
    if volume.array.size > MAX_VOXELS:
        raise Unsuitable(f"{path}: at most {MAX_VOXELS:,} voxels were expected, got {sides(volume.array.shape)}.")
    return volume


def _note_missing_slices(path: Path, found: Any, slices: int) -> None:
    series = found.get("ReferencedSeriesSequence") or []
    referenced = max((len(one.get("ReferencedInstanceSequence", [])) for one in series), default=0)
    if referenced > slices:
        logger.warning(
            "%s holds %d slices of an image of %d; those without a segment are not part of the result. Store the "
            "segmentation with its empty frames to have all of them.",
            *(path, slices, referenced),
        )


def _image(path: Path, array: np.ndarray, affine: np.ndarray) -> ImageFile:
    """From (slices, rows, columns) and their affine in the patient's axes; its precision is that of NIfTI files."""
    values = array.transpose(2, 1, 0)[None].astype(np.float64)
    # a last digit more would send voxels half-way between two others to the one here, to the other there
    place = (_LPS @ np.asarray(affine)[:, [2, 1, 0, 3]]).astype(np.float32).astype(np.float64)
    dtype = np.dtype(np.int16)
    return ImageFile(path, "series", values, place, dtype, limits=integer_limits(dtype))


class RightAnglesd(MapTransform):
    """
    Pass images on whose results can be written as a series, which has rows, columns and slices at right angles.

    Args:
        keys: volumes with an affine.
        format: of the results; with another than "dicom", everything is passed on.
        channels: of the results; a series has one.

    Raises:
        ValueError: for several channels; (when called) for other axes, names the file.

    Example:
        >>> RightAnglesd("image").keys
        ('image',)
    """

    def __init__(self, keys: KeysCollection, format: str = "dicom", channels: int = 1) -> None:
        super().__init__(keys)
        self.active = format == "dicom"
        if self.active and channels != 1:
            raise ValueError(f"output_format dicom: volumes of one channel were expected, got {channels}.")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        for key in self.key_iterator(dict(data)) if self.active else ():
            _check_angles(np.asarray(data[key].affine), data[key].meta.get("filename_or_obj", key))
        return dict(data)


def _check_angles(affine: np.ndarray, name: str | Path) -> None:
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SQUARE:
        raise Unsuitable(f"{name}: axes at right angles were expected, since DICOM slices have no others.")


def write_series(
    folder: Path, stored: np.ndarray, affine: np.ndarray, record: Mapping[str, Any], description: str, part: str = ""
) -> None:
    """
    Write a generated volume as a series of classic MR images of nobody, one slice a file, marked as synthetic.

    Args:
        folder: of the slices, ``0001.dcm`` and so on, along the normal of their rows and columns.
        stored: (X, Y, Z), int16 or uint16.
        affine: (4, 4), mm, RAS, axes at right angles.
        record: provenance, see ``write_dicom``.
        description: of how the volume was made, one line.
        part: of the body, a defined term such as "BRAIN"; "" for none.

    Raises:
        Unsuitable: for axes that are not at right angles.
        ValueError: for another part of the body.
    """
    pydicom = import_pydicom()
    _check_angles(affine, folder)
    place = _LPS @ np.asarray(affine, dtype=np.float64)
    if np.linalg.det(place[:3, :3]) < 0:  # slices follow each other along the normal, as readers sort them
        place[:3, 3] += place[:3, 2] * (stored.shape[2] - 1)
        place[:3, 2], stored = -place[:3, 2], stored[:, :, ::-1]
    template = _template(pydicom, stored, place, part)
    record = {**record, "run": record.get("run") or pydicom.uid.generate_uid()}  # one for all slices
    for index in range(stored.shape[2]):
        template.InstanceNumber = index + 1
        position = place[:3, 3] + place[:3, 2] * index
        template.ImagePositionPatient = _decimal(pydicom, position)
        normal = place[:3, 2] / np.linalg.norm(place[:3, 2])
        template.SliceLocation = _decimal(pydicom, [float(position @ normal)])[0]
        with written_whole(folder / f"{index + 1:04d}.dcm") as path:
            pixels = np.ascontiguousarray(stored[:, :, index].T)
            write_instance(path, pixels, template, record, description, made="generated")


def _template(pydicom: Any, stored: np.ndarray, place: np.ndarray, part: str) -> Any:
    """What all slices share."""
    one = pydicom.dataset.Dataset()
    one.SOPClassUID, one.Modality = _MR, "MR"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(one, name, pydicom.uid.generate_uid())
    if part:
        one.BodyPartExamined = body_part(part)
    spacing = np.linalg.norm(place[:3, :3], axis=0)
    one.PixelSpacing = _decimal(pydicom, [spacing[1], spacing[0]])
    one.SliceThickness = one.SpacingBetweenSlices = _decimal(pydicom, [spacing[2]])[0]
    one.ImageOrientationPatient = _decimal(pydicom, (place[:3, :2] / spacing[:2]).T.ravel())
    one.PatientPosition, one.BurnedInAnnotation, one.LossyImageCompression = "HFS", "NO", "00"
    low, high = int(stored.min()), int(stored.max())
    one.WindowCenter, one.WindowWidth = _decimal(pydicom, [(low + high) / 2, max(1, high - low)])
    one.Columns, one.Rows = stored.shape[:2]
    one.PhotometricInterpretation = "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.ImagesInAcquisition = stored.shape[2]
    one.HighBit, one.PixelRepresentation = 15, int(stored.dtype.kind == "i")
    return one


def _decimal(pydicom: Any, values: Sequence[float] | np.ndarray) -> list[str]:
    """As many digits as the 16 characters of a decimal string hold."""
    return [pydicom.valuerep.format_number_as_ds(float(value)) for value in values]
