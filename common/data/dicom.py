"""DICOM images in: CR, DX, MR and Secondary Capture, one frame a file, whatever their compression."""

from __future__ import annotations

import logging
import math
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.packages import import_optional
from .image_file import AS_SHOWN, ImageFile, ImageHeader, Unsuitable
from .notices import noted

SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX for processing",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
}
# of every image (module Image Pixel)
_REQUIRED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
_LOSSY = tuple(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 81, 91, 93, 203))  # JPEG, JPEG-LS, JPEG 2000
logger = logging.getLogger(__name__)
_NO_MARK = 'no "DICM" after 128 bytes, as in DICOM, and no name that ends in .png, .jpg, .jpeg, .nii or .nii.gz'
_DECODERS = "python-gdcm (Apache-2.0) or pylibjpeg pylibjpeg-libjpeg (GPL-3.0)"


def import_pydicom() -> Any:
    """pydicom; an ImportError that says how to get it where it is missing."""
    return import_optional("pydicom", "A DICOM image", "pip install pydicom")


def read_dataset(path: str | Path, **options: Any) -> Any:
    """``pydicom.dcmread``, which by itself asks for as much memory as a damaged length says, beyond the file's end."""
    pydicom = import_pydicom()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, noted():
        try:
            return pydicom.dcmread(content, **options)
        except pydicom.errors.InvalidDicomError as error:
            raise ValueError(_NO_MARK) from error


def has_pixels(path: str | Path) -> bool:
    """Whether a DICOM file is an image, be it damaged: no report, presentation state, plan or table of contents."""
    try:
        source = read_dataset(path, stop_before_pixels=True, specific_tags=["Rows", "SOPClassUID"])
    except Exception:
        return True  # the reader says what is wrong
    kind = source.get("SOPClassUID") or source.file_meta.get("MediaStorageSOPClassUID")
    return "Rows" in source or not kind or str(kind) in SOP_CLASSES


def read_dicom_header(path: Path) -> ImageHeader:
    """
    Sides, affine and channels of a single-frame image; its pixels are not decoded.

    Raises:
        ImportError: without pydicom.
        Unsuitable: as ``read_dicom``.
    """
    source = read_dataset(path, stop_before_pixels=True)
    _check(path, source)
    shape = (int(source.Columns), int(source.Rows), 1)
    return ImageHeader(path, "dicom", shape, AS_SHOWN, _whole(path, source, "SamplesPerPixel", 1), _pixel(source))


def _pixel(source: Any) -> tuple[float, float] | None:
    """Sides of a pixel in the patient or, where that is unknown, on the detector, (x, y), mm."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            down, right = (float(side) for side in source.get(name) or ())
        except (TypeError, ValueError):
            continue
        if right > 0 and down > 0:
            return right, down
    return None


def read_dicom(path: Path) -> ImageFile:
    """
    A single-frame image, bright where it shows bright.

    Args:
        path: of the file.

    Returns:
        The image; values have the rescale of the file, turned over for MONOCHROME1 (the slope is negative then).

    Raises:
        ImportError: without pydicom.
        Unsuitable: for other images than those in ``SOP_CLASSES``, several frames, palettes and look-up tables.
    """
    pydicom = import_pydicom()
    source = read_dataset(path)
    _check(path, source)
    stored = decoded(path, source)
    _note_unused_bits(path, source)
    if source.PhotometricInterpretation in _YBR and int(pydicom.__version__.split(".")[0]) < 3:
        from pydicom.pixel_data_handlers.util import convert_color_space  # pydicom 3 has done it

        stored = convert_color_space(stored, source.PhotometricInterpretation, "RGB")
    bits, signed = int(source.BitsStored), int(source.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if stored.min() < low or stored.max() > high:
        raise Unsuitable(f"{path}: values of {bits} bits were expected, got {stored.min()} to {stored.max()}.")
    slope, inter = _number(path, source, "RescaleSlope", 1.0), _number(path, source, "RescaleIntercept", 0.0)
    if source.PhotometricInterpretation == "MONOCHROME1":
        slope, inter = -slope, inter + slope * (low + high)
    channels = stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)
    values = (channels.astype(np.float64) * slope + inter).transpose(0, 2, 1)[..., None]
    image = ImageFile(path, "dicom", values, AS_SHOWN, stored.dtype, slope, inter, (low, high), stored.shape[:2])
    _leave_out_padding(image, source, stored)
    image.lossy = source.get("LossyImageCompression") == "01" or source.file_meta.TransferSyntaxUID in _LOSSY
    return image


def is_dicom(path: str | Path) -> bool:
    """Whether it is a file with DICOM's mark, "DICM" after 128 bytes."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except PermissionError:  # the reader says so, of each such file
        return False


