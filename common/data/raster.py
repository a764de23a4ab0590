"""PNG and JPEG images in and out: upright, grey or in colour, 8 or 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from .image_file import MAX_VOXELS, ImageFile, ImageHeader, Unsuitable, integer_limits

FORMATS = ("PNG", "JPEG")  # no other decoder is ever started, whatever the name of a file says
# x to the patient's left, y to the back, z down: what an axial picture shows to the right, down and behind.
AS_SHOWN = np.diag([-1.0, -1.0, -1.0, 1.0])
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def read_raster_header(path: Path) -> ImageHeader:
    """
    Sides and channels of a picture, as it is shown, from its header alone.

    Raises:
        Unsuitable: for several frames or more than ``MAX_VOXELS`` pixels.
        OSError: of Pillow, when it is neither PNG nor JPEG.
    """
    with Image.open(path, formats=FORMATS) as file:
        width, height = file.size
        if width * height > MAX_VOXELS:
            raise Unsuitable(f"{path}: at most {MAX_VOXELS:,} pixels were expected, got {width} x {height}.")
        if getattr(file, "n_frames", 1) > 1:
            raise Unsuitable(f"{path}: a single picture was expected, got {file.n_frames} frames.")  # type: ignore[attr-defined]
        # to ask a PNG without EXIF for it decodes all pixels
        if "exif" in file.info and file.getexif().get(_EXIF_ORIENTATION) in _TURNED:
            width, height = height, width
        return ImageHeader(path, "raster", (width, height, 1), AS_SHOWN, 1 if file.mode in _GREY else 3)


def read_raster(path: Path) -> ImageFile:
    """
    Read a picture to its end, turned as EXIF says; palettes and inks become colour.

    Raises:
        Unsuitable: as ``read_raster_header``, and for transparent pixels.
        OSError: of Pillow, when it is damaged.
    """
    read_raster_header(path)
    with Image.open(path, formats=FORMATS) as file:
        file.load()
        picture = ImageOps.exif_transpose(file)
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
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
    return ImageFile(path, "raster", values, AS_SHOWN, dtype, limits=integer_limits(dtype), shape=array.shape[:2])


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
