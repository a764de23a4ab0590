"""Images of every format: read as they show, written back as they came."""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data.checks import check_run, pending_cases
from common.data.dataset import CheckedDataset
from common.data.finder import find_images, stem_of
from common.data.names import find_partner, output_ending
from common.data.outputs import write_image
from common.data.reader import LoadImaged, read_image
from common.data.writer import SaveImaged
from tests.bundles.restoration_runs import CR, MR, grey, pixels, write_dicom, write_picture
from tests.fixtures import oblique_affine, write_nifti

RECORD = {"bundle": "med_cdiff_xray_denoise", "version": "0.1.0", "seed": 3, "steps": 10, "run": "r", "map": ""}
pydicom = pytest.importorskip("pydicom")


def written(path, image, values=None):
    target = path.with_name(f"{stem_of(path)}_new{output_ending(path)}")
    write_image(target, image.values[0] if values is None else values, image, image.affine, RECORD)
    return target


FILES = {
    "8-bit PNG": lambda folder: write_picture(folder / "a.png", grey()),
    "16-bit PNG": lambda folder: write_picture(folder / "a.png", grey(dtype=np.uint16, high=65535)),
    "JPEG": lambda folder: write_picture(folder / "a.JPG", grey()),
    "2D NIfTI": lambda folder: write_nifti(folder / "a.nii", grey(dtype=np.float32, high=3)),
    "3D NIfTI": lambda folder: write_nifti(folder / "a.nii.gz", grey((9, 10, 5), np.int16, 900) - 300),
    "CR": lambda folder: write_dicom(folder / "a.dcm", grey(dtype=np.uint16, high=4095)),
    "signed MR": lambda folder: write_dicom(folder / "1.2.3", grey(dtype=np.int16, high=2000) - 900, MR),
    "MONOCHROME1, rescaled": lambda folder: write_dicom(
        folder / "a.dcm",
        grey(dtype=np.uint16, high=4000),
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=2.5,
        RescaleIntercept=-100,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_written_back_to_the_last_bit(tmp_path, name):
    path = FILES[name](tmp_path)
    target = written(path, read_image(path))
    assert target.suffix == {".JPG": ".png", ".3": ".dcm"}.get(path.suffix, path.suffix)
    before, after = pixels(path.rename(path.with_suffix(".jpg")) if path.suffix == ".JPG" else path), pixels(target)
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after, before)


def test_a_nifti_file_keeps_affine_codes_scale_and_unit(tmp_path):
    source = nib.Nifti1Image(grey((9, 10, 5), np.int16, 900), oblique_affine())
    source.set_sform(oblique_affine(), 2)
    source.header.set_xyzt_units("micron")
    source.header.set_slope_inter(0.25, -7)
    nib.save(source, tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.values[0], nib.load(tmp_path / "a.nii.gz").get_fdata())
    result = nib.load(written(tmp_path / "a.nii.gz", image))
    np.testing.assert_array_equal(result.dataobj.get_unscaled(), pixels(tmp_path / "a.nii.gz"))
    assert (result.dataobj.slope, result.dataobj.inter) == (0.25, -7)
    assert (int(result.header["sform_code"]), result.header.get_xyzt_units()[0]) == (2, "micron")
    np.testing.assert_allclose(result.affine, oblique_affine(), atol=1e-6)
    assert bytes(result.header["descrip"]).startswith(b"synthetic med_cdiff_xray_denoise 0.1.0 seed 3 steps 10")


def test_pictures_lie_as_they_show(tmp_path):
    array = grey((20, 33))
    image = read_image(write_picture(tmp_path / "a.png", array))
    np.testing.assert_array_equal(image.values[0, :, :, 0], array.T)
    turned = Image.fromarray(array)
    exif = turned.getexif()
    exif[0x0112] = 6  # "turn by 90 degrees to the right to show"
    turned.save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").values[0, :, :, 0], np.rot90(array, -1).T)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK"])
def test_every_mode_of_pictures_is_read(tmp_path, mode):
    ending = "jpg" if mode == "CMYK" else "png"
    picture = Image.fromarray(np.where(grey() > 99, 255, 0).astype(np.uint8)).convert(mode)
    picture.save(tmp_path / f"a.{ending}")
    values = read_image(tmp_path / f"a.{ending}").values
    assert len(values) == (1 if mode in ("1", "LA") else 3)
    assert np.abs(values[0, :, :, 0].T - np.where(grey() > 99, 255, 0)).mean() < 5