def decoded(path: Path, source: Any) -> np.ndarray:
    """
    The stored values of the one frame of a pydicom data set.

    Raises:
        ImportError: says what to install where nothing can decode them.
        Unsuitable: without pixels, or for pixels of other sides than the header's; names the file.
    """
    if "FloatPixelData" in source or "DoubleFloatPixelData" in source:
        raise Unsuitable(f"{path}: whole numbers were expected as pixels, got FloatPixelData.")
    if not source.get("PixelData"):
        raise Unsuitable(f"{path}: an image was expected, the file has no pixels.")
    stored, wanted = _decoded(path, source), (int(source.Rows), int(source.Columns))
    found = (_coded_sides(source.PixelData) if source.file_meta.TransferSyntaxUID.is_compressed else None) or wanted
    if found != wanted or stored.shape[:2] != wanted:
        found = found if found != wanted else stored.shape
        raise Unsuitable(f"{path}: {wanted} rows and columns were expected, as the header says, got pixels of {found}.")
    return stored


def _coded_sides(pixels: bytes) -> tuple[int, int] | None:
    """Rows and columns that JPEG, JPEG-LS or JPEG 2000 says itself, which decoders do not compare; None for others."""
    if (at := pixels.find(b"\xff\x4f\xff\x51")) >= 0:
        columns, rows, left, top = struct.unpack_from(">4I", pixels, at + 8)
        return rows - top, columns - left
    at = pixels.find(b"\xff\xd8\xff") + 2
    while 2 <= at < len(pixels) - 9:
        marker, length = struct.unpack_from(">HH", pixels, at)
        if marker == 0xFFF7 or (marker & 0xFFF0 == 0xFFC0 and marker not in (0xFFC4, 0xFFC8, 0xFFCC)):
            rows, columns = struct.unpack_from(">HH", pixels, at + 5)
            return rows, columns
        at += 2 + length
    return None


def _decoded(path: Path, source: Any) -> np.ndarray:
    try:
        return np.asarray(source.pixel_array)
    except Exception as error:
        syntax = getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is None or not syntax.is_compressed:
            raise
        decoders = _decoders_of(syntax)
        if decoders:
            raise
        if decoders is None:
            raise Unsuitable(f"{path}: pixels in {syntax.name} cannot be decoded; export them in another.") from error
        needed = "pylibjpeg pylibjpeg-openjpeg (MIT)" if syntax in _HTJ2K else _DECODERS
        raise ImportError(f"{path}: nothing is installed that decodes {syntax.name}: pip install {needed}.") from error


