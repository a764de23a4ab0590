"""NIfTI files in and out: headers, values, single slices, and what it takes to store others like them."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..utils.images import MAX_VOXELS
from .image_file import ImageFile, ImageHeader, Unsuitable, integer_limits, sides

_HEADER_BYTES = 544  # of NIfTI-2, the longer one, with the four bytes that announce extensions
_BESIDE_BYTES = 2**28  # at most, of a NIfTI file's extensions, and behind its voxels
_BLOCK = 2**24
_PLAUSIBLE_MM = (1e-3, 1e3)  # of a voxel's side
_DESCRIP = 79  # bytes of the header's free text
_EXACT = 2**53  # integers up to here have a float64 of their own

logger = logging.getLogger(__name__)


def read_nifti_header(path: Path, stacked: bool = False) -> ImageHeader:
    """
    Sides, affine and number of channels of a NIfTI file, from its first bytes alone.

    Args:
        path: of the file.
        stacked: whether a fourth axis may hold channels, as in files of several MR sequences; they are not counted.

    Raises:
        Unsuitable: for more than three dimensions, complex numbers, more than ``MAX_VOXELS``, an affine that gives no
            place, voxels within the header or an infinite scale; the message names the file.
        Exception: of nibabel, when this is no NIfTI file.
    """
    return _header(path, _stored_header(path), stacked)


def nifti_shape(path: Path) -> tuple[int, ...]:
    """Sides of the stored array, as many as the file has."""
    return tuple(int(side) for side in _stored_header(path).get_data_shape())


def read_nifti_description(path: Path) -> str:
    """
    The free text of a NIfTI file's header, once all its voxels are there and the checksum holds.

    Raises:
        Exception: of gzip or nibabel, when the file is damaged.
    """
    header = _stored_header(path)
    content, _ = _content(path, header)
    _image_class(content).from_bytes(content).dataobj.get_unscaled()
    text: str = header["descrip"].item().decode(errors="replace")
    return text


def read_nifti_slice(
    path: Path, axis: int, index: int | None, channel: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    One slice of a volume, read alone (of a compressed file, what lies before it too).

    Args:
        path: of a 3D file, or of a 4D one where ``channel`` is given.
        axis: of the stored array that the slices are stacked along.
        index: of the slice; None for all.
        channel: of a 4D file.

    Returns:
        The slice, 3D with one entry along ``axis``, float32, and the affine of the file.

    Raises:
        Unsuitable: for a file of other dimensions, or without such a channel.
    """
    file: Any = nib.load(path)  # type: ignore[attr-defined]
    if len(file.shape) != (3 if channel is None else 4) or not 0 <= (channel or 0) < (*file.shape, 1)[3]:
        expected = "a 3D volume" if channel is None else f"a 4D file with channel {channel}"
        raise Unsuitable(f"{path}: {expected} was expected, got shape {tuple(file.shape)}.")
    place: list[Any] = [slice(None)] * 3
    place[axis] = slice(None) if index is None else slice(index, index + 1)
    return np.array(
        file.dataobj[(*place, *([] if channel is None else [channel]))], dtype=np.float32
    ), file.affine.copy()


def read_nifti(path: Path) -> ImageFile:
    """
    Read a 2D image or a 3D volume; further axes of one entry are left out, and come back when it is written.

    The place of the voxels is that of the sform, else of the qform, else of the voxel sides alone, as in nibabel; a
    notice says so where they disagree. nibabel itself does not compare the checksum of compressed files.

    Raises:
        Unsuitable: as ``read_nifti_header``, and for integers beyond 2**53.
        Exception: of gzip or nibabel, when the file is damaged.
    """
    about = read_nifti_header(path)
    content, left = _content(path, _stored_header(path))
    image: Any = _image_class(content).from_bytes(content)
    stored = np.asanyarray(image.dataobj.get_unscaled())
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    dtype = stored.dtype.newbyteorder("=")
    shape = stored.shape
    if left >= stored.itemsize:
        logger.warning("%s: %d bytes follow the %s voxels of the header; they are left out.", path, left, sides(shape))
    if dtype.fields:
        if "A" in dtype.fields and int(stored["A"].min()) < np.iinfo(np.uint8).max:
            raise Unsuitable(f"{path}: an opaque image was expected, got transparent voxels.")
        stored, dtype = np.stack([stored[name] for name in "RGB"]), np.dtype(np.uint8)
        slope, inter = 1.0, 0.0  # the standard scales no colours
    else:
        stored = stored[None]
    if dtype.kind in "iu" and dtype.itemsize == 8 and max(abs(int(stored.min())), abs(int(stored.max()))) > _EXACT:
        raise Unsuitable(f"{path}: integers of at most 2**53 were expected, got {stored.min()} to {stored.max()}.")
    _note_disagreement(path, image.header)
    codes = {name: int(image.header[f"{name}_code"]) for name in ("sform", "qform")}
    return ImageFile(
        path=path,
        kind="nifti",
        values=stored.reshape(len(stored), *about.shape).astype(np.float64) * slope + inter,
        affine=about.affine,
        dtype=dtype,
        slope=slope,
        inter=inter,
        limits=integer_limits(dtype),
        shape=tuple(shape),
        extra={**codes, "unit": _unit(image.header), "version": 2 if _length(content) == 540 else 1},
    )