def test_monochrome1_is_read_as_it_shows_in_rescaled_units(tmp_path):
    array = grey(dtype=np.uint16, high=4095)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2, "RescaleIntercept": -100}
    path = write_dicom(tmp_path / "a.dcm", array, **tags)
    values = read_image(path).values[0, :, :, 0].T
    np.testing.assert_array_equal(values, 2.0 * (4095.0 - array) - 100)
    assert pydicom.dcmread(written(path, read_image(path))).PhotometricInterpretation == "MONOCHROME1"


def test_a_new_dicom_instance_says_what_it_is_and_not_who(tmp_path):
    tags = {"WindowCenter": 400, "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": [-10, 20, 30]}
    path = write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16, high=4095), MR, InstanceNumber=7, **tags)
    source, new = pydicom.dcmread(path), pydicom.dcmread(written(path, read_image(path)))
    assert new[0x0008, 0x001C].value == "YES"  # SyntheticData
    assert list(new.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert "seed 3 steps 10" in new.DerivationDescription
    assert new.PatientIdentityRemoved == "YES"
    assert "Jane" not in str(new)
    told = [str(element.value) for element in new.iterall() if element.VR != "UI"]  # a new UID may hold any digits
    assert not any("2020" in value for value in told)
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert new[name].value != source[name].value
    for name in ("SOPClassUID", "Modality", "PixelSpacing", "WindowCenter", "InstanceNumber", *list(tags)):
        assert new[name].value == source[name].value, name


def test_slices_of_one_study_stay_together_within_a_run(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16))
    image = read_image(path)
    records = [RECORD, RECORD, {**RECORD, "map": "std"}, {**RECORD, "run": "another"}]
    new = []
    for index, record in enumerate(records):
        write_image(tmp_path / f"{index}.dcm", image.values[0], image, image.affine, record)
        new.append(pydicom.dcmread(tmp_path / f"{index}.dcm"))
    assert len({item.SOPInstanceUID for item in new}) == 4
    assert [item.StudyInstanceUID == new[0].StudyInstanceUID for item in new] == [True, True, True, False]
    assert [item.SeriesInstanceUID == new[0].SeriesInstanceUID for item in new] == [True, True, False, False]


def test_finer_dicom_pixels_cover_the_same_field(tmp_path):
    tags = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [5.0, 20, 30]}
    path = write_dicom(tmp_path / "a.dcm", grey((10, 20), np.uint16), MR, **tags)
    image = read_image(path)
    fine = np.kron(image.values[0], np.ones((2, 4, 1)))
    new = pydicom.dcmread(written(path, image, fine))
    assert (new.Rows, new.Columns) == (40, 40)
    assert list(new.PixelSpacing) == [0.2, 0.6]  # 0.8 mm rows in four, 1.2 mm columns in two
    # the outer corner stays: half an old pixel before the first old centre, half a new one before the first new
    np.testing.assert_allclose(list(new.ImagePositionPatient), [5.0, 20 - 0.6 + 0.3, 30 + 0.4 - 0.1])


@pytest.mark.parametrize("name", ["16-bit PNG", "signed MR", "3D NIfTI"])
def test_a_map_of_deviations_keeps_its_units(tmp_path, name):
    path = FILES[name](tmp_path)
    image = read_image(path)
    deviations = np.abs(image.values[0]) / image.values.max() * 0.37
    like = image.for_deviation(deviations.max())
    target = tmp_path / f"std{output_ending(path)}"
    write_image(target, deviations, like, image.affine, RECORD)
    found = pixels(target) * like.slope
    expected = deviations if name == "3D NIfTI" else deviations[..., 0].T
    np.testing.assert_allclose(found, expected, atol=like.slope)
    if name == "signed MR":
        assert float(pydicom.dcmread(target).RescaleSlope) == pytest.approx(like.slope)


def truncated(path, ending, keep=0.6):
    data = path.read_bytes()
    (path.parent / f"bad{ending}").write_bytes(data[: int(keep * len(data))])
    return path.parent / f"bad{ending}"