def _decoders_of(syntax: Any) -> tuple[str, ...] | None:
    """What is installed that decodes a transfer syntax; None where nothing can be."""
    try:
        from pydicom.pixels import get_decoder

        found = tuple(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        return None
    except ImportError:  # pydicom before 3
        return ()
    return () if found == ("pillow",) and syntax == "1.2.840.10008.1.2.4.51" else found  # Pillow knows its 8 bits alone


def _number(path: Path, source: Any, name: str, without: float) -> float:
    """A number of the header; ``without`` where it is missing or empty."""
    try:
        value = without if source.get(name) in (None, "") else float(source.get(name))
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise Unsuitable(f"{path}: one number was expected as {name}, got {source.get(name)}.")
    return value


def _whole(path: str | Path, source: Any, name: str, without: int) -> int:
    """A whole number of the header; ``without`` where it is missing or empty."""
    value = source.get(name)
    if value is None or value == "":
        return without
    if not isinstance(value, int):
        raise Unsuitable(f"{path}: one whole number was expected as {name}, got {value!r}.")
    return int(value)


def padding_of(path: str | Path, source: Any) -> tuple[int, int] | None:
    """The first and the last stored value of pixels in which nothing was measured; None where there are none."""
    if source.get("PixelPaddingValue") in (None, ""):
        return None
    first = _whole(path, source, "PixelPaddingValue", 0)
    last = _whole(path, source, "PixelPaddingRangeLimit", first)
    span = 2 ** int(source.BitsAllocated)
    below = span // 2 * int(source.PixelRepresentation)
    return (first + below) % span - below, (last + below) % span - below  # some write -1 for 65535


def _note_unused_bits(path: Path, source: Any) -> None:
    """Say that bits above those in use are set, which are left out: an overlay of old scanners, or a wrong header."""
    bits, allocated = int(source.BitsStored), int(source.BitsAllocated)
    if bits == allocated or int(source.PixelRepresentation) or source.file_meta.TransferSyntaxUID.is_compressed:
        return
    order = "<" if source.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if int(np.frombuffer(source.PixelData, f"{order}u{allocated // 8}").max()) >> bits:
        logger.warning("%s: bits above the %d of BitsStored are set (an overlay?); they are left out.", path, bits)


def _leave_out_padding(image: ImageFile, source: Any, stored: np.ndarray) -> None:
    """Give pixels in which nothing was measured the smallest measured value, and note where they are."""
    ends = padding_of(image.path, source) if stored.ndim == 2 else None
    if ends is None:
        return
    padding = ((stored >= min(ends)) & (stored <= max(ends))).T[..., None]
    if padding.any() and not padding.all():
        image.values[0][padding] = image.values[0][~padding].min()
        image.extra["padding"], image.padding = ends[0], padding


def check_complete(path: Path, source: Any) -> None:
    """Raises Unsuitable for an image whose header lacks what its pixels are read by; names the file."""
    missing = [name for name in _REQUIRED if source.get(name) in (None, "")]
    if missing:
        raise Unsuitable(f"{path}: a DICOM image needs {', '.join(missing)}; the file is damaged or incomplete.")
    wrong = [name for name in _REQUIRED[:-1] if not isinstance(source.get(name), int)]
    if wrong:
        raise Unsuitable(f"{path}: one whole number was expected as {wrong[0]}, got {source.get(wrong[0])!r}.")
    if _number(path, source, "RescaleSlope", 1.0) == 0:
        raise Unsuitable(f"{path}: a RescaleSlope other than 0 was expected.")


def _check(path: Path, source: Any) -> None:
    kind = str(source.get("SOPClassUID", ""))
    if kind not in SOP_CLASSES:
        names = ", ".join(SOP_CLASSES.values())
        raise Unsuitable(f"{path}: {names} was expected, got SOP class {kind or 'none'} ({source.get('Modality')}).")
    check_complete(path, source)
    allocated, stored = int(source.BitsAllocated), int(source.BitsStored)
    if (
        allocated not in (8, 16, 32)
        or not 1 <= stored <= allocated
        or _whole(path, source, "HighBit", stored - 1) + 1 != stored
    ):
        found = f"{allocated}, {stored} and {source.get('HighBit')}"
        expected = "8, 16 or 32 bits of which the lowest are used were expected"
        raise Unsuitable(f"{path}: {expected}, got BitsAllocated, BitsStored and HighBit {found}.")
    if _whole(path, source, "NumberOfFrames", 1) != 1:
        raise Unsuitable(f"{path}: one frame was expected, got {source.NumberOfFrames}; export them one by one.")
    if source.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2", "RGB", *_YBR):
        found = source.PhotometricInterpretation
        raise Unsuitable(f"{path}: MONOCHROME1, MONOCHROME2, RGB or YBR was expected, got {found}.")
    samples = 1 if source.PhotometricInterpretation.startswith("MONO") else 3
    if _whole(path, source, "SamplesPerPixel", 1) != samples:
        found = f"{source.get('SamplesPerPixel')} with {source.PhotometricInterpretation}"
        raise Unsuitable(f"{path}: {samples} for SamplesPerPixel was expected, got {found}.")
    if "ModalityLUTSequence" in source:
        raise Unsuitable(f"{path}: RescaleSlope and RescaleIntercept were expected, got a ModalityLUTSequence.")
