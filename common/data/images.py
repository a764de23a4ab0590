"""2D images and stacks of slices in files: PNG, JPEG, NIfTI and DICOM, read as numbers and written back alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from . import dicom
from .cases import ENDINGS as NIFTI_ENDINGS

RASTER_ENDINGS = (".png", ".jpg", ".jpeg")
DICOM_ENDINGS = (".dcm", ".ima")
ENDINGS = (*RASTER_ENDINGS, *NIFTI_ENDINGS, *DICOM_ENDINGS)
EXPECTED = "a PNG, JPEG, NIfTI or DICOM image"
# x to the patient's left, y to the back, z down: what an axial picture shows to the right, down and behind.
_AS_SHOWN = np.diag([-1.0, -1.0, -1.0, 1.0])
_DESCRIP = 79  # bytes of the NIfTI header's free text


@dataclasses.dataclass
class ImageFile:
    """
    An image as numbers, with what it takes to store others alike: value = slope * stored + inter.

    MONAI's readers and writers know neither bit depth nor MONOCHROME1 nor the scale of stored integers, without which
    an image cannot be written back as it came.

    Attributes:
        path: of the file.
        kind: "raster", "nifti" or "dicom".
        values: (C, X, Y, Z), float64; one channel, or three where it is in colour; Z = 1 for a single image, whose x
            runs to the right and y down.
        affine: (4, 4), mm, RAS; that of an axial picture where the file has none.
        dtype: of the stored values.
        slope: value of one stored unit.
        inter: value of a stored 0.
        limits: smallest and largest stored value.
        ndim: axes that the file has, 2 or 3.
        deviation: whether it is to hold standard deviations.
    """

    path: Path
    kind: str
    values: np.ndarray
    affine: np.ndarray
    dtype: np.dtype
    slope: float = 1.0
    inter: float = 0.0
    limits: tuple[float, float] = (-np.inf, np.inf)
    ndim: int = 2
    deviation: bool = False

    def stored(self, values: np.ndarray) -> np.ndarray:
        """``values`` as they are stored: scaled back and, for integers, rounded and limited."""
        array = (np.asarray(values, dtype=np.float64) - self.inter) / self.slope
        if np.issubdtype(self.dtype, np.integer):
            array = np.clip(np.rint(array), *self.limits)
        return array.astype(self.dtype)

    def for_deviation(self, largest: float) -> ImageFile:
        """As this file for maps from 0 to ``largest``, which becomes the largest stored integer; floats in NIfTI."""
        if self.kind == "nifti":
            return dataclasses.replace(self, dtype=np.dtype(np.float32), slope=1.0, inter=0.0, deviation=True)
        slope = largest / self.limits[1] if largest > 0 else 1.0
        return dataclasses.replace(self, slope=slope, inter=0.0, deviation=True)


def image_stem(path: str | Path) -> str:
    """File name without the ending of an image; other dots, as in the UIDs that name DICOM files, stay."""
    name = Path(path).name
    ending = next((e for e in (".nii.gz", *ENDINGS) if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def output_ending(path: str | Path) -> str:
    """
    Ending of the output for an input: the same format, PNG for JPEG.

    JPEG would change the restored pixels again, and known pixels with them.
    """
    kind = _kind(path)
    if kind == "nifti":
        return ".nii.gz" if Path(path).name.endswith(".nii.gz") else ".nii"
    return ".png" if kind == "raster" else ".dcm"


def is_image(path: Path) -> bool:
    """True for a file, not hidden, with the ending of an image, or without any ending but with DICOM's mark."""
    if path.name.startswith(".") or not path.is_file():
        return False
    return path.name.lower().endswith(ENDINGS) or dicom.is_dicom(path)


def read_image(path: str | Path) -> ImageFile:
    """
    Read an image of any of the formats to its end.

    Raises:
        FileNotFoundError: when there is no such file.
        ImportError: for DICOM without pydicom.
        ValueError: when it is damaged, of a kind that cannot be restored, or holds NaN; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {EXPECTED} was expected.")
    kind = _kind(path)
    try:
        image = {"raster": _read_raster, "nifti": _read_nifti, "dicom": _read_dicom}[kind](path)
    except (ImportError, dicom.Unsuitable):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: damaged, cut off, or not {EXPECTED} ({reason}).") from error
    wrong = int((~np.isfinite(image.values)).sum())
    if wrong:
        raise ValueError(f"{path}: {wrong} of {image.values.size} pixels are NaN or infinite; numbers were expected.")
    if min(image.values.shape[1:3]) < 2 and image.values.shape[3] < 2:
        sides = " x ".join(map(str, image.values.shape[1:3]))
        raise ValueError(f"{path}: at least 2 x 2 pixels were expected, got {sides}.")
    return image


def write_image(
    path: str | Path, values: np.ndarray, like: ImageFile, affine: np.ndarray, record: Mapping[str, Any]
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
    """
    array = like.stored(values)
    if like.kind == "raster":
        about = PngImagePlugin.PngInfo()
        about.add_text("Description", describe(record))
        Image.fromarray(np.ascontiguousarray(array[..., 0].T)).save(path, format="PNG", pnginfo=about)
    elif like.kind == "nifti":
        _write_nifti(Path(path), array, like, affine, record)
    else:
        rescale = (like.slope, like.inter) if like.deviation else None
        dicom.write_dicom(path, np.ascontiguousarray(array[..., 0].T), like.path, record, describe(record), rescale)