def noise(folder, ending):
    array = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    if "nii" in ending:
        return truncated(write_nifti(folder / f"a{ending}", array), ending)
    return truncated(write_picture(folder / f"a{ending}", array), ending)


BAD = {
    "cut JPEG": (lambda folder: noise(folder, ".jpg"), "bad.jpg: damaged, cut off, or not a PNG, JPEG, NIfTI or DICOM"),
    "cut PNG": (lambda folder: noise(folder, ".png"), "bad.png: damaged"),
    "cut NIfTI": (lambda folder: noise(folder, ".nii.gz"), "bad.nii.gz: damaged"),
    "cut DICOM": (
        lambda folder: truncated(write_dicom(folder / "a.dcm", grey((64, 64), np.uint16)), ".dcm"),
        "bad.dcm: damaged",
    ),
    "no DICOM": (lambda folder: (folder / "a.dcm", (folder / "a.dcm").write_bytes(b"x" * 200))[0], "a.dcm: damaged"),
    "NaN": (
        lambda folder: write_nifti(folder / "a.nii", np.where(grey() == 255, np.nan, 1.0).astype(np.float32)),
        r"a.nii: \d+ of 1320 pixels are NaN or infinite",
    ),
    "4D": (
        lambda folder: write_nifti(folder / "a.nii", np.ones((5, 6, 7, 2), np.float32)),
        "a 2D image or a 3D volume of real numbers was expected, got 5 x 6 x 7 x 2",
    ),
    "CT": (
        lambda folder: write_dicom(folder / "a.dcm", grey(dtype=np.uint16), "1.2.840.10008.5.1.4.1.1.2"),
        "CR, DX for presentation, .*MR, Secondary Capture was expected, got SOP class 1.2.840.10008.5.1.4.1.1.2",
    ),
    "frames": (
        lambda folder: write_dicom(folder / "a.dcm", grey((8, 4), np.uint16), Rows=4, NumberOfFrames=2),
        "one frame was expected, got 2",
    ),
    "palette": (
        lambda folder: write_dicom(folder / "a.dcm", grey(), CR, 8, PhotometricInterpretation="PALETTE COLOR"),
        "MONOCHROME1, MONOCHROME2, RGB or YBR was expected, got PALETTE COLOR",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_restored_is_named(tmp_path, name):
    write, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        read_image(write(tmp_path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.png: no such file; a PNG, JPEG, NIfTI or DICOM image"):
        read_image(tmp_path / "none.png")


def test_dicom_without_pydicom_says_what_to_install(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match="pip install pydicom"):
        read_image(path)
    read_image(write_picture(tmp_path / "a.png", grey()))


def test_a_colour_dicom_has_three_channels(tmp_path):
    colour = np.stack([grey(seed=seed) for seed in range(3)], -1)
    tags = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    path = write_dicom(tmp_path / "a.dcm", colour, CR, 8, **tags)
    assert read_image(path).values.shape == (3, colour.shape[1], colour.shape[0], 1)
    new = pydicom.dcmread(written(path, read_image(path)))
    assert new.pixel_array.shape == colour.shape[:2]


@pytest.mark.parametrize("space", ["YBR_FULL", "YBR_FULL_422"])
def test_a_colour_dicom_of_luminance_and_chrominance_is_read_as_rgb(tmp_path, space):
    colour = np.stack([grey((30, 44), seed=seed) // 2 + 60 for seed in range(3)], -1).repeat(2, axis=1)
    ybr = np.array(Image.fromarray(colour).convert("YCbCr"))
    if space == "YBR_FULL_422":  # Y Y B R for two pixels
        ybr = np.concatenate([ybr[:, ::2, :1], ybr[:, 1::2, :1], ybr[:, ::2, 1:]], -1)
    tags = {"PhotometricInterpretation": space, "SamplesPerPixel": 3, "PlanarConfiguration": 0, "Columns": 88}
    path = write_dicom(tmp_path / "a.dcm", ybr, CR, 8, **tags)
    np.testing.assert_allclose(read_image(path).values[..., 0].transpose(2, 1, 0), colour, atol=3)


def compressed(path, syntax, pixels=b"\xff\xd8\xff\xd9"):
    """The file with pixels in another transfer syntax; by default, too few of them."""
    source = pydicom.dcmread(path)
    source.file_meta.TransferSyntaxUID = syntax
    source.PixelData = pydicom.encaps.encapsulate([pixels])
    source["PixelData"].is_undefined_length = True
    source.save_as(path, enforce_file_format=True)
    return path


def test_a_missing_decoder_is_named_with_what_to_install(tmp_path, monkeypatch):
    path = compressed(write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16)), pydicom.uid.JPEGLosslessSV1)
    monkeypatch.setattr("common.data.dicom._decoders_of", lambda syntax: ())
    with pytest.raises(ImportError, match=r"a.dcm: nothing .* decodes JPEG Lossless.*: pip install python-gdcm"):
        read_image(path)
    monkeypatch.setattr("common.data.dicom._decoders_of", lambda syntax: ("gdcm",))
    with pytest.raises(ValueError, match=r"a.dcm: damaged"):
        read_image(path)
    monkeypatch.undo()
    compressed(path, "1.2.840.10008.1.2.4.201")
    monkeypatch.setattr("common.data.dicom._decoders_of", lambda syntax: ())
    with pytest.raises(ImportError, match=r"High-Throughput JPEG 2000.*: pip install pylibjpeg pylibjpeg-openjpeg"):
        read_image(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"a.dcm: pixels in MPEG2 .* cannot be decoded; export them in another"):
        read_image(compressed(path, "1.2.840.10008.1.2.4.100"))


@pytest.mark.parametrize(
    "syntax", ["JPEGLosslessSV1", "JPEGLossless", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"]
)
def test_every_lossless_compression_is_read_to_the_last_bit(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", grey((64, 80), np.uint16, 4095))
    before = read_image(path).values
    wanted = getattr(pydicom.uid, syntax)
    if syntax.startswith("JPEGLossless"):
        gdcm = pytest.importorskip("gdcm")
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        names = {"JPEGLosslessSV1": "JPEGLosslessProcess14_1", "JPEGLossless": "JPEGLosslessProcess14"}
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, names[syntax])))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    else:
        source = pydicom.dcmread(path)
        if not pydicom.pixels.get_encoder(wanted).is_available:
            pytest.skip(f"nothing is installed that encodes {syntax}")
        source.compress(wanted)
        source.save_as(path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == wanted
    np.testing.assert_array_equal(read_image(path).values, before)


def test_the_index_of_a_dicom_medium_is_left_out_with_a_notice(tmp_path, caplog):
    write_dicom(tmp_path / "DICOMDIR", grey(dtype=np.uint16))
    image = write_dicom(tmp_path / "IM0001", grey(dtype=np.uint16))
    with caplog.at_level("WARNING"):
        assert find_images(tmp_path) == [str(image)]
    assert "1 left out" in caplog.text
    assert "DICOMDIR" in caplog.text


def test_images_are_found_by_ending_or_mark_and_skipped_when_done(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("b.png", "a.JPEG", "holes/b.png", ".hidden.png"):
        write_picture(folder / name, grey())
    write_dicom(folder / "1.2.840", grey(dtype=np.uint16))
    (folder / "notes.txt").write_text("none")
    files = find_images(folder)
    assert [path.split("/")[-1] for path in files] == ["1.2.840", "a.JPEG", "b.png"]
    assert find_images(folder, only="x.png") == ["x.png"]
    own = {"provenance": {"synthetic": True}}
    SaveImaged("image", out, "sr", **own)(LoadImaged("image")({"image": files[2]}))
    assert [case["image"] for case in pending_cases(files, out, "sr", **own)] == files[:2]
    assert len(pending_cases(files, out, "sr", num_samples=2, **own)) == 3, "its maps are missing"
    assert len(pending_cases(files, out, "sr", overwrite=True, **own)) == 3
    assert find_partner(folder / "holes", files[2]) == str(folder / "holes" / "b.png")
    assert find_partner(folder / "holes", files[1]) == str(folder / "holes" / "a.JPEG")


def test_a_run_without_images_or_with_two_of_one_name_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/nowhere is no folder .*or image to one file"):
        check_run([], CheckedDataset([], dict), tmp_path, "/nowhere")
    files = [str(write_picture(tmp_path / name, grey())) for name in ("a.png", "a.jpg")]
    with pytest.raises(ValueError, match="the same output: rename one of them"):
        check_run(files, CheckedDataset([], dict), tmp_path)
