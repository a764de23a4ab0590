"""Read, write unchanged, read again: the identity, for every type, scale, orientation and class that is read."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.dicom import SOP_CLASSES
from common.data.names import output_ending
from common.data.outputs import write_image
from common.data.reader import LoadImaged, image_header, read_image
from common.data.writer import SaveImaged
from tests.bundles.restoration_runs import CR, MR, grey, write_dicom, write_picture
from tests.fixtures import oblique_affine

pydicom = pytest.importorskip("pydicom")

TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
SCALES = ((1.0, 0.0), (2.0, 100.0), (0.5, -1024.0))
AXES = ("RAS", "LPS", "PIL")


def returned(path, tmp_path):
    """The file written back, after a check that nothing of it has changed."""
    image = read_image(path)
    target = tmp_path / f"back{output_ending(path)}"
    write_image(target, image.values[0], image, image.affine, {"bundle": "b", "run": "r"})
    again = read_image(target)
    np.testing.assert_array_equal(again.values[0], image.values[0])
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-6)
    assert (again.dtype, again.slope, again.inter, again.limits) == (
        image.dtype,
        image.slope,
        image.inter,
        image.limits,
    )
    assert (again.shape, again.extra) == (image.shape, image.extra)
    header = image_header(path)
    assert (header.shape, header.kind) == (image.values.shape[1:], image.kind)
    np.testing.assert_allclose(header.affine, image.affine)
    return target


@pytest.mark.parametrize("code", TYPES)
def test_a_nifti_file_of_any_type_scale_and_orientation_returns(tmp_path, code):
    array = grey((9, 10, 5), np.float64, 120).astype(code) if code[0] != "f" else grey((9, 10, 5), code, 3) / 7
    for number, ((slope, inter), axes) in enumerate(itertools.product(SCALES, AXES)):
        wanted = nib.orientations.axcodes2ornt(tuple(axes))
        image = nib.Nifti1Image(array, oblique_affine(), dtype=array.dtype)
        image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
        image.set_sform(image.affine, 1 + number % 4)
        image.set_qform(image.affine, 2)
        image.header.set_slope_inter(slope, inter)
        path = tmp_path / f"a{number}.{('nii.gz', 'nii', 'NII.GZ')[number % 3]}"
        (tmp_path / "a.nii.gz").unlink(missing_ok=True)
        nib.save(image, tmp_path / ("a.nii" if path.suffix == ".nii" else "a.nii.gz"))
        (tmp_path / ("a.nii" if path.suffix == ".nii" else "a.nii.gz")).rename(path)
        stored = nib.load(returned(path, tmp_path)).dataobj
        # of float64 with a scale, the value comes back exactly, the stored number to its last bit
        np.testing.assert_allclose(stored.get_unscaled(), np.asarray(image.dataobj), atol=1e-12 if code == "f8" else 0)


@pytest.mark.parametrize("kind", [nib.Nifti2Image, nib.Nifti1Image])
@pytest.mark.parametrize("shape", [(9, 10), (9, 10, 1), (9, 10, 5, 1), (9, 10, 1, 1, 1)])
def test_axes_and_version_of_a_nifti_file_return(tmp_path, kind, shape):
    nib.save(
        kind(
            grey((9, 10), np.int16, 900)[..., None].repeat(np.prod(shape[2:], dtype=int), 2).reshape(shape), np.eye(4)
        ),
        tmp_path / "a.nii",
    )
    back = nib.load(returned(tmp_path / "a.nii", tmp_path))
    assert (back.shape, int(back.header["sizeof_hdr"])) == (shape, 540 if kind is nib.Nifti2Image else 348)


@pytest.mark.parametrize(("dtype", "high", "ending"), [("u1", 255, "png"), ("u2", 65535, "png"), ("u1", 255, "jpg")])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_picture_of_any_type_and_orientation_returns(tmp_path, dtype, high, ending, orientation):
    picture = Image.fromarray(grey((20, 33), np.dtype(dtype), high))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / f"a.{ending}", exif=exif)
    returned(tmp_path / f"a.{ending}", tmp_path)


@pytest.mark.parametrize("sop", SOP_CLASSES)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("dtype", "scale"), [(np.uint16, (1, 0)), (np.int16, (2.5, -100))])
def test_a_dicom_image_of_any_class_returns(tmp_path, sop, photometric, dtype, scale):
    tags = {"PhotometricInterpretation": photometric, "RescaleSlope": scale[0], "RescaleIntercept": scale[1]}
    array = grey(dtype=dtype, high=4095) - (900 if dtype is np.int16 else 0)
    returned(write_dicom(tmp_path / "a.dcm", array, sop, **tags), tmp_path)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 65535), (np.int16, -32768)])
def test_padding_sets_no_range_and_comes_back(tmp_path, dtype, value):
    array = grey((32, 40), dtype, 3000)
    clean = array.copy()
    array[:, :4] = value
    path = write_dicom(tmp_path / "a.dcm", array, MR if value < 0 else CR, 16, PixelPaddingValue=value)
    image = read_image(path)
    assert (image.values.min(), image.values.max()) == (clean[:, 4:].min(), clean[:, 4:].max())
    back = pydicom.dcmread(returned(path, tmp_path))
    assert back.PixelPaddingValue == value
    np.testing.assert_array_equal(back.pixel_array, array)
    write_image(tmp_path / "fine.dcm", np.kron(image.values[0], np.ones((2, 2, 1))), image, image.affine, {"run": "r"})
    assert (pydicom.dcmread(tmp_path / "fine.dcm").pixel_array[:, :8] == value).all()
    save = SaveImaged("pred", tmp_path / "out", "x")
    save({"pred": LoadImaged("image", dtype=torch.float64)({"image": str(path)})["image"]})
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "out" / "a_x.dcm").pixel_array, array)


@pytest.mark.parametrize(
    "odd",
    [
        {"PixelSpacing": None},
        {"PixelSpacing": [0.8]},
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": [1, 0, 0]},
        {"ImagerPixelSpacing": None},
    ],
    ids=str,
)
def test_numbers_that_are_missing_or_too_few_are_left_out_of_finer_pixels(tmp_path, odd):
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0]}
    image = read_image(write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16, high=4095), MR, **{**place, **odd}))
    write_image(tmp_path / "fine.dcm", np.kron(image.values[0], np.ones((2, 2, 1))), image, image.affine, {"run": "r"})
    back = pydicom.dcmread(tmp_path / "fine.dcm")
    assert not odd.keys() & set(back.dir())
    np.testing.assert_array_equal(back.pixel_array[::2, ::2].T, image.values[0, ..., 0])


def test_a_padding_value_of_the_other_sign_comes_back_as_it_was_meant(tmp_path):
    array = grey((32, 40), np.uint16, 3000)
    array[:, :4] = 65535
    source = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", array, CR, 16))
    source.add_new(0x00280120, "SS", -1)
    source.save_as(tmp_path / "a.dcm")
    back = pydicom.dcmread(returned(tmp_path / "a.dcm", tmp_path))
    assert back.PixelPaddingValue == 65535
    np.testing.assert_array_equal(back.pixel_array, array)


def test_no_text_of_the_source_and_no_error_of_the_standard(tmp_path):
    names = ("ImageType", "RescaleType", "BodyPartExamined", "VOILUTFunction", "PixelIntensityRelationship")
    for sop, kind in SOP_CLASSES.items():
        tags = dict.fromkeys(names, "JANE DOE") | {"ImageType": ["ORIGINAL", "PRIMARY", "JANE DOE"]}
        tags |= {"ImagerPixelSpacing": [0.2, 0.2], "ViewPosition": "PA"}
        tags |= {} if "processing" in kind else {"WindowCenter": 2000, "WindowWidth": 4000}
        tags |= {"Modality": kind[:2] if kind[:2] in ("CR", "DX", "MR") else "OT"}
        if kind == "MR":  # which has a place
            tags |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0]}
            tags |= {"PatientPosition": "HFS", "FrameOfReferenceUID": "1.2.3"}
        if tags["Modality"] == "DX":  # which has to say so
            tags |= {"BurnedInAnnotation": "NO", "PatientOrientation": ["L", "F"]}
        path = write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16, high=4095), sop, **tags)
        new = pydicom.dcmread(returned(path, tmp_path))
        assert "DOE" not in str(new)
        assert ("BurnedInAnnotation" in new) == ("BurnedInAnnotation" in tags)
        if shutil.which("dciodvfy"):
            for like in (read_image(path), read_image(path).for_deviation(7.0)):
                write_image(tmp_path / "b.dcm", like.values[0] * 0 + 3, like, like.affine, {"run": "r"})
                told = subprocess.run(["dciodvfy", tmp_path / "b.dcm"], capture_output=True, text=True).stderr
                errors = [line for line in told.splitlines() if line.startswith("Error") and "0x001c" not in line]
                assert not errors, "SyntheticData (0008,001c) is newer than the tool"


def test_equal_channels_and_opaque_alpha_are_grey_and_transparency_is_refused(tmp_path):
    picture = Image.fromarray(grey())
    for mode in ("RGB", "RGBA", "LA"):
        picture.convert(mode).save(tmp_path / f"{mode}.png")
        np.testing.assert_array_equal(read_image(tmp_path / f"{mode}.png").values[0, :, :, 0].T, grey())
    clear = picture.convert("RGBA")
    clear.putalpha(picture)
    clear.save(tmp_path / "clear.png")
    with pytest.raises(ValueError, match=r"clear.png: an opaque picture was expected, got transparent pixels"):
        read_image(tmp_path / "clear.png")


def test_damage_that_decompresses_is_found_by_the_checksum_and_absurd_sizes_by_the_header(tmp_path):
    array = np.zeros((20, 20, 20), np.uint8)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    damaged = bytearray((tmp_path / "a.nii.gz").read_bytes())
    damaged[-6] ^= 1  # of the checksum itself
    (tmp_path / "b.nii.gz").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"b.nii.gz: damaged, cut off, .*CRC"):
        read_image(tmp_path / "b.nii.gz")
    header = nib.Nifti1Header()
    header.set_data_shape((800, 800, 800))
    (tmp_path / "c.nii").write_bytes(header.binaryblock + bytes(400))
    with pytest.raises(ValueError, match=r"c.nii: at most 134,217,728 voxels were expected, the header says 800 x 800"):
        read_image(tmp_path / "c.nii")


def test_no_other_decoder_is_started(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ValueError, match=r"a.png: damaged, cut off, or not a PNG, JPEG"):
        read_image(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", grey())
    Image.open(tmp_path / "b.png", formats=["PNG"]).save(tmp_path / "c.png", format="GIF")
    with pytest.raises(ValueError, match=r"c.png: damaged"):
        image_header(tmp_path / "c.png")
