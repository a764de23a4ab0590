"""Whole heads prepared for training as the paper did it: registered, outliers removed, cropped and resized."""

from __future__ import annotations

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from scipy import ndimage

from common.transforms.registration import RegisterToTemplated
from tests.bundles.inference_runs import refused
from tests.fixtures import BUNDLE, write_nifti


def run(folder, **given):
    given = {"crop_size": [24, 24, 24], "spatial_size": [16, 16, 16], "output_dir": str(folder / "out"), **given}
    config = str(BUNDLE / "configs" / "preprocess.json")
    work = ConfigWorkflow([config], "infer", logging_file=False, dataset_dir=str(folder), **given)
    work.initialize()
    work.run()


def head(shape=(30, 26, 22), shift=(0.0, 0.0, 0.0)):
    """An ellipsoid with two spots, in the middle or shifted by voxels."""
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"))
    grid = grid - np.reshape(shift, (3, 1, 1, 1))
    inside = (grid / np.reshape([10, 8, 7], (3, 1, 1, 1)) ** 2 * grid).sum(0) < 1
    spots = sum(10 * (((grid - np.reshape(at, (3, 1, 1, 1))) ** 2).sum(0) < 9) for at in ((4, 2, 1), (-3, -3, 2)))
    return ndimage.gaussian_filter(inside * (20.0 + spots), 0.7)


@pytest.fixture
def raw(tmp_path):
    values = head()
    values[0, 0, 0] = 5000  # an outlier
    write_nifti(tmp_path / "images" / "a.nii.gz", values.astype(np.float32), np.diag([-1.0, 1, 1, 1]))
    write_nifti(tmp_path / "labels" / "a.nii.gz", (head() > 10).astype(np.uint8), np.diag([-1.0, 1, 1, 1]))
    return tmp_path


def test_a_data_set_without_outliers_on_the_papers_grid(raw):
    run(raw)
    volume, label = (nib.load(raw / "out" / folder / "a.nii.gz") for folder in ("images", "labels"))
    assert (volume.shape, label.shape) == ((16, 16, 16), (16, 16, 16))
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    np.testing.assert_allclose(volume.header.get_zooms(), 1.5, atol=1e-5)
    np.testing.assert_allclose(volume.affine, label.affine)
    values, inside = np.asarray(volume.dataobj), np.asarray(label.dataobj) > 0
    assert values[inside].min() > 100, "one bright voxel does not make the head dark"
    assert values.max() <= 1000
    assert set(np.unique(label.dataobj)) == {0, 1}
    before = (raw / "out" / "images" / "a.nii.gz").stat().st_mtime_ns
    run(raw)
    assert (raw / "out" / "images" / "a.nii.gz").stat().st_mtime_ns == before
    record = json.loads((raw / "out" / "images" / "a.json").read_text())
    assert (record["synthetic"], record["preprocessing"]["template"]) == (False, None)
    with refused(FileExistsError, "was made with preprocessing"):
        run(raw, outliers=[1.0, 99.0])


def test_names_with_dots_and_of_several_folders_stay_apart(tmp_path):
    for name in ("head.1", "head.2", "site/head.1"):
        write_nifti(tmp_path / "images" / f"{name}.nii.gz", head().astype(np.float32))
    run(tmp_path)
    found = sorted(path.name for path in (tmp_path / "out" / "images").glob("*.nii.gz"))
    assert found == ["head.1.nii.gz", "head.2.nii.gz", "site_head.1.nii.gz"]


def test_what_is_missing_is_named(raw, monkeypatch):
    with refused(FileNotFoundError, "template.nii.gz: no such file"):
        run(raw, template=str(raw / "template.nii.gz"))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with refused(ImportError, "pip install -r requirements-registration.txt"):
        run(raw, template=str(raw / "images" / "a.nii.gz"))
    write_nifti(raw / "images" / "site" / "a.nii.gz", head().astype(np.float32))
    with refused(ValueError, r"No label in .*labels for \['site_a'\]"):
        run(raw)
    with refused(FileNotFoundError, "No folder .*images: set dataset_dir"):
        run(raw / "none")


def test_a_head_is_brought_to_the_template_with_its_label():
    pytest.importorskip("SimpleITK")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    moved = head(shift=(2.5, -1.5, 1.0))
    case = {
        "template": MetaTensor(torch.from_numpy(head()[None]), affine=affine),
        "image": MetaTensor(torch.from_numpy(100 - moved[None]), affine=affine),  # another contrast
        "label": MetaTensor(torch.from_numpy((moved[None] > 10).astype(np.float64)), affine=affine),
    }
    found = RegisterToTemplated(["image", "label"], mode=["bilinear", "nearest"])(case)
    want = head() > 10
    overlap = [
        2 * (want & (label > 0.5)).sum() / (want.sum() + (label > 0.5).sum())
        for label in (case["label"][0].numpy(), found["label"][0].numpy())
    ]
    assert overlap[0] < 0.85
    assert overlap[1] > 0.9
    assert torch.equal(found["image"], RegisterToTemplated("image")(case)["image"]), "the same again"
