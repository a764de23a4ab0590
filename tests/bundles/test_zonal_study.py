"""The zonal study, whole, on simulated prostates: segmenter, restoration at each factor, table, curve."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from common.data.lists import slice_cases
from common.data.reader import LoadSliced
from common.data.splits import split_cases
from common.masks.__main__ import prostate
from common.masks.prostate import prostate_phantom
from tests.bundles.inference_runs import TINY_NETWORK, refused
from tests.bundles.restoration_runs import SUPERRES, folder_of, tiny_state, tiny_weights

FACTORS = [2**1.5, 16.0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("Task05_Prostate")
    prostate(folder, 7, (40, 36, 5), (2.8, 2.8, 9.0))
    prostate(folder, 1, (36, 40, 7), (2.8, 2.8, 7.0), seed=7)  # as there, sides differ
    return folder


def study(data, output, **given):
    configs = [str(folder_of(SUPERRES) / "configs" / f"{name}.json") for name in ("train", "study_zonal")]
    small = {"spatial_size": [32, 32], "factors": FACTORS, "num_inference_steps": 2, "warmup": 1}
    tiny = {f"network_def::{name}": value for name, value in TINY_NETWORK.items()}
    tiny["baselines::settings"] = {"regression": dict(tiny)}
    given = {"dataset_dir": str(data), "output_dir": str(output), "evaluation_given": tiny, **small, **given}
    return ConfigWorkflow(configs, "train", logging_file=False, **given)


def run(workflow):
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    weights = tiny_weights(SUPERRES, folder)
    torch.save(tiny_state(SUPERRES, "regression.json"), folder / "regression.pt")
    return run(study(data, folder / "out", max_epochs=8, weights=weights, baseline_dir=str(folder))), folder / "out"


def test_one_command_gives_dice_of_both_zones_at_every_factor_with_intervals(whole):
    _, out = whole
    rows = json.loads((out / "zonal.json").read_text())["rows"]
    titles = ("bilinear", "bicubic", "Med-cDiff (DPMSolverPP2M, 2 steps)", "original", "regression U-Net")
    assert list(rows)[:10] == [f"{title}, {zone}" for zone in ("PZ", "TZ") for title in titles]
    assert {len(row) for row in rows.values()} == {len(FACTORS)}
    clean = [entry["value"] for zone in ("PZ", "TZ") for entry in rows[f"original, {zone}"].values()]
    assert clean[0] == clean[1] > 0.3, "the segmenter has learned something, and clean images know no factor"
    worst = rows["bilinear, TZ"]
    assert worst["2.8284"]["value"] > worst["16.0000"]["value"], "fewer pixels, less of the zone"
    entry = rows["bilinear, PZ"]["16.0000"]
    assert entry["n"] == 2
    assert entry["interval95"][0] <= entry["value"] <= entry["interval95"][1]
    assert next(csv.reader((out / "zonal.csv").open())) == ["patient", "factor", "method", "PZ", "TZ"]
    assert len((out / "zonal.csv").read_text().splitlines()) == 1 + 2 * len(FACTORS) * len(titles)
    assert "| factor 2√2 | factor 16 |" in (out / "zonal.md").read_text()
    assert (out / "zonal.png").stat().st_size > 10_000
    difference = rows["regression U-Net less bilinear, TZ"]["16.0000"]["value"]
    assert difference == pytest.approx(rows["regression U-Net, TZ"]["16.0000"]["value"] - worst["16.0000"]["value"])


def test_its_test_patients_are_those_that_the_slices_config_holds_out(whole, data):
    workflow, _ = whole
    slices = split_cases(slice_cases(data / "imagesTr", channel=0), [0.8, 0.2])
    assert {case["group"] for case in slices[1]} == {
        case["case"] for case in workflow.parser.get_parsed_content("split")[1]
    }


def test_a_trained_segmenter_is_taken_as_it_is(whole, data, tmp_path):
    _, out = whole
    weights = tiny_weights(SUPERRES, tmp_path)
    given = {"segmenter_weights": str(out / "segmenter.pt"), "factors": [4.0], "baseline_dir": str(tmp_path / "none")}
    run(study(data, tmp_path / "again", weights=weights, **given))
    again, first = (json.loads((folder / "zonal.json").read_text())["rows"] for folder in (tmp_path / "again", out))
    assert again["original, PZ"]["4.0000"]["value"] == first["original, PZ"]["16.0000"]["value"]
    assert not (tmp_path / "again" / "model.pt").exists()


def test_missing_data_are_named_with_where_to_get_them(data, tmp_path):
    with refused(FileNotFoundError, r"Task05_Prostate of the .*medicaldecathlon\.com .*CC-BY-SA 4\.0"):
        run(study(tmp_path / "none", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    own = tiny_weights(SUPERRES, tmp_path)
    with refused(FileNotFoundError, r"No segmenter at .*none\.pt: train it with configs/study_zonal\.json"):
        none = str(tmp_path / "none")
        run(study(data, tmp_path / "out", weights=own, segmenter_weights=none + ".pt", baseline_dir=none))
    with refused(FileNotFoundError, r"none\.pt"):
        run(study(data, tmp_path / "out", weights=str(tmp_path / "none.pt")))
    assert not (tmp_path / "out" / "progress.csv").exists(), "said before anything is trained"


def test_a_stack_of_slices_is_the_slices_and_its_label_map_lies_on_it(data):
    case = {**slice_cases(data / "imagesTr", channel=0)[3], "label": str(data / "labelsTr" / "prostate_000.nii.gz")}
    load = LoadSliced(["image", "label"], of_one_channel=["label"])
    one, stack = load(case), load({**case, "slice": -1})
    for key in ("image", "label"):
        assert stack[key].shape == (1, 40, 36, 5)
        assert any((stack[key][..., k] == one[key]).all() for k in range(5))
    np.testing.assert_allclose(stack["image"].affine, stack["label"].affine)
    with pytest.raises(
        ValueError, match=r"prostate_000\.nii\.gz: a 3D volume was expected, got shape \(40, 36, 5, 2\)"
    ):
        LoadSliced("image", of_one_channel=["image"])(case)


def test_prostates_differ_by_seed_and_have_two_channels_and_zones(data):
    file = nib.load(data / "imagesTr" / "prostate_001.nii.gz")
    assert (file.shape, file.get_data_dtype()) == ((40, 36, 5, 2), np.int16)
    (first, zones), (again, _), (other, _) = (prostate_phantom((32, 32, 6), (3, 3, 9), seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first[..., 0][zones == 1].mean() > 1.3 * first[..., 0][zones == 2].mean(), "the peripheral zone is brighter"
    with pytest.raises(ValueError, match="at least 16, 16 and 4"):
        prostate_phantom((8, 32, 6))