def describe(record: Mapping[str, Any]) -> str:
    """A provenance as one line, e.g. "synthetic med_cdiff_xray_denoise 0.1.0 seed 0 steps 10 weights 0123456789ab"."""
    parts = ["synthetic", str(record.get("bundle", "")), str(record.get("version") or "")]
    parts += [f"{name} {record[name]}" for name in ("seed", "steps") if record.get(name) is not None]
    if record.get("weights_sha256"):
        parts.append(f"weights {record['weights_sha256'][:12]}")
    return " ".join(filter(None, parts))


def _kind(path: str | Path) -> str:
    name = Path(path).name.lower()
    if name.endswith(RASTER_ENDINGS):
        return "raster"
    return "nifti" if name.endswith(NIFTI_ENDINGS) else "dicom"


def _read_raster(path: Path) -> ImageFile:
    with Image.open(path, formats=["PNG", "JPEG"]) as file:
        file.load()
        picture = ImageOps.exif_transpose(file)
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode == "LA":
        picture = picture.getchannel("L")
    elif picture.mode != "L" and not picture.mode.startswith("I"):
        picture = picture.convert("RGB")
    array = np.asarray(picture)
    dtype = np.dtype(np.uint8 if array.dtype == np.uint8 else np.uint16)  # PNG has no wider grey
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    values = channels.astype(np.float64).transpose(0, 2, 1)[..., None]
    return ImageFile(path, "raster", values, _AS_SHOWN, dtype, limits=_limits(dtype))


def _read_nifti(path: Path) -> ImageFile:
    image: Any = nib.load(str(path))
    stored = np.asanyarray(image.dataobj.get_unscaled())
    slope, inter = (float(v) for v in (image.dataobj.slope, image.dataobj.inter))
    dtype = stored.dtype.newbyteorder("=")
    if dtype.fields:
        stored, dtype = np.stack([stored[name] for name in "RGB"]), np.dtype(np.uint8)
    else:
        stored = stored[None]
    while stored.ndim > 4 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim not in (3, 4) or np.issubdtype(dtype, np.complexfloating):
        sides = " x ".join(map(str, stored.shape[1:]))
        raise dicom.Unsuitable(f"{path}: a 2D image or a 3D volume of real numbers was expected, got {sides} {dtype}.")
    ndim = stored.ndim - 1
    values = (stored if ndim == 3 else stored[..., None]).astype(np.float64) * slope + inter
    affine = np.asarray(image.affine, dtype=np.float64)
    return ImageFile(path, "nifti", values, affine, dtype, slope, inter, _limits(dtype), ndim)


def _read_dicom(path: Path) -> ImageFile:
    array, slope, inter, limits = dicom.read_dicom(path)
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    values = (channels.astype(np.float64) * slope + inter).transpose(0, 2, 1)[..., None]
    return ImageFile(path, "dicom", values, _AS_SHOWN, array.dtype, slope, inter, limits)


def _limits(dtype: Any) -> tuple[float, float]:
    """Smallest and largest value of a type; infinite for floats."""
    if not np.issubdtype(dtype, np.integer):
        return -np.inf, np.inf
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def _write_nifti(path: Path, array: np.ndarray, like: ImageFile, affine: np.ndarray, record: Mapping[str, Any]) -> None:
    source: Any = nib.load(str(like.path))  # type: ignore[attr-defined]
    image = type(source)(array if like.ndim == 3 else array[..., 0], affine)
    image.set_sform(affine, int(source.header["sform_code"]) or 1)
    image.set_qform(affine, int(source.header["qform_code"]) or 1, strip_shears=True)
    image.header.set_xyzt_units(source.header.get_xyzt_units()[0])
    image.header["descrip"] = describe(record).encode()[:_DESCRIP]
    if np.issubdtype(array.dtype, np.integer):
        image.header.set_slope_inter(like.slope, like.inter)  # so that nibabel writes the integers as they are
    image.to_filename(str(path))
