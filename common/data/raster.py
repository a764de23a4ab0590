"""Pictures (PNG, JPEG) in and out, as they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from ..utils.images import MAX_VOXELS
from .image_file import AS_SHOWN, ImageFile, ImageHeader, Unsuitable, integer_limits

DECODERS = ("PNG", "JPEG")  # no other decoder is ever started, whatever the name of a file says
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
# What EXIF, and XMP, which may say it too, begin with in a PNG or a JPEG.
_TURNED_MARKS = (b"eXIf", b"Exif\0\0", b"Raw profile type", b"XML:com.adobe.xmp", b"ns.adobe.com/xap")
_PNG, _PNG_GREY = b"\x89PNG\r\n\x1a\n", 0


def read_raster_header(path: Path) -> ImageHeader:
    """
    Sides and channels of a picture, as it is shown, from its header alone.

    Raises:
        Unsuitable: for several frames or more than ``MAX_VOXELS`` pixels.
        OSError: of Pillow, when it is neither PNG nor JPEG.
    """
    with Image.open(path, formats=DECODERS) as file:
        width, height = file.size
        if width * height > MAX_VOXELS:
            raise Unsuitable(f"{path}: at most {MAX_VOXELS:,} pixels were expected, got {width} x {height}.")
        _check_depth(path)
        if getattr(file, "n_frames", 1) > 1:
            raise Unsuitable(f"{path}: a single picture was expected, got {file.n_frames} frames.")  # type: ignore[attr-defined]
        if _may_be_turned(path) and file.getexif().get(_EXIF_ORIENTATION) in _TURNED:
            width, height = height, width
        return ImageHeader(path, "raster", (width, height, 1), AS_SHOWN, 1 if file.mode in _GREY else 3)


def _check_depth(path: Path) -> None:
    """Raises Unsuitable for a PNG of 16 bits in colour or with transparency, of which Pillow reads 8."""
    bits, colour = _png_depth(path)
    if bits == 16 and colour != _PNG_GREY:
        raise Unsuitable(f"{path}: 16 bits were expected in grey alone, got colour or transparency with 16 bits.")


def _png_depth(path: Path) -> tuple[int, int]:
    """Bits of a channel and kind of colour of a PNG file; 8 and grey for others."""
    with path.open("rb") as file:
        start = file.read(26)
    return (start[24], start[25]) if start.startswith(_PNG) else (8, _PNG_GREY)


def _may_be_turned(path: Path) -> bool:
    """Whether there is EXIF or XMP to ask; a PNG without either decodes all pixels before it says so."""
    content = path.read_bytes()
    return any(mark in content for mark in _TURNED_MARKS)


def read_raster(path: Path) -> ImageFile:
    """
    Read a picture to its end, turned as EXIF or XMP says; palettes and inks become colour.

    Raises:
        Unsuitable: as ``read_raster_header``, and for transparent pixels.
        OSError: of Pillow, when it is damaged.
    """
    read_raster_header(path)
    with Image.open(path, formats=DECODERS) as file:
        file.verify()  # the checksums of a PNG, which decoding reads past
    with Image.open(path, formats=DECODERS) as file:
        file.load()
        picture, lossy = ImageOps.exif_transpose(file), file.format != "PNG"
    if picture.mode == "L" and "transparency" in picture.info:  # Pillow stretches 2 and 4 bits to 8, this value not
        picture.info["transparency"] *= 255 // (2 ** _png_depth(path)[0] - 1)
    if picture.mode.startswith("I") and "transparency" in picture.info:  # Pillow would convert to 8 bits
        if bool((np.asarray(picture) == picture.info["transparency"]).any()):
            raise Unsuitable(f"{path}: an opaque picture was expected, got transparent pixels.")
    elif picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        opaque = picture.convert("LA" if picture.mode in ("L", "LA") else "RGBA")
        if opaque.getchannel("A").getextrema() != (255, 255):
            raise Unsuitable(f"{path}: an opaque picture was expected, got transparent pixels.")
        picture = opaque.convert("L" if opaque.mode == "LA" else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode not in _GREY:
        picture = picture.convert("RGB")
    array = np.asarray(picture)
    dtype = np.dtype(np.uint8 if array.dtype == np.uint8 else np.uint16)  # PNG has no wider grey
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    values = channels.astype(np.float64).transpose(0, 2, 1)[..., None]
    limits, shape = integer_limits(dtype), array.shape[:2]
    return ImageFile(path, "raster", values, AS_SHOWN, dtype, limits=limits, shape=shape, lossy=lossy)


def write_png(path: str | Path, pixels: np.ndarray, texts: Mapping[str, str]) -> None:
    """
    Write a PNG file.

    Args:
        path: of the file.
        pixels: (rows, columns) grey, uint8 or uint16, or (rows, columns, 3) colour, uint8.
        texts: entries of its header, e.g. ``{"Description": "synthetic ..."}``.
    """
    about = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        about.add_text(name, text)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", pnginfo=about)
