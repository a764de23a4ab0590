"""insert.json and edit_mask.json: a label of a user's own volume moved, every other voxel kept."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from tests.bundles.inference_runs import refused, run_inference, save_tiny_weights
from tests.fixtures import BUNDLE, oblique_affine, two_part_mask, write_nifti

GROW = [{"_target_": "scripts.masks.editor.ScaleLabelsd", "keys": "mask", "labels": [1], "factor": 1.4}]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(save_tiny_weights(tmp_path_factory.mktemp("weights") / "model.pt"))


@pytest.fixture
def data(tmp_path):
    affine, mask = oblique_affine(), two_part_mask((24, 30, 20))
    values = np.random.default_rng(0).integers(0, 900, mask.shape).astype(np.int16)
    write_nifti(tmp_path / "data" / "images" / "case.nii.gz", values, affine)
    write_nifti(tmp_path / "data" / "labels" / "case.nii.gz", mask, affine)
    return tmp_path / "data"


def test_voxels_outside_the_margin_are_bit_equal(tmp_path, data, weights):
    run_inference(
        "insert.json", dataset_dir=str(data), output_dir=str(tmp_path / "out"), weights=weights, edits=GROW, margin=1.0
    )
    before, after = nib.load(data / "images" / "case.nii.gz"), nib.load(tmp_path / "out" / "case_inserted.nii.gz")
    assert after.get_data_dtype() == before.get_data_dtype()
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    changed = np.asarray(after.dataobj) != np.asarray(before.dataobj)
    mask = np.asarray(nib.load(data / "labels" / "case.nii.gz").dataobj)
    assert 0 < changed.mean() < 0.5
    assert changed[mask == 1].any() or changed[mask == 0].any()
    record = json.loads((tmp_path / "out" / "case_inserted.json").read_text())
    assert record["mask"].endswith("case.nii.gz")
    assert record["blend"] == 1
    assert record["edits"] == [{"edit": "ScaleLabelsd", "labels": [1], "parent": 0, "factor": 1.4}]
    assert (tmp_path / "out" / "case_inserted_preview.png").is_file()


def test_what_comes_next_is_no_evaluation_of_the_edit(data):
    files = [str(BUNDLE / "configs" / name) for name in ("inference.json", "insert.json")]
    run = ConfigWorkflow(files, workflow_type="inference", logging_file=False, dataset_dir=str(data), output_dir="out")
    run.initialize()
    assert run.parser.get_parsed_content("next") == "look at the changed regions in the previews in out"


def test_an_edited_mask_is_compared_with_the_one_before_it(tmp_path, data, weights):
    edited = run_edit(mask=str(data / "labels" / "case.nii.gz"), output_dir=str(tmp_path / "masks"), edits=GROW)
    given = {
        "mask": edited,
        "before": str(data / "labels"),
        "dataset_dir": str(data),
        "weights": weights,
        "margin": 1.0,
    }
    run_inference("insert.json", output_dir=str(tmp_path / "a"), **given)
    run_inference(
        "insert.json", output_dir=str(tmp_path / "b"), dataset_dir=str(data), weights=weights, edits=GROW, margin=1.0
    )
    one, other = (nib.load(tmp_path / name / "case_inserted.nii.gz") for name in "ab")
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    for name, own in (
        ("a", given),
        ("b", {"dataset_dir": str(data), "weights": weights, "edits": GROW, "margin": 1.0}),
    ):
        before = (tmp_path / name / "case_inserted.nii.gz").stat().st_mtime_ns
        run_inference("insert.json", output_dir=str(tmp_path / name), **own)
        assert (tmp_path / name / "case_inserted.nii.gz").stat().st_mtime_ns == before, "it is done"


def test_a_mask_without_an_edit_is_refused(tmp_path, data, weights):
    with refused(ValueError, r"case\.nii\.gz: an edited label map was expected"):
        run_inference("insert.json", dataset_dir=str(data), output_dir=str(tmp_path / "out"), weights=weights)


def run_edit(**overrides):
    """The one file that edit_mask.json writes."""
    files = [str(BUNDLE / "configs" / name) for name in ("mask_generator.json", "edit_mask.json")]
    workflow = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **overrides)
    workflow.initialize()
    return workflow.parser.get_parsed_content("edit")[0]
