"""Bad input stops the run before any sampling, names the file and what was expected, and leaves nothing behind."""

from __future__ import annotations

import errno
import gzip
import re
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch

from tests.bundles.inference_runs import refused, run_inference, save_tiny_weights
from tests.fixtures import two_part_mask, write_nifti

NO_SAMPLING = {"inferer": "$lambda inputs, network: (_ for _ in ()).throw(AssertionError('sampled'))"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(save_tiny_weights(tmp_path_factory.mktemp("weights") / "model.pt"))


def truncated(path):
    write_nifti(path, np.random.default_rng(0).integers(0, 3, (24, 24, 24)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:2000])


def with_value(value, dtype=np.uint8):
    def write(path):
        mask = two_part_mask().astype(dtype)
        mask[0, 0, 0] = value
        write_nifti(path, mask)

    return write


def with_affine(values, place=...):
    """A file with this sform, or one with this value at one place of it; nibabel would not write it."""

    def write(path):
        affine = np.eye(4)
        affine[place] = values
        rows = {f"srow_{axis}": affine[i] for i, axis in enumerate("xyz")}
        write_raw(path, {**rows, "sform_code": 1, "qform_code": 0})

    return write


def with_sides(*sides):
    return lambda path: write_raw(path, {"dim": [3, *sides, 1, 1, 1, 1]})


def write_raw(path, fields):
    mask = two_part_mask().astype(np.uint8)
    header = nib.Nifti1Image(mask, np.eye(4)).header
    for name, value in {**fields, "vox_offset": 352, "magic": b"n+1"}.items():
        header[name] = value
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + mask.tobytes(order="F")))


BAD_MASKS = {
    "truncated file": (truncated, "damaged, cut off, or not a PNG, JPEG, NIfTI"),
    "no NIfTI file": (lambda path: path.write_bytes(b"no image"), "damaged, cut off, or not a PNG, JPEG, NIfTI"),
    "2D image": (
        lambda path: write_nifti(path, two_part_mask()[:, :, 6]),
        "a 3D volume was expected, got 17 x 22 x 1 voxels",
    ),
    "single slice": (lambda path: write_nifti(path, two_part_mask()[:, :, 6:7]), "a 3D volume was expected"),
    "4D image": (
        lambda path: write_nifti(path, np.stack([two_part_mask()] * 2, -1)),
        "got 17 x 22 x 13 x 2",
    ),
    "label 7": (with_value(7), r"label values \[7\] are not in the label dictionary .*'anterior': 1"),
    "empty mask": (lambda path: write_nifti(path, np.zeros((9, 9, 9), np.uint8)), "The mask is empty"),
    "missing label": (
        lambda path: write_nifti(path, (two_part_mask() == 1).astype(np.uint8)),
        r"required labels \['posterior'\] are missing",
    ),
    "NaN": (with_value(np.nan, np.float32), "1 of 4862 pixels are NaN or infinite"),
    "singular affine": (with_affine(np.diag([1.0, 1, 0, 1])), "an affine that places every voxel was expected"),
    "NaN translation": (with_affine(np.nan, (0, 3)), "an affine that places every voxel was expected"),
    "voxels of 200 mm": (
        with_affine(np.diag([200.0, 200, 200, 1])),
        r"17 x 22 x 13 voxels of 200 x 200 x 200 mm become 3.89e\+10 voxels of 1 x 1 x 1 mm; .*another unit",
    ),
    "metres": (
        with_affine(np.diag([0.001, 0.001, 0.001, 1])),
        "the image is 0.017 x 0.022 x 0.013 mm large, less than two voxels of 1 x 1 x 1 mm: another unit",
    ),
    "a negative side": (with_sides(-17, 22, 13), "sides of at least one voxel were expected, .* -17 x 22 x 13"),
    "fractions": (with_value(0.5, np.float32), r"whole numbers was expected, got \[0.5\]"),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_bad_mask_stops_the_run_and_is_named(tmp_path, weights, name):
    write, message = BAD_MASKS[name]
    write_nifti(tmp_path / "masks" / "a_good.nii.gz", two_part_mask())
    write(tmp_path / "masks" / "b_bad.nii.gz")
    out = tmp_path / "out"
    with refused(ValueError, f"1 of 2 inputs cannot be used:\n  .*b_bad.nii.gz: .*{message}"):
        run_inference(dataset_dir=str(tmp_path / "masks"), output_dir=str(out), weights=weights, **NO_SAMPLING)
    assert not out.exists()


def test_every_bad_mask_is_named_at_once(tmp_path, weights):
    with_value(7)(tmp_path / "masks" / "a.nii.gz")
    with_value(9)(tmp_path / "masks" / "b.nii.gz")
    with refused(ValueError, r"2 of 2 .*a.nii.gz: label values \[7\] .*b.nii.gz: label values \[9\]"):
        run_inference(dataset_dir=str(tmp_path / "masks"), output_dir=str(tmp_path), weights=weights, **NO_SAMPLING)


def test_a_mask_too_large_for_the_memory_is_refused(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**28))
    options = {"mask": str(write_nifti(tmp_path / "mask.nii.gz", two_part_mask((60, 64, 70)), np.eye(4)))}
    options |= {"weights": weights, "output_dir": str(tmp_path / "out"), **NO_SAMPLING}
    with refused(MemoryError, r"mask.nii.gz: Generating a volume of \(64, 64, 72\) needs about .* 0.2 GiB are free"):
        run_inference(**options)
    with refused(AssertionError, "sampled"):
        run_inference(check_memory=False, **options)