def write_nifti(path: Path, stored: np.ndarray, like: ImageFile, affine: np.ndarray, description: str) -> None:
    """
    Write stored values, (X, Y, Z), with the type, scale, codes, unit and number of axes of ``like``.

    Args:
        path: ends in .nii or .nii.gz.
        stored: of the dtype of ``like``.
        like: see ``ImageFile``.
        affine: (4, 4), of ``stored``.
        description: goes to the header, cut to its 79 bytes.
    """
    array = stored[..., 0] if len(like.shape) == 2 and stored.shape[2] == 1 else stored
    array = array.reshape(*array.shape, *[1] * max(0, len(like.shape) - 3))
    kind: Any = nib.Nifti2Image if like.extra.get("version") == 2 else nib.Nifti1Image  # type: ignore[attr-defined]
    image = kind(array, affine, dtype=array.dtype)
    image.set_sform(affine, like.extra.get("sform", 1))
    image.set_qform(affine, like.extra.get("qform", 1), strip_shears=True)
    image.header.set_xyzt_units(like.extra.get("unit", "mm"))
    image.header["descrip"] = description.encode()[:_DESCRIP]
    image.header.set_slope_inter(like.slope, like.inter)  # so that nibabel writes the values as they are
    nib.save(image, path)  # type: ignore[attr-defined]


def _header(path: Path, header: Any, stacked: bool = False) -> ImageHeader:
    shape, dtype = [int(side) for side in header.get_data_shape()][: 3 if stacked else None], header.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (2, 3) or dtype.kind == "c":
        found = f"{sides(shape)} {dtype}"
        raise Unsuitable(f"{path}: a 2D image or a 3D volume of real numbers was expected, got {found}.")
    if min(shape) < 1:
        raise Unsuitable(f"{path}: sides of at least one voxel were expected, the header says {sides(shape)}.")
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        raise Unsuitable(f"{path}: at most {MAX_VOXELS:,} voxels were expected, the header says {sides(shape)}.")
    first = 352 if int(header["sizeof_hdr"]) == 348 else 544
    if not first <= int(header["vox_offset"]) <= _BESIDE_BYTES or np.isinf(header["scl_slope"]):
        found = f"got {header['vox_offset']} and {header['scl_slope']}"
        raise Unsuitable(f"{path}: voxels from byte {first} on and a finite scale were expected, {found}.")
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except ValueError as error:
        raise Unsuitable(f"{path}: an sform, or a qform that is a rotation, was expected ({error}).") from error
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise Unsuitable(f"{path}: an affine that places every voxel was expected, got {affine[:3].tolist()}.")
    if spacing.min() < _PLAUSIBLE_MM[0] or spacing.max() > _PLAUSIBLE_MM[1]:
        found = " x ".join(f"{side:g}" for side in spacing)
        raise Unsuitable(f"{path}: voxel sides in millimetres were expected, got {found}: another unit?")
    return ImageHeader(path, "nifti", (*shape, *[1] * (3 - len(shape))), affine, 3 if dtype.fields else 1)


def _unit(header: Any) -> str:
    """The unit of the voxels; "unknown" for a code that the standard does not have."""
    try:
        unit: str = header.get_xyzt_units()[0]
    except KeyError:
        return "unknown"
    return unit


def _note_disagreement(path: Path, header: Any) -> None:
    unit = _unit(header)
    if unit not in ("mm", "unknown"):
        logger.warning("%s: the header's unit is %s; its numbers are taken for millimetres.", path, unit)
    sform = header.get_sform(coded=True)[0]
    if sform is None:
        return
    try:
        qform = header.get_qform(coded=True)[0]
    except ValueError:  # no rotation
        qform = np.full((4, 4), np.nan)
    if qform is not None and not np.allclose(sform, qform, rtol=1e-3, atol=1e-2):
        logger.warning("%s: sform and qform differ; the sform is taken.", path)
        return
    zooms = header.get_zooms()[:3]
    found = np.linalg.norm(sform[:3, :3], axis=0)[: len(zooms)]
    if not np.allclose(found, zooms, rtol=1e-2):
        logger.warning("%s: the header's voxel sides are not the sform's; the sform's, %s mm, are taken.", path, found)


def _opened(path: Path) -> Any:
    """The file, decompressed as it is read."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _stored_header(path: Path) -> Any:
    with _opened(path) as file:
        start = file.read(_HEADER_BYTES)
    return _image_class(start).header_class(start[: _length(start)])


def _content(path: Path, header: Any) -> tuple[bytes, int]:
    """The bytes of a file as far as its voxels go, and how many follow; of a compressed one, the checksum holds."""
    voxels = int(np.prod(header.get_data_shape(), dtype=np.int64)) * header.get_data_dtype().itemsize
    wanted, left, blocks = int(header["vox_offset"]) + voxels, 0, []
    with _opened(path) as file:
        while wanted and (block := file.read(min(wanted, _BLOCK))):  # not at once: the header may ask for too much
            blocks.append(block)
            wanted -= len(block)
        while block := file.read(_BLOCK):
            left += len(block)
            if left > _BESIDE_BYTES:
                raise Unsuitable(f"{path}: {voxels} bytes of voxels were expected, more than {left} follow them.")
    return b"".join(blocks), left


def _length(content: bytes) -> int:
    """348 for NIfTI-1, 540 for NIfTI-2, in either byte order."""
    found = {int.from_bytes(content[:4], order) for order in ("little", "big")} & {348, 540}
    if not found:
        raise ValueError("no NIfTI header")
    return found.pop()


def _image_class(content: bytes) -> Any:
    return nib.Nifti2Image if _length(content) == 540 else nib.Nifti1Image  # type: ignore[attr-defined]
