"""DICOM volumes: segmentations and series of label slices in, series of MR slices out, every place exact."""

from __future__ import annotations

import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from common.data.checks import opens
from common.data.dicom_volumes import write_series
from common.data.finder import find_images
from common.data.image_file import Unsuitable
from common.data.reader import LoadImaged, read_image
from common.data.writer import SaveImaged
from common.utils.files import sha256_of
from tests.bundles.inference_runs import refused, run_inference, save_tiny_weights
from tests.fixtures import oblique_affine, two_part_mask, write_nifti

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

SHAPE = (14, 18, 11)
NAMES = {"anterior": 1, "posterior": 2}
RECORD = {"bundle": "med_ddpm_3d", "version": "0.1.0", "run": "r"}


def lopsided_mask():
    """That looks like none of its reflections."""
    mask = two_part_mask(SHAPE)
    mask[: SHAPE[0] // 2, :, : SHAPE[2] // 2] = 0
    return mask


def segmentation(path, mask, affine, names=("Anterior", "Posterior"), kind="BINARY", **options):
    """A SEG of ``mask`` on the grid of an MR series, with its empty frames."""
    write_series(path.parent / "mr", mask.astype(np.int16), affine, RECORD, "made up")
    slices = [pydicom.dcmread(file) for file in sorted((path.parent / "mr").glob("*.dcm"))]
    shutil.rmtree(path.parent / "mr")
    labels = np.stack([one.pixel_array for one in slices]).astype(np.uint8)
    structure = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    about = [
        hd.seg.SegmentDescription(number, name, structure, structure, "MANUAL") for number, name in enumerate(names, 1)
    ]
    if kind != "LABELMAP":
        labels = np.stack([labels == number for number in range(1, len(names) + 1)], axis=-1)
        labels = labels.astype(float if kind == "FRACTIONAL" else np.uint8)
    new = {"series_instance_uid": hd.UID(), "series_number": 1, "sop_instance_uid": hd.UID(), "instance_number": 1}
    who = {"manufacturer": "m", "manufacturer_model_name": "m", "software_versions": "1", "device_serial_number": "1"}
    options = {"omit_empty_frames": False, **options}
    hd.seg.Segmentation(slices, labels, kind, about, **new, **who, **options).save_as(path)
    return path


def canonical(values, affine):
    """In RAS, so that the order of the slices in a file does not matter."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(values, dtype=np.float64), affine))
    return image.get_fdata(), image.affine


def same(image, values, affine):
    for found, wanted in zip(canonical(image.values[0], image.affine), canonical(values, affine)):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_is_the_mask_that_it_was_made_of(tmp_path, kind):
    mask, affine = lopsided_mask(), oblique_affine()
    path = segmentation(tmp_path / "a.dcm", mask, affine, kind=kind)
    same(read_image(path, NAMES), mask, affine)
    same(read_image(path, {"anterior": 5, "POSTERIOR": 0}), np.where(mask == 1, 5, 0), affine)
    with pytest.raises(Unsuitable, match=r"a.dcm: CR, .* was expected"):
        read_image(path)


def test_what_no_segmentation_can_be_is_said_with_its_name(tmp_path, caplog):
    mask, affine = two_part_mask(SHAPE), oblique_affine()
    path = segmentation(tmp_path / "a.dcm", mask, affine, names=("Anterior", "Cyst"))
    with pytest.raises(Unsuitable, match=r"a.dcm: segments called \['anterior', 'posterior'\] .* got \['Cyst'\] among"):
        read_image(path, NAMES)
    fractions = segmentation(tmp_path / "b.dcm", mask, affine, kind="FRACTIONAL")
    with pytest.raises(Unsuitable, match=r"b.dcm: a BINARY or LABELMAP segmentation was expected"):
        read_image(fractions, NAMES)
    empty = mask.copy()
    empty[:, :, :3] = 0
    with caplog.at_level("WARNING"):
        image = read_image(segmentation(tmp_path / "c.dcm", empty, affine, omit_empty_frames=True), NAMES)
    assert image.values.shape[3] < SHAPE[2]
    assert "those without a segment are not part of the result" in caplog.text


def test_a_series_of_label_slices_is_a_volume_whatever_its_files_are_called(tmp_path):
    mask, affine = lopsided_mask(), oblique_affine()
    write_series(tmp_path / "s", mask.astype(np.int16), affine, RECORD, "made up")
    names = np.random.default_rng(0).permutation(SHAPE[2])
    for path, name in zip(sorted((tmp_path / "s").iterdir()), names):
        path.rename(path.with_name(f"IM{name}"))
    same(read_image(tmp_path / "s"), mask, affine)
    before = sha256_of(tmp_path / "s")
    (tmp_path / "s" / "IM0").rename(tmp_path / "s" / "z")
    assert sha256_of(tmp_path / "s") == before
    (tmp_path / "s" / "z").rename(tmp_path / "elsewhere")
    assert sha256_of(tmp_path / "s") != before
    (tmp_path / "s" / "IM5").unlink()
    with pytest.raises(Unsuitable, match=r"/s: slices with a place each, at equal distances, were expected"):
        read_image(tmp_path / "s")
    write_series(tmp_path / "s", mask.astype(np.int16), affine, RECORD, "another")
    with pytest.raises(Unsuitable, match=r"/s: one series was expected, got 2"):
        read_image(tmp_path / "s")
    write_series(tmp_path / "t", mask.astype(np.int16), affine, RECORD, "made up")
    with pytest.raises(ValueError, match=r"a single image was expected, got a DICOM series"):
        LoadImaged("image")({"image": str(tmp_path / "t")})


def test_a_series_that_shows_dark_as_bright_is_refused(tmp_path):
    write_series(tmp_path / "s", lopsided_mask().astype(np.int16), oblique_affine(), RECORD, "made up")
    first = min((tmp_path / "s").iterdir())
    image = pydicom.dcmread(first)
    image.PhotometricInterpretation = "MONOCHROME1"
    image.save_as(first)
    with pytest.raises(Unsuitable, match=rf"^{first}: MONOCHROME2 was expected of slices \(1 of "):
        read_image(tmp_path / "s")


def test_a_series_with_a_slice_whose_values_are_all_one_is_refused(tmp_path):
    write_series(tmp_path / "s", lopsided_mask().astype(np.int16), oblique_affine(), RECORD, "made up")
    first = min((tmp_path / "s").iterdir())
    image = pydicom.dcmread(first)
    image.RescaleSlope, image.RescaleIntercept = 0, 0
    image.save_as(first)
    with pytest.raises(Unsuitable, match=rf"^{first}: a RescaleSlope other than 0 was expected"):
        read_image(tmp_path / "s")


@pytest.mark.parametrize("left", [140, 300, 600, -400, -5])
def test_a_slice_that_is_cut_off_is_named_and_ends_no_search(tmp_path, left):
    write_series(tmp_path / "case", lopsided_mask().astype(np.int16), np.eye(4), RECORD, "made up")
    cut = tmp_path / "case" / "0011.dcm"  # the last: the others are a volume without it
    cut.write_bytes(cut.read_bytes()[:left])
    assert find_images(tmp_path, recursive=True, series=True) == [str(tmp_path / "case")]
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'case'}.*0011\.dcm: "):
        read_image(tmp_path / "case")


@pytest.mark.parametrize("turn", [np.diag([1, 1, 1]), np.diag([1, 1, -1]), np.diag([-1, -1, 1])[:, [2, 0, 1]]])
def test_a_written_series_loads_back_with_its_voxels_and_its_exact_affine(tmp_path, turn):
    values = np.random.default_rng(0).integers(-300, 1000, SHAPE).astype(np.int16)
    affine = oblique_affine()
    affine[:3, :3] = affine[:3, :3] @ turn
    write_series(tmp_path / "s", values, affine, RECORD, "made up", "BRAIN")
    same(read_image(tmp_path / "s"), values, affine)
    image = LoadImage(reader="PydicomReader", image_only=True)(tmp_path / "s")
    for found, wanted in zip(canonical(image, np.asarray(image.affine)), canonical(values, affine)):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("package", ["itk", "SimpleITK"])
def test_itk_reads_the_same_place(tmp_path, package):
    library = pytest.importorskip(package)
    values = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
    write_series(tmp_path / "s", values, oblique_affine(), RECORD, "made up")
    if package == "itk":
        names = library.GDCMSeriesFileNames.New()
        names.SetDirectory(str(tmp_path / "s"))
        image = library.imread(list(names.GetInputFileNames()))
        array, direction = library.array_from_image(image), library.array_from_matrix(image.GetDirection())
    else:
        image = library.ReadImage(library.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
        array, direction = library.GetArrayFromImage(image), np.reshape(image.GetDirection(), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    for found, wanted in zip(canonical(array.T, affine), canonical(values, oblique_affine())):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_series_says_what_it_is_and_keeps_to_the_standard(tmp_path):
    values = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
    write_series(tmp_path / "s", values, oblique_affine(), RECORD, "made up", "BRAIN")
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "s").iterdir())]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({one.get(name) for one in slices}) == 1
    assert len({one.SOPInstanceUID for one in slices}) == len(slices) == SHAPE[2]
    assert [one.InstanceNumber for one in slices] == list(range(1, SHAPE[2] + 1))
    one = slices[3]
    assert (one[0x0008001C].value, list(one.ImageType)) == ("YES", ["DERIVED", "SECONDARY", "OTHER"])
    assert (one.PatientIdentityRemoved, str(one.PatientName), one.BodyPartExamined) == ("YES", "SYNTHETIC", "BRAIN")
    purpose = one.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodeMeaning) == ("109100", "Synthesizing Equipment")
    assert one.SeriesDescription.startswith("SYNTHETIC")
    assert "generated by a generative model" in one.ImageComments
    with pytest.raises(ValueError, match="body_part must be one of DICOM's terms"):
        SaveImaged("pred", tmp_path, body_part="TEDDY")
    if shutil.which("dciodvfy"):
        for path in sorted((tmp_path / "s").iterdir())[:2]:
            told = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
            errors = [line for line in told.splitlines() if line.startswith("Error") and "0x001c" not in line]
            assert not errors, "SyntheticData (0008,001c) is newer than the tool"


def test_segmentation_to_series_equals_the_nifti_way_bit_by_bit(tmp_path):
    mask, affine = lopsided_mask(), oblique_affine()
    (tmp_path / "in" / "study").mkdir(parents=True)
    source = segmentation(tmp_path / "in" / "study" / "case", mask, affine)
    weights = str(save_tiny_weights(tmp_path / "model.pt"))
    nifti = write_nifti(tmp_path / "case.nii.gz", mask, affine)
    run_inference(mask=str(nifti), output_dir=str(tmp_path / "nifti"), weights=weights)
    options = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out"), "weights": weights}
    run_inference(output_format="dicom", **options)
    wanted = nib.load(tmp_path / "nifti" / "case_mr.nii.gz")
    result = tmp_path / "out" / "study" / "case_mr"
    image = read_image(result)
    found, place = canonical(image.values[0], image.affine)
    expected, where = canonical(wanted.dataobj, wanted.affine)
    np.testing.assert_array_equal(found, expected)
    assert np.ptp(found) > 10
    np.testing.assert_allclose(place, where, atol=1e-5)  # NIfTI keeps single precision
    record = json.loads((tmp_path / "out" / "study" / "case_mr.json").read_text())
    assert (record["mask"], record["mask_sha256"]) == (source.name, sha256_of(source))
    assert (tmp_path / "out" / "study" / "case_mr_preview.png").is_file()
    run_inference(output_format="dicom", **options)  # done
    assert find_images(tmp_path / "out", recursive=True, series=True, kinds=["dicom"]) == [str(result)]
    assert opens(result)
    (result / f"{SHAPE[2]:04d}.dcm").unlink()  # the last, which leaves no gap
    assert not opens(result)
    run_inference(output_format="dicom", **options)
    assert sorted(path.name for path in result.iterdir()) == [f"{n + 1:04d}.dcm" for n in range(SHAPE[2])]
    write_series(tmp_path / "labels", mask.astype(np.int16), affine, RECORD, "made up")
    run_inference(mask=str(tmp_path / "labels"), output_dir=str(tmp_path / "series"), weights=weights)
    again = nib.load(tmp_path / "series" / "labels_mr.nii.gz")
    np.testing.assert_array_equal(canonical(again.dataobj, again.affine)[0], expected)


def test_what_no_series_can_hold_is_refused_before_the_sampling(tmp_path):
    sheared = oblique_affine()
    sheared[:3, 2] += 0.3 * sheared[:3, 0]
    path = write_nifti(tmp_path / "a.nii.gz", two_part_mask(SHAPE), sheared)
    options = {"output_format": "dicom", "output_dir": str(tmp_path / "out"), "mask": str(path), "network": None}
    with refused(ValueError, r"a.nii.gz: axes at right angles were expected"):
        run_inference(check_memory=False, weights=str(save_tiny_weights(tmp_path / "model.pt")), **options)
    with pytest.raises(ValueError, match="output_format must be one of"):
        SaveImaged("pred", tmp_path, output_format="jpeg", output_dtype="int16")
    with pytest.raises(ValueError, match="that is for generated volumes"):
        SaveImaged("pred", tmp_path, output_format="dicom")