def test_a_missing_file_is_named(tmp_path, weights):
    missing = str(tmp_path / "nowhere.nii.gz")
    with refused(ValueError, re.escape(missing) + ": no such file"):
        run_inference(mask=missing, output_dir=str(tmp_path / "out"), weights=weights, **NO_SAMPLING)


def test_a_folder_without_masks_is_named(tmp_path, weights):
    with refused(FileNotFoundError, f"No image in {re.escape(str(tmp_path))} .*a label map, as NIfTI, DICOM"):
        run_inference(dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"), weights=weights, **NO_SAMPLING)


def test_two_masks_of_one_name_are_refused(tmp_path, weights):
    for ending in (".nii", ".nii.gz"):
        write_nifti(tmp_path / "masks" / f"case{ending}", two_part_mask())
    with refused(ValueError, "the same output: rename one of them"):
        run_inference(dataset_dir=str(tmp_path / "masks"), output_dir=str(tmp_path), weights=weights, **NO_SAMPLING)


def good_case(tmp_path):
    return {"mask": str(write_nifti(tmp_path / "case.nii.gz", two_part_mask())), "output_dir": str(tmp_path / "out")}


def test_the_checkpoint_of_another_network_is_refused_with_its_first_keys(tmp_path):
    other = tmp_path / "other.pt"
    torch.save({"conv.weight": torch.zeros(3)}, other)
    with refused(ValueError, r"other.pt does not fit .*missing \(conv_in.*unexpected \(conv.weight\)"):
        run_inference(**good_case(tmp_path), weights=str(other), **NO_SAMPLING)


def test_missing_weights_are_an_error_and_never_random(tmp_path):
    with refused(FileNotFoundError, r"No weights at .*nothing.pt"):
        run_inference(**good_case(tmp_path), weights=str(tmp_path / "nothing.pt"), **NO_SAMPLING)


def test_an_output_folder_that_is_a_file_is_named(tmp_path, weights):
    case = good_case(tmp_path)
    (tmp_path / "out").write_text("a file")
    with refused(OSError, r"output_dir cannot be written .*/out'"):
        run_inference(**case, weights=weights, **NO_SAMPLING)


def test_an_output_folder_on_a_read_only_disk_is_named(tmp_path, weights, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with refused(OSError, r"output_dir cannot be written \(Read-only file system\): .*/out'"):
        run_inference(**good_case(tmp_path), weights=weights, **NO_SAMPLING)


@pytest.mark.parametrize("victim", ["nibabel.save", "pathlib.Path.write_text"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, weights, monkeypatch, victim):
    def full(*args, **kwargs):
        if victim == "nibabel.save":
            Path(args[1]).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    case = good_case(tmp_path)
    monkeypatch.setattr(victim, full)
    with refused(OSError, r"No space left on device\): .*/out/case_mr.nii.gz'"):
        run_inference(**case, weights=weights)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    run_inference(**case, weights=weights)
    assert nib.load(tmp_path / "out" / "case_mr.nii.gz").shape == two_part_mask().shape
