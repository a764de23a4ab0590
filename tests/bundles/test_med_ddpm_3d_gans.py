"""The GANs that Med-DDPM is compared with: they train, resume, draw and are rows of one table."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import pytest
import torch
from monai.bundle import ConfigWorkflow

from common.features.segmenter import build_segmenter
from tests.bundles.inference_runs import TINY, inference_workflow, refused, save_tiny_weights
from tests.bundles.training import NETWORK, train, weights
from tests.fixtures import BUNDLE, DEVICE, two_part_mask, write_dataset, write_nifti

METHODS = ("pix2pix", "discogan")
EACH = pytest.mark.parametrize("method", METHODS)
OWN = {"pix2pix": NETWORK, "discogan": {"network_def#channels": [4, 8]}}
SMALL = {
    "device": DEVICE,
    "subject_of": "$lambda name: name",
    "max_epochs": 2,
    "num_previews": 1,
    "val_interval": 2,
    "checkpoint_interval": 1,
    "learning_rate": 0.003,
    "ema#momentum": 0.2,
    "ema#momentum_warmup": 0.2,
}
SMALL_D = {"pix2pix": {"d_network_def#channels": 4}, "discogan": {"d_channels": 4}}


def trained(method, data, output, *overlays, **overrides):
    given = {**SMALL, **OWN[method], **SMALL_D[method], **overrides}
    return train(data, output, "adversarial.json", f"train_{method}.json", *overlays, tiny=False, **given)


def drawing(*overlays, **given):
    """Inference with ``overlays`` and ``given`` alone, initialised."""
    files = [str(BUNDLE / "configs" / name) for name in ("inference.json", *overlays)]
    workflow = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **given)
    workflow.initialize()
    return workflow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 10)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The run of two epochs of each method, and the folder of it."""
    folder = tmp_path_factory.mktemp("runs")
    return {method: (trained(method, data, folder / method), folder / method) for method in METHODS}


@EACH
def test_it_trains_with_previews_and_a_held_out_error_that_curves_show(method, runs):
    _, output = runs[method]
    assert (output / "previews" / "epoch_0002.png").is_file()
    assert "held_out_mae" in (output / "progress.csv").read_text().splitlines()[0]


@EACH
def test_a_resumed_run_ends_with_the_same_weights(method, data, runs, tmp_path):
    whole, output = runs[method]
    shutil.copy(output / "checkpoint_epoch=1.pt", tmp_path)
    parts = weights(trained(method, data, tmp_path, "resume.json"))
    assert all(torch.equal(parts[key], value) for key, value in weights(whole).items())
    ends = [torch.load(folder / "checkpoint_epoch=2.pt", weights_only=True) for folder in (output, tmp_path)]
    assert all(torch.equal(ends[1]["d_network"][key], value) for key, value in ends[0]["d_network"].items())


@EACH
def test_it_draws_on_the_grid_of_any_mask(method, runs, tmp_path):
    _, output = runs[method]
    mask = write_nifti(tmp_path / "mask.nii.gz", two_part_mask())
    given = {"mask": str(mask), "run_dir": str(output), "output_dir": str(tmp_path / "out"), "spacing": None}
    workflow = drawing(f"{method}.json", **OWN[method], **given)
    assert workflow.check_properties() == []
    workflow.run()
    drawn, read = nib.load(tmp_path / "out" / "mask_mr.nii.gz"), nib.load(mask)
    assert drawn.shape == read.shape
    assert drawn.get_fdata().std() > 0
    record = json.loads((tmp_path / "out" / "mask_mr.json").read_text())
    assert (record["step_rule"], record["steps"]) == ("DirectSampler", 1)


@EACH
@pytest.mark.parametrize("generate_last", [True, False])
def test_it_draws_a_set_whatever_the_order_of_its_configs(method, generate_last, runs, tmp_path):
    order = (f"{method}.json", "generate.json")
    given = {"run_dir": str(runs[method][1]), "output_dir": str(tmp_path / "set"), "count": 2, **OWN[method]}
    drawing(*(order if generate_last else reversed(order)), **given).run()
    assert len(list((tmp_path / "set" / "images").glob("*.nii.gz"))) == 2
    with refused(ValueError, "draws the same for each"):
        drawing(*order, **{**given, "output_dir": str(tmp_path / "anew")}, reject=True).run()


@EACH
def test_missing_weights_say_what_makes_them(method, tmp_path):
    files = [str(BUNDLE / "configs" / name) for name in ("inference.json", f"{method}.json")]
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type="inference", weights=str(tmp_path / "no.pt"))
    workflow.initialize()
    with refused(FileNotFoundError, f"made by train_{method}.json"):
        workflow.run()


@pytest.mark.filterwarnings("ignore:fid")
def test_the_table_has_a_row_a_method(data, runs, tmp_path):
    torch.manual_seed(0)
    torch.save(build_segmenter().state_dict(), tmp_path / "segmenter.pt")
    given = {
        "dataset_dir": str(data),
        "output_dir": str(tmp_path / "eval"),
        "baseline_dir": str(tmp_path),
        "weights": str(save_tiny_weights(tmp_path / "weights" / "model.pt")),
        "segmenter_weights": str(tmp_path / "segmenter.pt"),
        "metrics#names": ["mse", "fid[equalised]", "ms_ssim", "mask_dice", "grain"],
    }
    for method, (_, output) in runs.items():
        shutil.copy(output / "model.pt", tmp_path / f"{method}.pt")
    sizes = {m: {key.replace("#", "::"): value for key, value in own.items()} for m, own in OWN.items()}
    given["baselines#settings"] = f"${sizes}"
    inference_workflow("evaluate.json", "baselines.json", **given, **TINY).run()
    result = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert list(result["methods"]) == ["med_ddpm", *METHODS, "original"]
    values = {name: row["metrics"] for name, row in result["methods"].items()}
    assert len({values[name]["mse"]["value"] for name in ("med_ddpm", *METHODS)}) == 3
    assert all({"mask consistency", "grain ratio"} <= set(values[name]) for name in METHODS)
    assert set(values["original"]) == {"ms_ssim", "mask_dice", "grain"}
    assert all(result["context"]["seconds_a_volume"][name] > 0 for name in ("med_ddpm", *METHODS))
