"""Makers of files of ordinary use that look like others."""

from __future__ import annotations

import gzip
import os
import struct
import zlib

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.bundles.restoration_runs import grey, write_dicom, write_picture
from tests.fixtures import write_nifti

VOLUME = grey((5, 6, 7), np.int16, 900)
WIDE = grey(dtype=np.uint16, high=4000)
XMP = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
COLOUR = np.stack([grey(), grey() // 2, 255 - grey()], axis=-1)
# Fields of the header of NIfTI-1 by struct's types: name -> place.
SHORTS = {"dim0": 40, "third": 46, "type": 70, "qform": 252, "sform": 254}
FLOATS = {"qfac": 76, "mm": 80, "offset": 108, "slope": 112, "inter": 116, "turn": 256}
FIELDS = {"unit": ("<b", 123)}
FIELDS |= {name: ("<h", place) for name, place in SHORTS.items()}
FIELDS |= {name: ("<f", place) for name, place in FLOATS.items()}


def nifti(path, array=VOLUME, **fields):
    """A NIfTI file with these header fields written over."""
    write_nifti(path, array, np.eye(4))
    content = bytearray(path.read_bytes())
    for name, value in fields.items():
        kind, place = FIELDS[name]
        struct.pack_into(kind, content, place, value)
    path.write_bytes(content)
    return path


def picture(path, image, **options):
    image.save(path, **options)
    return path


def png(path, array, kind=0, before=(), after=(), lines=None, bits=None):
    """A PNG file of these stored values (several of so few bits in a byte, or interlaced), with chunks around them."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows, columns = array.shape[:2]
    stored = 8 * array.dtype.itemsize
    columns, bits = columns * stored // (bits or stored), bits or stored
    about = struct.pack(">IIBBBBB", columns, rows, bits, kind, 0, 0, int(lines is not None))
    lines = lines or b"".join(b"\0" + row.astype(array.dtype.newbyteorder(">")).tobytes() for row in array)
    chunks = [(b"IHDR", about), *before, (b"IDAT", zlib.compress(lines)), *after, (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))
    return path


def exif():
    about = Image.Exif()
    about[0x0112] = 6
    return about.tobytes().removeprefix(b"Exif\0\0")


def followed(path, mebibytes):
    """A small compressed volume with so much behind it."""
    nifti_gz(path)
    return raw(path, path.read_bytes() + gzip.compress(bytes(2**24)) * (mebibytes // 16))


def dicom(path, **tags):
    pytest.importorskip("pydicom")
    return write_dicom(path, WIDE, **tags)


def changed(path, syntax=None, **tags):
    """A DICOM file compressed in a transfer syntax, and then given these values of its header."""
    image = pytest.importorskip("pydicom").dcmread(dicom(path))
    if syntax is not None:
        pytest.importorskip({"80": "jpeg_ls", "90": "openjpeg"}[syntax[-2:]])
        image.PixelData = np.kron(WIDE, np.ones((3, 3), np.uint16)).tobytes()  # JPEG 2000 takes no fewer
        image.Rows, image.Columns = 3 * image.Rows, 3 * image.Columns
        image.compress(syntax)
    for name, value in tags.items():
        setattr(image, name, value)
    image.save_as(path)
    return path


JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


def big_endian_dicom(path):
    pydicom = pytest.importorskip("pydicom", minversion="3")
    image = pydicom.dcmread(dicom(path))
    image.PixelData = WIDE.astype(">u2").tobytes()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    pydicom.dcmwrite(path, image, implicit_vr=False, little_endian=False)
    return path


def interlaced(path, array):
    """A PNG file in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = [array[y::down, x::right] for x, y, right, down in passes]
    lines = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    return png(path, array, lines=lines)


def edited(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def padded(path, content):
    """A DICOM file with these bytes as its PixelPaddingValue, or none, as anonymisers leave it."""
    start = b"\x20\x01US"
    return edited(
        dicom(path, PixelPaddingValue=0x1234), start + b"\2\0\x34\x12", start + bytes([len(content), 0]) + content
    )


def renamed(path, name):
    return path.rename(path.with_name(name))


def coloured(path, alpha=None):
    fields = [(name, "u1") for name in ("RGB" if alpha is None else "RGBA")]
    array = np.zeros((5, 6, 7), fields)
    for name, level in zip("RGBA", (1, 200, 9, alpha)):
        if name in array.dtype.fields:
            array[name] = level
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def big_endian(path, version=1):
    header, image = (getattr(nib, f"Nifti{version}{name}") for name in ("Header", "Image"))
    header = header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    nib.save(image(VOLUME.astype(">i2"), np.eye(4), header), path)
    return path


def scaled_colour(path):
    """All channels 9; the standard scales no colours, whatever the header says."""
    array = np.full((5, 6, 7), 9, "u1").repeat(3).view([(name, "u1") for name in "RGB"]).reshape(5, 6, 7)
    return nifti(path, array, slope=2.0, inter=10.0)


def two_members(path):
    content = nifti(path.with_name("b.nii")).read_bytes()
    path.with_name("b.nii").unlink()
    return raw(path, gzip.compress(content[:500]) + gzip.compress(content[500:]))


def named(folder, name):
    path = folder / os.fsdecode(name)
    os.rename(write_picture(folder / "a.png", grey()), path)
    return path


def quantised(path, **options):
    return picture(path, Image.fromarray(COLOUR).quantize(16), **options)


def pipe(path):
    os.mkfifo(path)
    return path


def folder(path):
    path.mkdir()
    return path


def nifti_gz(path):
    return write_nifti(path, VOLUME, np.eye(4))


def linked(folder):
    write_picture(folder / "elsewhere" / "b.png", grey())
    (folder / "a.png").symlink_to(folder / "elsewhere" / "b.png")
    return folder / "a.png"


def raw(path, content):
    path.write_bytes(content)
    return path


def animated(path):
    return picture(path, Image.fromarray(grey()), save_all=True, append_images=[Image.fromarray(255 - grey())])


def cut(path):
    picture(path, Image.fromarray(grey()).convert("CMYK"))
    return raw(path, path.read_bytes()[:-200])


def two_pictures(path):
    picture(path, Image.fromarray(grey()), save_all=True, append_images=[Image.fromarray(255 - grey())])
    return renamed(path, "a.jpg")


def dangling(path):
    path.symlink_to(path.with_name("nowhere.png"))
    return path


def analyze(path):
    nib.save(nib.Nifti1Pair(VOLUME, np.eye(4)), path)
    return path
