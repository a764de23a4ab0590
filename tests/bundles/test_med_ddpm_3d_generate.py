"""From masks to a set with volumes, a segmenter trained on it, and its label maps."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from common.evaluation.folders import ImageFolder
from common.masks.mask_set import mask_set
from common.studies.volume_set import training_cases
from common.utils.files import sha256_of
from tests.bundles.inference_runs import refused, run_inference, save_tiny_weights
from tests.fixtures import BUNDLE, two_part_mask, write_dataset, write_nifti

MODEL = str(BUNDLE / "models" / "shape_model.npz")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(save_tiny_weights(tmp_path_factory.mktemp("weights") / "model.pt"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory, weights):
    """Two volumes of drawn masks."""
    folder = tmp_path_factory.mktemp("generated")
    generate(folder, weights)
    return folder


def generate(folder, weights, **given):
    given = {"count": 2, "check_quality": False, **given}
    run_inference("generate.json", output_dir=str(folder), weights=weights, **given)


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_masks_and_volumes_go_to_two_folders_with_manifest_and_sheet(generated):
    names = ["mask_000.nii.gz", "mask_001.nii.gz"]
    assert sorted(path.name for path in (generated / "labels").iterdir()) == names
    assert sorted(path.name for path in (generated / "images").glob("*.nii.gz")) == names
    assert (generated / "contact_sheet.png").is_file()
    rows = list(csv.DictReader((generated / "manifest.csv").open()))
    assert [(row["path"], row["mask"]) for row in rows] == [(f"images/{name}", f"labels/{name}") for name in names]
    assert {row["synthetic"] for row in rows} == {"True"}
    for row in rows:
        volume, mask = nib.load(generated / row["path"]), nib.load(generated / row["mask"])
        assert volume.shape == mask.shape
        np.testing.assert_allclose(volume.affine, mask.affine, atol=1e-5)


def test_a_set_that_was_killed_becomes_the_same_set(generated, weights, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(generated, half)
    for name in ("images/mask_001.nii.gz", "images/mask_001.json", "manifest.csv", "contact_sheet.png"):
        (half / name).unlink()
    cut = half / "labels" / "mask_000.nii.gz"
    cut.write_bytes(cut.read_bytes()[:200])
    generate(half, weights)
    assert bytes_of(half) == bytes_of(generated)
    with refused(FileExistsError, "was made with steps 2, now it is 3"):
        generate(half, weights, num_inference_steps=3)


def test_processes_that_share_a_set_draw_the_same_set(generated, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        assert not (tmp_path / "set" / "manifest.csv").exists()
        monkeypatch.setenv("RANK", str(rank))
        generate(tmp_path / "set", weights)
        drawn = [path.name for path in sorted((tmp_path / "set" / "images").glob("*.nii.gz"))]
        assert drawn == ["mask_000.nii.gz", "mask_001.nii.gz"][rank:]
    assert bytes_of(tmp_path / "set") == bytes_of(generated)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with refused(ValueError, "At most as many processes as masks"):
        generate(tmp_path / "more", weights)


def test_layout_of_nnunet(weights, tmp_path):
    masks = tmp_path / "masks"
    write_nifti(masks / "a.nii.gz", two_part_mask(), np.eye(4))
    turn = {"_target_": "RandAffined", "keys": "mask", "prob": 1.0, "rotate_range": [0.3, 0.3, 0.3], "mode": "nearest"}
    generate(tmp_path / "Dataset501_Mine", weights, layout="nnunet", masks_dir=str(masks), edits=[turn], seed=5)
    root = tmp_path / "Dataset501_Mine"
    assert sorted(path.name for path in (root / "imagesTr").glob("*.nii.gz")) == [
        "a_005_0000.nii.gz",
        "a_006_0000.nii.gz",
    ]
    assert sorted(path.name for path in (root / "labelsTr").iterdir()) == ["a_005.nii.gz", "a_006.nii.gz"]
    content = json.loads((root / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "anterior": 1, "posterior": 2}
    assert (content["numTraining"], content["file_ending"], content["channel_names"]) == (2, ".nii.gz", {"0": "MR"})
    first, second = (nib.load(path).get_fdata() for path in sorted((root / "labelsTr").iterdir()))
    assert (first != second).any()
    assert set(np.unique(first)) == {0, 1, 2}
    assert ImageFolder(root).names == ["a_005_0000", "a_006_0000"]


@pytest.mark.parametrize("given", [{"output_format": "dicom"}, {"anonymous_names": True}])
def test_volumes_that_would_not_be_found_by_their_masks_are_refused_before_any_is_drawn(given, weights, tmp_path):
    with refused(ValueError, "leave out output_format and anonymous_names"):
        generate(tmp_path / "set", weights, **given)
    assert not (tmp_path / "set").exists()


def test_masks_of_another_draw_are_refused(tmp_path):
    (path,) = mask_set(tmp_path, 1, seed=3, model=MODEL)
    shutil.copy(path, tmp_path / "mask_004.nii.gz")
    with pytest.raises(FileExistsError, match=r"mask_004\.nii\.gz is another mask"):
        mask_set(tmp_path, 2, seed=3, model=MODEL)
    assert mask_set(tmp_path, 2, seed=3, model=MODEL, overwrite=True)[1].endswith("mask_004.nii.gz")
    with pytest.raises(ValueError, match="a folder of NIfTI masks was expected"):
        mask_set(tmp_path / "out", 1, masks_dir=tmp_path / "none")


def test_a_set_is_taken_as_it_is_by_compare_and_by_the_segmenter(generated, tmp_path):
    assert ImageFolder(generated).names == ["mask_000", "mask_001"]
    real = [{"image": "i", "label": "l", "case": "c", "group": "g"}]
    assert [len(training_cases(real, generated, kind)) for kind in ("real", "synthetic", "real_plus_synthetic")] == [
        1,
        2,
        3,
    ]
    with pytest.raises(FileNotFoundError, match=r"run generate\.json to its end"):
        training_cases(real, tmp_path)


def test_a_segmenter_of_both_is_trained_tested_on_real_and_applied(generated, tmp_path):
    data = write_dataset(tmp_path / "data", 5)
    configs = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "train_segmenter", "study_segmentation")]
    given = {"dataset_dir": str(data), "synthetic_dir": str(generated), "output_dir": str(tmp_path / "run")}
    run = ConfigWorkflow(configs, "train", logging_file=False, max_epochs=1, batch_size=2, spacing=None, **given)
    run.initialize()
    run.run()
    run.finalize()
    assert len(run.parser.get_parsed_content("training_cases")) == 4 + 2
    score = list(csv.DictReader((tmp_path / "run" / "progress.csv").open()))[-1]
    assert 0 <= float(score["mean_dice"]) <= 1
    out = tmp_path / "out"
    configs = [str(BUNDLE / "configs" / f"{name}.json") for name in ("inference", "segment")]
    given = {"dataset_dir": str(data / "images"), "output_dir": str(out), "weights": str(tmp_path / "run/segmenter.pt")}
    apply = ConfigWorkflow(configs, "inference", logging_file=False, **given)
    apply.initialize()
    apply.run()
    for path in (data / "images").iterdir():
        image, found = nib.load(path), nib.load(out / path.name.replace(".nii.gz", "_seg.nii.gz"))
        assert (found.shape, found.get_data_dtype()) == (image.shape, np.uint8)
        assert set(np.unique(found.get_fdata())) <= {0, 1, 2}


def test_a_volume_out_of_the_ranges_is_drawn_anew_and_the_manifest_says_so(weights, tmp_path):
    segmenter = BUNDLE / "models" / "segmenter.pt"
    labels = {"anterior": 1, "posterior": 2}
    content = {"ranges": {"grain": [-2, -1]}, "labels": labels, "segmenter_sha256": sha256_of(segmenter)}
    (tmp_path / "quality.json").write_text(json.dumps(content))
    generate(tmp_path / "out", weights, quality=str(tmp_path / "quality.json"), count=1, reject=True, tries=2)
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").open()))
    assert [(row["quality_draws"], row["quality_failed"]) for row in rows] == [("2", "grain")]
    assert all(0 <= float(row["quality_dice"]) <= 1 for row in rows)
    record = json.loads((tmp_path / "out" / "images" / "mask_000.json").read_text())
    assert record["quality"]["draws"] == record["tries"] == 2
