"""Files of ordinary use that look like others: each is read right, or refused by its name with the true reason."""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import sys
import zlib

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data.finder import find_images
from common.data.reader import LoadImaged, image_header, read_image
from tests.bundles.restoration_runs import grey, write_picture
from tests.data import siblings as new
from tests.data.siblings import JPEG_2000, JPEG_LS, VOLUME, WIDE, XMP
from tests.fixtures import write_nifti
from tests.kills.server import in_fork

OPAQUE = np.full_like(WIDE, 65535)


READ = {
    "big-endian NIfTI": (lambda t: new.big_endian(t / "a.nii"), VOLUME),
    "volume in a 4D file of one time point": (lambda t: new.nifti(t / "a.nii", VOLUME[..., None]), VOLUME),
    "negative labels": (lambda t: new.nifti(t / "a.nii", -VOLUME), -VOLUME),
    "gzip without its ending": (lambda t: new.renamed(new.nifti_gz(t / "a.nii.gz"), "a.nii"), VOLUME),
    "gzip's ending without gzip": (lambda t: new.renamed(new.nifti(t / "a.nii"), "a.nii.gz"), VOLUME),
    "slope of 0 (none)": (lambda t: new.nifti(t / "a.nii", slope=0.0), VOLUME),
    "slope of NaN (none)": (lambda t: new.nifti(t / "a.nii", slope=np.nan), VOLUME),
    "negative slope": (lambda t: new.nifti(t / "a.nii", slope=-1.0), -VOLUME),
    "JPEG named PNG": (
        lambda t: new.renamed(write_picture(t / "a.jpg", grey() // 255 * 255, quality=100), "a.png"),
        None,
    ),
    "spaces and other scripts in the name": (lambda t: write_picture(t / "Röntgen Bild 肺 (1).png", grey()), grey()),
    "PNG of one bit": (lambda t: new.picture(t / "a.png", Image.fromarray(grey() > 100)), 255 * (grey() > 100)),
    "PNG of grey with a palette": (lambda t: new.picture(t / "a.png", Image.fromarray(grey()).convert("P")), grey()),
    "PNG of grey with opaque alpha": (
        lambda t: new.picture(t / "a.png", Image.fromarray(grey()).convert("LA")),
        grey(),
    ),
    "PNG of 16 bits": (lambda t: write_picture(t / "a.png", grey(dtype=np.uint16, high=60000)), None),
    "progressive JPEG": (
        lambda t: new.picture(t / "a.jpg", Image.fromarray(grey()), progressive=True, quality=100),
        None,
    ),
    "JPEG in CMYK": (lambda t: new.picture(t / "a.jpg", Image.fromarray(grey()).convert("CMYK"), quality=100), None),
    "file behind a link": (lambda t: new.linked(t), grey()),
    "16 bits, a transparent value that no pixel has": (
        lambda t: new.png(t / "a.png", WIDE, before=[(b"tRNS", b"\xff\xff")]),
        WIDE,
    ),
    "EXIF behind the pixels": (lambda t: new.png(t / "a.png", grey(), after=[(b"eXIf", new.exif())]), grey()[::-1].T),
    "orientation in XMP": (lambda t: new.png(t / "a.png", grey(), before=[(b"iTXt", XMP)]), grey()[::-1].T),
    "scaled colour NIfTI of equal channels": (lambda t: new.scaled_colour(t / "a.nii"), np.full((5, 6, 7), 9)),
    "big-endian NIfTI-2": (lambda t: new.big_endian(t / "a.nii", 2), VOLUME),
    "gzip of two members": (lambda t: new.two_members(t / "a.nii.gz"), VOLUME),
    "name of 250 bytes": (lambda t: write_picture(t / f"{'x' * 246}.png", grey()), grey()),
    "axes behind the third, all of one entry": (lambda t: new.nifti(t / "a.nii", VOLUME[..., None, None]), VOLUME),
    "handedness (qfac) of 0": (lambda t: new.nifti(t / "a.nii", qfac=0.0, sform=0, qform=1), VOLUME),
    "unit that no standard has": (lambda t: new.nifti(t / "a.nii", unit=7), VOLUME),
    "zeros behind gzip": (
        lambda t: new.raw(new.nifti_gz(t / "a.nii.gz"), new.nifti_gz(t / "a.nii.gz").read_bytes() + bytes(512)),
        VOLUME,
    ),
    "interlaced PNG": (lambda t: new.interlaced(t / "a.png", grey()), grey()),
    "PNG with gamma": (lambda t: new.png(t / "a.png", grey(), before=[(b"gAMA", struct.pack(">I", 100000))]), grey()),
    "12 bits marked in a PNG of 16": (lambda t: new.png(t / "a.png", WIDE, before=[(b"sBIT", b"\x0c")]), WIDE),
    "PNG with bytes behind its end": (
        lambda t: new.raw(t / "a.png", write_picture(t / "a.png", grey()).read_bytes() + b"more"),
        grey(),
    ),
    "line break in the name": (lambda t: write_picture(t / "a\nb.png", grey()), grey()),
    "name like an option": (lambda t: write_picture(t / "-rf.png", grey()), grey()),
    "name like a pattern": (lambda t: write_picture(t / "[a]*?%s.png", grey()), grey()),
    "big-endian DICOM": (lambda t: new.big_endian_dicom(t / "a.dcm"), WIDE),
    "DICOM without PixelSpacing": (lambda t: new.changed(t / "a.dcm", PixelSpacing=None), WIDE),
    "DICOM with an empty padding value": (lambda t: new.padded(t / "a.dcm", b""), WIDE),
    "DICOM with an empty HighBit": (lambda t: new.changed(t / "a.dcm", HighBit=None), WIDE),
    "DICOM with several windows": (
        lambda t: new.dicom(t / "a.dcm", WindowCenter=[40, 600], WindowWidth=[400, 0]),
        WIDE,
    ),
    "name that is not UTF-8": (lambda t: new.named(t, b"\xff\xfe.png"), grey()),
}


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
    "vectors in 5D": (
        lambda t: new.nifti(t / "a.nii", np.zeros((5, 6, 7, 1, 3), np.float32)),
        "got 5 x 6 x 7 x 1 x 3",
    ),
    "transparent NIfTI": (lambda t: new.coloured(t / "a.nii", 40), "an opaque image was expected"),
    "voxels within the header": (lambda t: new.nifti(t / "a.nii", offset=0.0), "voxels from byte 352 on .*, got 0"),
    "infinite slope": (
        lambda t: new.nifti(t / "a.nii", slope=np.inf),
        "a finite scale were expected, got 352.0 and inf",
    ),
    "infinite intercept": (lambda t: new.nifti(t / "a.nii", slope=1.0, inter=np.inf), "invalid intercept inf"),
    "infinite voxels": (
        lambda t: new.nifti(t / "a.nii", np.full((5, 6, 7), np.inf, np.float32)),
        "are NaN or infinite",
    ),
    "pair of .img and .hdr": (lambda t: new.analyze(t / "a.img"), "not a PNG, JPEG, NIfTI or DICOM image"),
    "gzip of something else": (lambda t: new.raw(t / "a.nii.gz", gzip.compress(b"hello")), "no NIfTI header"),
    "empty NIfTI file": (lambda t: new.raw(t / "a.nii.gz", b""), "the file is empty"),
    "empty PNG file": (lambda t: new.raw(t / "a.png", b""), "damaged, cut off"),
    "empty DICOM file": (lambda t: new.raw(t / "a.dcm", b""), "damaged, cut off"),
    "GIF named PNG": (
        lambda t: new.renamed(new.picture(t / "a.gif", Image.fromarray(grey())), "a.png"),
        "not a PNG, JPEG",
    ),
    "TIFF": (lambda t: new.picture(t / "a.tif", Image.fromarray(grey())), "not a PNG, JPEG, NIfTI or DICOM"),
    "animated PNG": (lambda t: new.animated(t / "a.png"), "a single picture was expected, got 2 frames"),
    "transparent palette": (lambda t: new.quantised(t / "a.png", transparency=0), "an opaque picture was expected"),
    "one pixel": (lambda t: write_picture(t / "a.png", grey()[:1, :1]), "at least 2 x 2 pixels .*, got 1 x 1"),
    "one row": (lambda t: write_picture(t / "a.png", grey()[:1]), "at least 2 x 2 pixels were expected, got 44 x 1"),
    "folder named as a file": (lambda t: new.folder(t / "a.nii.gz"), "a file was expected, this is a folder"),
    "pipe": (lambda t: new.pipe(t / "a.png"), "a file was expected, this is a pipe or a device"),
    "link to nothing": (lambda t: new.dangling(t / "a.png"), "no such file"),
    "16 bits in colour": (lambda t: new.png(t / "a.png", np.stack([WIDE] * 3, -1), 2), "16 bits .* in grey alone"),
    "16 bits with transparency": (
        lambda t: new.png(t / "a.png", np.stack([WIDE, OPAQUE], -1), 4),
        "16 bits .* in grey",
    ),
    "16 bits, a transparent value that pixels have": (
        lambda t: new.png(t / "a.png", WIDE, before=[(b"tRNS", WIDE[:1, :1].astype(">u2").tobytes())]),
        "an opaque picture was expected",
    ),
    "4 bits, a transparent value that pixels have": (
        lambda t: new.png(t / "a.png", grey(), before=[(b"tRNS", b"\0\x0f")], bits=4),
        "an opaque picture was expected",
    ),
    "JPEG by another ending": (
        lambda t: new.renamed(write_picture(t / "a.jpg", grey()), "a.jfif"),
        'no "DICM" after 128 bytes, .* and no name that ends in .png',
    ),
    "two padding values": (
        lambda t: new.padded(t / "a.dcm", b"\0\0\1\0"),
        r"one whole number was expected as PixelPaddingValue, got \[0, 1\]",
    ),
    "gigabytes behind a small volume": (
        lambda t: new.followed(t / "a.nii.gz", 400),
        "420 bytes of voxels .*, more than",
    ),
    "values beyond single precision": (lambda t: new.nifti(t / "a.nii", slope=1e38), "infinite in single precision"),
    "qform that is no rotation": (
        lambda t: new.nifti(t / "a.nii", turn=2.0, sform=0, qform=1),
        "an sform, or a qform",
    ),
    "unknown type of voxels": (lambda t: new.nifti(t / "a.nii", type=1), "data code 1 not supported"),
    "left-justified DICOM": (
        lambda t: new.dicom(t / "a.dcm", HighBit=15),
        "the lowest are used .*, got .* 16, 12 and 15",
    ),
    "DICOM of one bit": (
        lambda t: new.dicom(t / "a.dcm", BitsAllocated=1, BitsStored=1, HighBit=0),
        "8, 16 or 32 bits .*, got .* 1, 1 and 0",
    ),
    "grey DICOM of three channels": (lambda t: new.dicom(t / "a.dcm", SamplesPerPixel=3), "1 for SamplesPerPixel"),
    "DICOM slope with a comma": (
        lambda t: new.edited(new.dicom(t / "a.dcm", RescaleSlope="0.50", RescaleIntercept="0"), b"0.50", b"0,50"),
        "one number was expected as RescaleSlope, got 0,50",
    ),
    "two DICOM slopes": (
        lambda t: new.edited(new.dicom(t / "a.dcm", RescaleSlope="0.50", RescaleIntercept="0"), b"0.50", b"1\\2 "),
        "one number was expected as RescaleSlope",
    ),
    "infinite DICOM slope": (
        lambda t: new.edited(new.dicom(t / "a.dcm", RescaleSlope="0.5000", RescaleIntercept="0"), b"0.5000", b"1e400 "),
        "one number was expected as RescaleSlope",
    ),
    "JPEG in CMYK that is cut": (lambda t: new.cut(t / "a.jpg"), "image file is truncated"),
    "JPEG 2000 named JPEG": (
        lambda t: new.renamed(new.picture(t / "a.jp2", Image.fromarray(grey())), "a.jpg"),
        "not a PNG, JPEG",
    ),
    "two pictures in a JPEG": (lambda t: new.two_pictures(t / "a.mpo"), "a single picture was expected, got 2 frames"),
    "text that grows in a PNG": (
        lambda t: new.png(t / "a.png", grey(), before=[(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**24)))]),
        "Decompressed data too large",
    ),
    "side of 0 voxels": (lambda t: new.nifti(t / "a.nii", third=0), "the header says 5 x 6 x 0"),
    "side below 0": (lambda t: new.nifti(t / "a.nii", third=-3), "the header says 5 x 6 x -3"),
    "something behind gzip": (
        lambda t: new.raw(new.nifti_gz(t / "a.nii.gz"), new.nifti_gz(t / "a.nii.gz").read_bytes() + b"x" * 9),
        "Not a gzip",
    ),
    "DICOM slope of 0": (lambda t: new.dicom(t / "a.dcm", RescaleSlope="0"), "a RescaleSlope other than 0"),
    "DICOM of no pixels": (lambda t: new.changed(t / "a.dcm", PixelData=b""), "the file has no pixels"),
    "DICOM of floating-point pixels": (
        lambda t: new.changed(t / "a.dcm", FloatPixelData=b"0000" * 30),
        "whole numbers were expected as pixels",
    ),
    "DICOM of two frames that says one": (
        lambda t: new.changed(t / "a.dcm", PixelData=WIDE.tobytes() * 2),
        r"rows and columns were expected, .* pixels of \(2, ",
    ),
    "DICOM rows that are text": (
        lambda t: new.edited(new.dicom(t / "a.dcm"), b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00SH"),
        "one whole number was expected as Rows",
    ),
    "JPEG-LS of other sides": (
        lambda t: new.changed(t / "a.dcm", JPEG_LS, Rows=132, Columns=90),
        "got pixels of .90, 132.",
    ),
    "JPEG 2000 of other sides": (
        lambda t: new.changed(t / "a.dcm", JPEG_2000, Rows=132, Columns=90),
        "pixels of .90, 132.",
    ),
    "JPEG-LS of more bits": (
        lambda t: new.changed(t / "a.dcm", JPEG_LS, BitsStored=10, HighBit=9),
        "values of 10 bits were expected, got ",
    ),
    "DICOM of two frames": (lambda t: new.dicom(t / "a.dcm", NumberOfFrames="2"), "one frame was expected, got 2"),
}


