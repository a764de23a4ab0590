"""Files of ordinary use that look like others: each is read right, or refused by its name with the true reason."""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import struct
import sys
import zlib

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data.checks import check_folder, check_names, check_run
from common.data.dataset import CheckedDataset
from common.data.finder import find_images
from common.data.lists import paired_cases
from common.data.reader import LoadImaged, image_header, read_image
from common.data.writer import SaveImaged
from tests.bundles.restoration_runs import grey, write_dicom, write_picture
from tests.fixtures import write_nifti
from tests.kills.server import in_fork

VOLUME = grey((5, 6, 7), np.int16, 900)
WIDE = grey(dtype=np.uint16, high=4000)
OPAQUE = np.full_like(WIDE, 65535)
XMP = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
COLOUR = np.stack([grey(), grey() // 2, 255 - grey()], axis=-1)
BYTES = {
    **{
        "dim0": (40, "<h"),
        "third": (46, "<h"),
        "unit": (123, "<b"),
        "offset": (108, "<f"),
        "slope": (112, "<f"),
        "inter": (116, "<f"),
    },
    **{
        "type": (70, "<h"),
        "mm": (80, "<f"),
        "qfac": (76, "<f"),
        "turn": (256, "<f"),
        "qform": (252, "<h"),
        "sform": (254, "<h"),
    },
}


def nifti(path, array=VOLUME, **fields):
    """A NIfTI file with these header fields written over."""
    write_nifti(path, array, np.eye(4))
    content = bytearray(path.read_bytes())
    for name, value in fields.items():
        struct.pack_into(BYTES[name][1], content, BYTES[name][0], value)
    path.write_bytes(content)
    return path


def picture(path, image, **options):
    image.save(path, **options)
    return path


def png(path, array, kind=0, before=(), after=(), lines=None):
    """A PNG file of these stored values (or interlaced lines of them), with chunks before and after them."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows, columns = array.shape[:2]
    about = struct.pack(">IIBBBBB", columns, rows, 8 * array.dtype.itemsize, kind, 0, 0, int(lines is not None))
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


READ = {
    "big-endian NIfTI": (lambda t: big_endian(t / "a.nii"), VOLUME),
    "volume in a 4D file of one time point": (lambda t: nifti(t / "a.nii", VOLUME[..., None]), VOLUME),
    "negative labels": (lambda t: nifti(t / "a.nii", -VOLUME), -VOLUME),
    "gzip without its ending": (lambda t: renamed(nifti_gz(t / "a.nii.gz"), "a.nii"), VOLUME),
    "gzip's ending without gzip": (lambda t: renamed(nifti(t / "a.nii"), "a.nii.gz"), VOLUME),
    "slope of 0 (none)": (lambda t: nifti(t / "a.nii", slope=0.0), VOLUME),
    "slope of NaN (none)": (lambda t: nifti(t / "a.nii", slope=np.nan), VOLUME),
    "negative slope": (lambda t: nifti(t / "a.nii", slope=-1.0), -VOLUME),
    "JPEG named PNG": (lambda t: renamed(write_picture(t / "a.jpg", grey() // 255 * 255, quality=100), "a.png"), None),
    "spaces and other scripts in the name": (lambda t: write_picture(t / "Röntgen Bild 肺 (1).png", grey()), grey()),
    "PNG of one bit": (lambda t: picture(t / "a.png", Image.fromarray(grey() > 100)), 255 * (grey() > 100)),
    "PNG of grey with a palette": (lambda t: picture(t / "a.png", Image.fromarray(grey()).convert("P")), grey()),
    "PNG of grey with opaque alpha": (lambda t: picture(t / "a.png", Image.fromarray(grey()).convert("LA")), grey()),
    "PNG of 16 bits": (lambda t: write_picture(t / "a.png", grey(dtype=np.uint16, high=60000)), None),
    "progressive JPEG": (lambda t: picture(t / "a.jpg", Image.fromarray(grey()), progressive=True, quality=100), None),
    "JPEG in CMYK": (lambda t: picture(t / "a.jpg", Image.fromarray(grey()).convert("CMYK"), quality=100), None),
    "file behind a link": (lambda t: linked(t), grey()),
    "16 bits, a transparent value that no pixel has": (
        lambda t: png(t / "a.png", WIDE, before=[(b"tRNS", b"\xff\xff")]),
        WIDE,
    ),
    "EXIF behind the pixels": (lambda t: png(t / "a.png", grey(), after=[(b"eXIf", exif())]), grey()[::-1].T),
    "orientation in XMP": (lambda t: png(t / "a.png", grey(), before=[(b"iTXt", XMP)]), grey()[::-1].T),
    "scaled colour NIfTI of equal channels": (lambda t: scaled_colour(t / "a.nii"), np.full((5, 6, 7), 9)),
    "big-endian NIfTI-2": (lambda t: big_endian(t / "a.nii", 2), VOLUME),
    "gzip of two members": (lambda t: two_members(t / "a.nii.gz"), VOLUME),
    "name of 250 bytes": (lambda t: write_picture(t / f"{'x' * 246}.png", grey()), grey()),
    "axes behind the third, all of one entry": (lambda t: nifti(t / "a.nii", VOLUME[..., None, None]), VOLUME),
    "handedness (qfac) of 0": (lambda t: nifti(t / "a.nii", qfac=0.0, sform=0, qform=1), VOLUME),
    "unit that no standard has": (lambda t: nifti(t / "a.nii", unit=7), VOLUME),
    "zeros behind gzip": (
        lambda t: raw(nifti_gz(t / "a.nii.gz"), nifti_gz(t / "a.nii.gz").read_bytes() + bytes(512)),
        VOLUME,
    ),
    "interlaced PNG": (lambda t: interlaced(t / "a.png", grey()), grey()),
    "PNG with gamma": (lambda t: png(t / "a.png", grey(), before=[(b"gAMA", struct.pack(">I", 100000))]), grey()),
    "12 bits marked in a PNG of 16": (lambda t: png(t / "a.png", WIDE, before=[(b"sBIT", b"\x0c")]), WIDE),
    "PNG with bytes behind its end": (
        lambda t: raw(t / "a.png", write_picture(t / "a.png", grey()).read_bytes() + b"more"),
        grey(),
    ),
    "line break in the name": (lambda t: write_picture(t / "a\nb.png", grey()), grey()),
    "name like an option": (lambda t: write_picture(t / "-rf.png", grey()), grey()),
    "name like a pattern": (lambda t: write_picture(t / "[a]*?%s.png", grey()), grey()),
    "big-endian DICOM": (lambda t: big_endian_dicom(t / "a.dcm"), WIDE),
    "DICOM without PixelSpacing": (lambda t: changed(t / "a.dcm", PixelSpacing=None), WIDE),
    "DICOM with several windows": (lambda t: dicom(t / "a.dcm", WindowCenter=[40, 600], WindowWidth=[400, 0]), WIDE),
    "name that is not UTF-8": (lambda t: named(t, b"\xff\xfe.png"), grey()),
}


def nifti_gz(path):
    return write_nifti(path, VOLUME, np.eye(4))


def linked(folder):
    write_picture(folder / "elsewhere" / "b.png", grey())
    (folder / "a.png").symlink_to(folder / "elsewhere" / "b.png")
    return folder / "a.png"


@pytest.mark.parametrize("situation", READ)
def test_it_is_read(tmp_path, situation):
    make, expected = READ[situation]
    path = make(tmp_path)
    found = LoadImaged("image")({"image": str(path)})["image"].numpy()[0]
    if path.suffix == ".nii" or path.suffix == ".gz":
        np.testing.assert_array_equal(found, expected)
    elif expected is not None:
        np.testing.assert_array_equal(found[..., 0].T, expected)
    else:
        with Image.open(path, formats=["PNG", "JPEG"]) as image:
            shown = np.asarray(image if image.mode == "I;16" else image.convert("L")).astype(float)
        assert np.abs(found[..., 0].T - shown).max() <= 2
    assert str(path) in find_images(tmp_path)


REFUSED = {
    "complex NIfTI": (lambda t: write_nifti(t / "a.nii", VOLUME.astype(np.complex64)), "of real numbers was expected"),
    "vectors in 5D": (lambda t: nifti(t / "a.nii", np.zeros((5, 6, 7, 1, 3), np.float32)), "got 5 x 6 x 7 x 1 x 3"),
    "transparent NIfTI": (lambda t: coloured(t / "a.nii", 40), "an opaque image was expected"),
    "voxels within the header": (lambda t: nifti(t / "a.nii", offset=0.0), "voxels from byte 352 on .*, got 0"),
    "infinite slope": (lambda t: nifti(t / "a.nii", slope=np.inf), "a finite scale were expected, got 352.0 and inf"),
    "infinite intercept": (lambda t: nifti(t / "a.nii", slope=1.0, inter=np.inf), "invalid intercept inf"),
    "infinite voxels": (lambda t: nifti(t / "a.nii", np.full((5, 6, 7), np.inf, np.float32)), "are NaN or infinite"),
    "pair of .img and .hdr": (lambda t: analyze(t / "a.img"), "not a PNG, JPEG, NIfTI or DICOM image"),
    "gzip of something else": (lambda t: raw(t / "a.nii.gz", gzip.compress(b"hello")), "no NIfTI header"),
    "empty NIfTI file": (lambda t: raw(t / "a.nii.gz", b""), "no NIfTI header"),
    "empty PNG file": (lambda t: raw(t / "a.png", b""), "damaged, cut off"),
    "empty DICOM file": (lambda t: raw(t / "a.dcm", b""), "damaged, cut off"),
    "GIF named PNG": (lambda t: renamed(picture(t / "a.gif", Image.fromarray(grey())), "a.png"), "not a PNG, JPEG"),
    "TIFF": (lambda t: picture(t / "a.tif", Image.fromarray(grey())), "not a PNG, JPEG, NIfTI or DICOM"),
    "animated PNG": (lambda t: animated(t / "a.png"), "a single picture was expected, got 2 frames"),
    "transparent palette": (lambda t: quantised(t / "a.png", transparency=0), "an opaque picture was expected"),
    "one pixel": (lambda t: write_picture(t / "a.png", grey()[:1, :1]), "at least 2 x 2 pixels .*, got 1 x 1"),
    "one row": (lambda t: write_picture(t / "a.png", grey()[:1]), "at least 2 x 2 pixels were expected, got 44 x 1"),
    "folder named as a file": (lambda t: folder(t / "a.nii.gz"), "a file was expected, this is a folder"),
    "pipe": (lambda t: pipe(t / "a.png"), "a file was expected, this is a pipe or a device"),
    "link to nothing": (lambda t: dangling(t / "a.png"), "no such file"),
    "16 bits in colour": (lambda t: png(t / "a.png", np.stack([WIDE] * 3, -1), 2), "16 bits .* in grey alone"),
    "16 bits with transparency": (lambda t: png(t / "a.png", np.stack([WIDE, OPAQUE], -1), 4), "16 bits .* in grey"),
    "16 bits, a transparent value that pixels have": (
        lambda t: png(t / "a.png", WIDE, before=[(b"tRNS", WIDE[:1, :1].astype(">u2").tobytes())]),
        "an opaque picture was expected",
    ),
    "gigabytes behind a small volume": (lambda t: followed(t / "a.nii.gz", 400), "420 bytes of voxels .*, more than"),
    "values beyond single precision": (lambda t: nifti(t / "a.nii", slope=1e38), "infinite in single precision"),
    "qform that is no rotation": (lambda t: nifti(t / "a.nii", turn=2.0, sform=0, qform=1), "an sform, or a qform"),
    "unknown type of voxels": (lambda t: nifti(t / "a.nii", type=1), "data code 1 not supported"),
    "left-justified DICOM": (lambda t: dicom(t / "a.dcm", HighBit=15), "the lowest are used .*, got .* 16, 12 and 15"),
    "DICOM of one bit": (
        lambda t: dicom(t / "a.dcm", BitsAllocated=1, BitsStored=1, HighBit=0),
        "8, 16 or 32 bits .*, got .* 1, 1 and 0",
    ),
    "grey DICOM of three channels": (lambda t: dicom(t / "a.dcm", SamplesPerPixel=3), "1 for SamplesPerPixel"),
    "DICOM slope with a comma": (
        lambda t: edited(dicom(t / "a.dcm", RescaleSlope="0.50", RescaleIntercept="0"), b"0.50", b"0,50"),
        "one number was expected as RescaleSlope, got 0,50",
    ),
    "two DICOM slopes": (
        lambda t: edited(dicom(t / "a.dcm", RescaleSlope="0.50", RescaleIntercept="0"), b"0.50", b"1\\2 "),
        "one number was expected as RescaleSlope",
    ),
    "infinite DICOM slope": (
        lambda t: edited(dicom(t / "a.dcm", RescaleSlope="0.5000", RescaleIntercept="0"), b"0.5000", b"1e400 "),
        "one number was expected as RescaleSlope",
    ),
    "JPEG in CMYK that is cut": (lambda t: cut(t / "a.jpg"), "image file is truncated"),
    "JPEG 2000 named JPEG": (
        lambda t: renamed(picture(t / "a.jp2", Image.fromarray(grey())), "a.jpg"),
        "not a PNG, JPEG",
    ),
    "two pictures in a JPEG": (lambda t: two_pictures(t / "a.mpo"), "a single picture was expected, got 2 frames"),
    "text that grows in a PNG": (
        lambda t: png(t / "a.png", grey(), before=[(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**24)))]),
        "Decompressed data too large",
    ),
    "side of 0 voxels": (lambda t: nifti(t / "a.nii", third=0), "the header says 5 x 6 x 0"),
    "side below 0": (lambda t: nifti(t / "a.nii", third=-3), "the header says 5 x 6 x -3"),
    "something behind gzip": (
        lambda t: raw(nifti_gz(t / "a.nii.gz"), nifti_gz(t / "a.nii.gz").read_bytes() + b"x" * 9),
        "Not a gzip",
    ),
    "DICOM slope of 0": (lambda t: dicom(t / "a.dcm", RescaleSlope="0"), "a RescaleSlope other than 0"),
    "DICOM of no pixels": (lambda t: changed(t / "a.dcm", PixelData=b""), "the file has no pixels"),
    "DICOM of two frames that says one": (
        lambda t: changed(t / "a.dcm", PixelData=WIDE.tobytes() * 2),
        r"rows and columns were expected, .* pixels of \(2, ",
    ),
    "DICOM rows that are text": (
        lambda t: edited(dicom(t / "a.dcm"), b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00SH"),
        "one whole number was expected as Rows",
    ),
    "JPEG-LS of other sides": (
        lambda t: changed(t / "a.dcm", JPEG_LS, Rows=132, Columns=90),
        "got pixels of .90, 132.",
    ),
    "JPEG 2000 of other sides": (
        lambda t: changed(t / "a.dcm", JPEG_2000, Rows=132, Columns=90),
        "pixels of .90, 132.",
    ),
    "JPEG-LS of more bits": (
        lambda t: changed(t / "a.dcm", JPEG_LS, BitsStored=10, HighBit=9),
        "values of 10 bits were expected, got ",
    ),
    "DICOM of two frames": (lambda t: dicom(t / "a.dcm", NumberOfFrames="2"), "one frame was expected, got 2"),
}


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


@pytest.mark.parametrize("situation", REFUSED)
def test_it_is_refused_by_name(tmp_path, situation):
    make, reason = REFUSED[situation]
    path = make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{path}: .*{reason}"):
        read_image(path)


NOTED = {
    "colour NIfTI": (lambda t: coloured(t / "a.nii"), "is in colour; grey was expected: its luminance is taken"),
    "opaque colour NIfTI": (lambda t: coloured(t / "a.nii", 255), "is in colour"),
    "palette of colours": (lambda t: quantised(t / "a.png"), "is in colour"),
    "header in metres": (lambda t: nifti(t / "a.nii", unit=1), "the header's unit is meter; its numbers are taken"),
    "more voxels than the header says": (lambda t: nifti(t / "a.nii", dim0=2), "360 bytes follow the 5 x 6 voxels"),
    "voxels of no width": (lambda t: nifti(t / "a.nii", mm=0.0, sform=0, qform=0), "pixdim[1,2,3] should be non-zero"),
    "voxels of negative width": (lambda t: nifti(t / "a.nii", mm=-1.0, sform=0), "pixdim[1,2,3] should be positive"),
    "qform that is no rotation beside an sform": (
        lambda t: nifti(t / "a.nii", turn=2.0, sform=1, qform=1),
        "sform and qform differ; the sform is taken",
    ),
    "DICOM with bits above BitsStored": (
        lambda t: dicom(t / "a.dcm", BitsStored=10, HighBit=9),
        "bits above the 10 of BitsStored are set",
    ),
}


@pytest.mark.parametrize("situation", NOTED)
def test_it_is_read_with_a_notice(tmp_path, caplog, situation):
    make, notice = NOTED[situation]
    path = make(tmp_path)
    LoadImaged("image")({"image": str(path)})
    assert sum(f"{path}: " in message and notice in message for message in caplog.messages) <= 1, "told once"
    assert str(path) in caplog.text
    assert notice in caplog.text


def test_no_other_program_is_started_by_any_of_them(tmp_path):
    files = []
    for number, (make, _) in enumerate([*READ.values(), *REFUSED.values(), *NOTED.values()]):
        (tmp_path / str(number)).mkdir()
        files.append(make(tmp_path / str(number)))
    for number, kind in enumerate(("EPS", "PDF", "TIFF", "BMP", "WEBP")):
        path = tmp_path / f"{number}.png"
        Image.fromarray(grey()).save(path, format=kind)
        files.append(path)

    def read_all():
        def hook(event, _):
            if event.startswith(("subprocess", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "pty")):
                os._exit(3)

        sys.addaudithook(hook)
        for path in files:
            for read in (read_image, image_header):
                with contextlib.suppress(ValueError, OSError):
                    read(path)
        find_images(tmp_path, recursive=True)

    assert in_fork(read_all) == 0
    with pytest.raises(ValueError, match=r"0.png: damaged"):
        read_image(tmp_path / "0.png")


def test_links_in_a_circle_and_links_to_nothing_end_the_search(tmp_path, caplog):
    write_picture(tmp_path / "sub" / "a.png", grey())
    (tmp_path / "sub" / "again").symlink_to(tmp_path, target_is_directory=True)
    dangling(tmp_path / "sub" / "b.png")
    assert find_images(tmp_path, recursive=True) == [str(tmp_path / "sub" / "a.png")]
    assert "1 left out" in caplog.text
    assert "b.png" in caplog.text


def test_one_name_in_two_formats_is_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        write_picture(tmp_path / name, grey())
    with pytest.raises(ValueError, match=r"a.jpg and .*a.png would be written to the same output: rename one"):
        check_names(find_images(tmp_path))


@pytest.mark.parametrize("there", ["nothing", "a file", "an empty folder"])
def test_a_dataset_dir_without_images_is_named_as_what_it_is(tmp_path, there):
    place = tmp_path / "in"
    if there == "a file":
        place.write_text("x")
    elif there == "an empty folder":
        place.mkdir()
    said = f"No image in {place} " if there == "an empty folder" else f"{place} is no folder "
    with pytest.raises(FileNotFoundError, match=said):
        check_run(find_images(place), CheckedDataset([], dict), tmp_path / "out", place)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "sub"])
def test_an_output_folder_that_is_a_file_or_below_one_is_refused(tmp_path, below):
    (tmp_path / "out").write_text("x")
    with pytest.raises(OSError, match="output_dir cannot be written"):
        check_folder(tmp_path / "out" / below)


@pytest.mark.parametrize("ending", [".png", ".nii", ".nii.gz"])
def test_a_limit_on_the_size_of_files_leaves_nothing_behind(tmp_path, ending):
    write = write_picture if ending == ".png" else write_nifti
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    case = LoadImaged("image")({"image": str(write(tmp_path / f"a{ending}", noise))})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        with pytest.raises(OSError, match=r"the image cannot be written \(File too large\)"):
            SaveImaged("pred", tmp_path / "out", "x")({"pred": case["image"]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "out").iterdir())


def test_every_ending_is_trained_on(tmp_path):
    for number, ending in enumerate((".nii.gz", ".nii", ".NII.GZ") * 2):
        for folder in ("images", "labels"):
            made = (
                nifti_gz(tmp_path / folder / "x.nii.gz")
                if "gz" in ending.lower()
                else nifti(tmp_path / folder / "x.nii")
            )
            made.rename(made.with_name(f"case_{number}{ending}"))
    cases = paired_cases(tmp_path, {"image": "images", "label": "labels"})
    assert [case["case"] for case in cases] == [f"case_{number}" for number in range(6)]
    for case in cases:
        np.testing.assert_array_equal(LoadImaged("image")(case)["image"].numpy()[0], VOLUME)


def test_sform_and_qform_that_disagree_are_told_and_the_sform_is_taken(tmp_path, caplog):
    image = nib.Nifti1Image(VOLUME, np.diag([2.0, 2, 2, 1]))
    image.set_qform(np.diag([1.0, 1, 1, 1]), 1)
    nib.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").affine[0, 0] == 2
    assert "a.nii: sform and qform differ; the sform is taken" in caplog.text
