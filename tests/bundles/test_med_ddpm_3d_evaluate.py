from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from common.features.segmenter import Segmenter, build_segmenter
from tests.bundles.inference_runs import inference_workflow, refused, save_tiny_weights
from tests.fixtures import BUNDLE, DEVICE, write_dataset


@pytest.fixture
def files(tmp_path):
    """Ten cases of five subjects, and weights of a tiny denoiser and an untrained segmenter."""
    torch.manual_seed(0)
    torch.save(build_segmenter().state_dict(), tmp_path / "segmenter.pt")
    return {
        "dataset_dir": str(write_dataset(tmp_path / "data", cases=10)),
        "output_dir": str(tmp_path / "eval"),
        "weights": str(save_tiny_weights(tmp_path / "model.pt")),
        "segmenter_weights": str(tmp_path / "segmenter.pt"),
        "device": DEVICE,
    }


@pytest.mark.filterwarnings("ignore:fid")
def test_held_out_subjects_are_generated_and_measured(files, tmp_path):
    workflow = inference_workflow("evaluate.json", **files)
    train, held_out = workflow.parser.get_parsed_content("split")
    workflow.run()
    result = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    metrics = result["metrics"]
    assert result["context"]["precision"] == "fp32"
    assert len(held_out) == 2
    assert not {case["group"] for case in held_out} & {case["group"] for case in train}
    assert {name.split("[")[0] for name in metrics} == {
        *("mse", "mmd", "fid", "kid", "ms_ssim", "ms_ssim_real", "ms_ssim_paired", "grain", "grain_real"),
        *("grain_ratio", "mask_dice", "mask_dice_real", "mask_consistency", "acutance", "acutance_ratio"),
        *("precision", "recall", "density", "coverage"),
    }
    assert {"acutance[generated]", "acutance[real]"} < set(metrics)
    networks = {name: name.partition("[")[2].rstrip("]") for name in metrics if name.startswith(("fid", "kid"))}
    assert {label.split("-")[0].split(",")[0] for label in networks.values()} == {
        *("hippocampus_segmenter", "hippocampus_v1")
    }
    assert {"kid[hippocampus_v1]", "fid[hippocampus_v1]", "recall[hippocampus_v1]"} < set(metrics)
    too_few = {name for name, entry in metrics.items() if entry["value"] is None}
    assert {name.split("[")[0] for name in too_few} == {"precision", "recall", "density", "coverage"}
    assert all("are needed, got 2 and 2" in metrics[name]["warning"] for name in too_few)
    assert metrics["mse"]["n"] == metrics["grain"]["n"] == 2
    assert set(metrics["mask_dice"]["per_label"]) == {"anterior", "posterior"}
    ratio = metrics["mask_dice"]["value"] / metrics["mask_dice_real"]["value"]
    assert metrics["mask_consistency"]["value"] == pytest.approx(ratio)
    assert result["context"]["steps"] == 2
    assert (tmp_path / "eval" / "metrics.md").read_text().count("\n") == len(metrics) + 2


def test_every_case_of_a_test_set_can_be_measured(files):
    content = inference_workflow("evaluate.json", **files, all_cases=True).parser.get_parsed_content
    assert len(content("dataset")) == len(content("cases")) > 2


def change(path, edit):
    """Write a volume again as ``edit`` of its voxels and its affine gives it."""
    image = nib.load(path)
    nib.save(nib.Nifti1Image(*edit(np.asarray(image.dataobj), image.affine)), path)


def test_all_pairs_that_do_not_fit_are_named_before_anything_is_sampled(files, tmp_path):
    labels, images = tmp_path / "data" / "labels", tmp_path / "data" / "images"
    change(labels / "case_001.nii.gz", lambda voxels, affine: (voxels, np.diag([1.0, 1, 1.2, 1])))
    change(labels / "case_002.nii.gz", lambda voxels, affine: (voxels[:-1], affine))
    change(labels / "case_003.nii.gz", lambda voxels, affine: (voxels * 0.9, affine))
    change(images / "case_004.nii.gz", lambda voxels, affine: (voxels * 0 + 7, affine))
    given = {**files, "all_cases": True, "inferer": "$lambda *args, **kwargs: 1 / 0"}
    found = "4 of 10 .*001.nii.gz lie on different grids.*002.nii.gz have different shapes.*003.nii.gz: a label map of "
    with refused(ValueError, f"{found}.*004.nii.gz: percentiles 0.5 and 99.5 are both 7; contrast was expected"):
        inference_workflow("evaluate.json", **given).run()


def test_volumes_are_measured_at_the_spacing_of_the_network(files, tmp_path):
    for folder in ("images", "labels"):
        change(tmp_path / "data" / folder / "case_001.nii.gz", lambda voxels, _: (voxels, np.diag([1.0, 1, 2, 1])))
    data = inference_workflow("evaluate.json", **files, all_cases=True).parser.get_parsed_content("dataset")
    assert data[0]["image"].shape[1:] == data[0]["label"].shape[1:] == (18, 22, 33)


def test_audit_compares_with_the_training_volumes(files):
    workflow = inference_workflow("evaluate.json", **files, audit=True)
    metric = workflow.parser.get_parsed_content("metrics")["memorisation"]
    train, _ = workflow.parser.get_parsed_content("split")
    assert (len(metric.train), metric.key) == (len(train), "label")
    assert metric.train[0]["label"].shape[0] == 1
    assert "memorisation" not in inference_workflow("evaluate.json", **files).parser.get_parsed_content("metrics")


def test_missing_weights_stop_it_before_sampling(files, tmp_path):
    files["segmenter_weights"] = str(tmp_path / "none.pt")
    with refused(FileNotFoundError, "train_segmenter.json"):
        inference_workflow("evaluate.json", **files).run()
    assert not (tmp_path / "eval" / "metrics.json").exists()


def test_segmenter_config_trains_what_evaluation_loads_and_writes_nothing_when_stopped(files, tmp_path):
    configs = [str(BUNDLE / "configs" / name) for name in ("train.json", "train_segmenter.json")]
    given = {key: files[key] for key in ("dataset_dir", "output_dir", "device")}
    workflow = ConfigWorkflow(
        configs, workflow_type="train", logging_file=False, segmenter_dir=str(tmp_path / "new"), max_epochs=1, **given
    )
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    with trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: 1 / 0), refused(ZeroDivisionError, "division"):
        workflow.run()
    assert not (tmp_path / "new" / "segmenter.pt").exists()
    workflow.run()
    Segmenter(build_segmenter(), tmp_path / "new" / "segmenter.pt")
