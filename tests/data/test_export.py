"""The export of an archive: nested folders, names that say nothing, files that are no images, patients."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess

import numpy as np
import pytest

from common.data.finder import find_images, kind_of
from common.data.names import OutputNames
from common.data.outputs import write_image
from common.data.reader import LoadImaged, read_image
from common.data.writer import SaveImaged
from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import (
    AS_IS,
    CR,
    DENOISE,
    INPAINT,
    MR,
    grey,
    pixels,
    restore,
    tiny_weights,
    write_dicom,
    write_picture,
)
from tests.fixtures import write_nifti

pydicom = pytest.importorskip("pydicom")
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"


def export(folder):
    """Two studies with images of one name, and all that an archive puts beside them."""
    for study, seed in (("DOE_JANE/ST1", 1), ("ROE_RICHARD/ST1", 2)):
        write_dicom(folder / study / "SE1" / "IM00001", grey(dtype=np.uint16, high=4095, seed=seed))
    write_dicom(folder / "DICOMDIR", grey(dtype=np.uint16))
    for name in ("LOCKFILE", "VERSION", ".DS_Store", "README.txt", "DOE_JANE/.hidden/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"none of your images, though longer than the mark of DICOM " * 9)
    write_nifti(folder / "x.nii.gz" / "x.nii", grey((20, 24), np.int16, 900))
    report = pydicom.dcmread(write_dicom(folder / "DOE_JANE" / "SR1", grey(dtype=np.uint16), REPORT))
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.save_as(folder / "DOE_JANE" / "SR1")
    (folder / "DOE_JANE" / "ST1" / "SE1" / "IM00001").rename(folder / "DOE_JANE" / "ST1" / "SE1" / "IM00001.png")
    return folder


def test_an_export_is_walked_and_what_is_no_image_is_counted_and_named(tmp_path, caplog):
    folder = export(tmp_path)
    with caplog.at_level("WARNING"):
        found = find_images(folder, recursive=True)
    names = [path.removeprefix(f"{folder}/") for path in found]
    assert names == ["DOE_JANE/ST1/SE1/IM00001.png", "ROE_RICHARD/ST1/SE1/IM00001", "x.nii.gz/x.nii"]
    assert kind_of(found[0]) == "dicom", "by its content, whatever its name"
    [notice] = caplog.messages
    assert "5 left out" in notice
    assert all(name in notice for name in ("DICOMDIR", "SR1", "LOCKFILE"))
    assert find_images(folder, recursive=True, leave_out=[folder / "DOE_JANE", found[1]]) == found[2:]
    assert find_images(folder, recursive=True, leave_out=[folder, folder.parent]) == found, "where a run may write"


def test_images_of_one_name_get_two_outputs_in_mirrored_folders(tmp_path):
    folder = export(tmp_path / "in")
    options = {
        "dataset_dir": str(folder),
        "output_dir": str(folder / "out"),
        "weights": tiny_weights(DENOISE, tmp_path),
    }
    restore(DENOISE, **options, **AS_IS)
    written = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.*") if path.is_file())
    stems = ["DOE_JANE/ST1/SE1/IM00001", "ROE_RICHARD/ST1/SE1/IM00001", "x.nii.gz/x"]
    endings = ["dcm", "dcm", "nii"]
    assert written == sorted(f"{s}_denoised.{e}" for s, end in zip(stems, endings) for e in (end, "json"))
    for stem, source in zip(stems, find_images(folder, recursive=True, leave_out=[folder / "out"])[:2]):
        np.testing.assert_array_equal(
            pydicom.dcmread(folder / "out" / f"{stem}_denoised.dcm").pixel_array, pydicom.dcmread(source).pixel_array
        )
    restore(DENOISE, **options, **AS_IS)  # finds its own outputs done, and takes none of them as an input
    assert len(list((folder / "out").rglob("*.json"))) == 3


def test_holes_are_looked_for_in_the_mirrored_folder_and_are_no_inputs(tmp_path):
    hole = np.zeros((30, 44), np.uint8)
    for name, place in (("a", 3), ("b", 15)):
        write_picture(tmp_path / "in" / name / "1.png", grey())
        hole[:] = 0
        hole[place : place + 9, 5:30] = 1
        write_picture(tmp_path / "in" / "holes" / name / "1.png", hole)
    options = {"dataset_dir": str(tmp_path / "in"), "hole": str(tmp_path / "in" / "holes")}
    restore(INPAINT, output_dir=str(tmp_path / "out"), weights=tiny_weights(INPAINT, tmp_path), **options)
    changed = [pixels(tmp_path / "out" / name / "1_inpainted.png") != grey() for name in "ab"]
    assert [int(np.flatnonzero(one.any(1))[0]) for one in changed] == [3, 15]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_anonymous_outputs_hold_no_name_of_an_input(tmp_path):
    folder = export(tmp_path / "in")
    (folder / "ZOE.png").write_bytes(b"cut")
    options = {"dataset_dir": str(folder), "weights": tiny_weights(DENOISE, tmp_path), "anonymous_names": True}
    table = tmp_path / "kept" / "names.csv"
    with refused(RuntimeError, "1 of 4 inputs were left out"):
        restore(DENOISE, output_dir=str(tmp_path / "out"), names_table=str(table), skip_bad=True, **options, **AS_IS)
    written = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    cases = [f"case_000{number}_denoised.{end}" for number, end in ((1, "dcm"), (2, "dcm"), (4, "nii"))]
    assert written == sorted([*cases, *(f"{case.split('.')[0]}.json" for case in cases), "skipped.csv"])
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert not any(name in content for name in (b"DOE", b"Doe", b"ROE", b"ZOE", b"IM00001", b"x.nii"))
    rows = list(csv.DictReader(table.open()))
    assert [row["name"] for row in rows] == [f"case_000{number}" for number in (1, 2, 3, 4)]
    assert rows[0]["file"].endswith("DOE_JANE/ST1/SE1/IM00001.png")
    record = json.loads((tmp_path / "out" / "case_0001_denoised.json").read_text())
    assert "image" not in record
    assert len(record["image_sha256"]) == 64
    with pytest.raises(ValueError, match=r"names_table .*: a table of names belongs to --anonymous_names True"):
        OutputNames(table=table)
    with pytest.raises(ValueError, match="contradict each other"):
        SaveImaged("pred", tmp_path, output_names=OutputNames(anonymous=True), link_to_patient=True)


def test_a_linked_result_is_filed_with_its_source_and_nothing_else_is_taken_over(tmp_path, caplog):
    tags = {
        "StudyID": "7",
        "AccessionNumber": "A1",
        "InstitutionName": "Jane's clinic",
        "SpecificCharacterSet": "ISO_IR 100",
    }
    tags |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0], "StudyTime": "101500"}
    tags |= {"PatientPosition": "HFS", "FrameOfReferenceUID": "1.2.3", "PatientName": "Doë^Jane"}
    path = write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16, high=4095), MR, **tags)
    case = {"pred": LoadImaged("image")({"image": str(path)})["image"]}
    for linked in (False, True):
        with caplog.at_level("WARNING"):
            SaveImaged("pred", tmp_path / str(linked), "x", link_to_patient=linked)(case)
        assert ("name the patients of their sources" in caplog.text) is linked
    source = pydicom.dcmread(path)
    plain, new = (pydicom.dcmread(tmp_path / linked / "a_x.dcm") for linked in ("False", "True"))
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "AccessionNumber", "FrameOfReferenceUID"):
        assert new.get(name) == source.get(name) != plain.get(name)
    assert new.PatientIdentityRemoved == "NO"
    assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert new.SeriesInstanceUID != source.SeriesInstanceUID
    assert "SourceImageSequence" not in plain
    assert "clinic" not in str(new)
    assert new[0x0008001C].value == "YES"


@pytest.mark.parametrize("missing", ["PatientID", "StudyInstanceUID", "SOPInstanceUID"])
def test_a_source_that_does_not_say_whose_it_is_cannot_be_linked_and_can_be_restored(tmp_path, missing):
    path = write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16, high=4095), MR)
    source = pydicom.dcmread(path)
    delattr(source, missing)
    pydicom.dcmwrite(path, source)
    with pytest.raises(ValueError, match=rf"a\.dcm: link_to_patient needs {missing} of the source"):
        LoadImaged("image", link_to_patient=True)({"image": str(path)})
    assert LoadImaged("image")({"image": str(path)})["image"].shape[0] == 1


def test_a_linked_result_keeps_to_the_standard(tmp_path):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    path = write_dicom(tmp_path / "a.dcm", grey(dtype=np.uint16, high=4095), CR, ImagerPixelSpacing=[0.2, 0.2])
    image = read_image(path)
    write_image(tmp_path / "b.dcm", image.values[0], image, image.affine, {"run": "r"}, link_to_patient=True)
    told = subprocess.run(["dciodvfy", tmp_path / "b.dcm"], capture_output=True, text=True).stderr
    errors = [line for line in told.splitlines() if line.startswith("Error") and "0x001c" not in line]
    assert not errors, "SyntheticData (0008,001c) is newer than the tool"