@pytest.mark.parametrize("situation", REFUSED)
def test_it_is_refused_by_name(tmp_path, situation):
    make, reason = REFUSED[situation]
    path = make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{path}: .*{reason}"):
        read_image(path)


NOTED = {
    "colour NIfTI": (lambda t: new.coloured(t / "a.nii"), "is in colour; grey was expected: its luminance is taken"),
    "opaque colour NIfTI": (lambda t: new.coloured(t / "a.nii", 255), "is in colour"),
    "palette of colours": (lambda t: new.quantised(t / "a.png"), "is in colour"),
    "header in metres": (
        lambda t: new.nifti(t / "a.nii", unit=1),
        "the header's unit is meter; its numbers are taken",
    ),
    "more voxels than the header says": (
        lambda t: new.nifti(t / "a.nii", dim0=2),
        "360 bytes follow the 5 x 6 voxels",
    ),
    "voxels of no width": (
        lambda t: new.nifti(t / "a.nii", mm=0.0, sform=0, qform=0),
        "pixdim[1,2,3] should be non-zero",
    ),
    "voxels of negative width": (
        lambda t: new.nifti(t / "a.nii", mm=-1.0, sform=0),
        "pixdim[1,2,3] should be positive",
    ),
    "qform that is no rotation beside an sform": (
        lambda t: new.nifti(t / "a.nii", turn=2.0, sform=1, qform=1),
        "sform and qform differ; the sform is taken",
    ),
    "DICOM with bits above BitsStored": (
        lambda t: new.dicom(t / "a.dcm", BitsStored=10, HighBit=9),
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


def test_sform_and_qform_that_disagree_are_told_and_the_sform_is_taken(tmp_path, caplog):
    image = nib.Nifti1Image(VOLUME, np.diag([2.0, 2, 2, 1]))
    image.set_qform(np.diag([1.0, 1, 1, 1]), 1)
    nib.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").affine[0, 0] == 2
    assert "a.nii: sform and qform differ; the sform is taken" in caplog.text
