"""Classifiers trained on a synthetic set and tested on real images, and their explanations, by the bundles' configs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from common.networks.classifiers import import_torchvision
from common.utils.files import sha256_of
from tests.bundles.classify_runs import (
    BRAIN,
    CLASSES,
    CT,
    LINEAR,
    SMEAR,
    parsed,
    study,
    write_data,
)
from tests.bundles.inference_runs import refused
from tests.fixtures import REPOSITORY


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("bundle", "kind"), [(BRAIN, "grey"), (SMEAR, "colour"), (CT, "grey")])
def test_it_trains_on_synthetic_and_tests_on_the_other_real_images(bundle, kind, data, tmp_path):
    study(bundle, data / kind, tmp_path, synthetic_size=0.8).run()
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["train_images"] == {"bright": 8, "dark": 8}
    assert found["test_images"] == {"bright": 16, "dark": 16}
    assert found["sample_images"] == {"bright": 4, "dark": 4}
    row = found["networks"]["resnet18"]
    assert row["folds"] == 2
    assert row["test"]["accuracy"]["value"] == 1
    assert row["test"]["confusion"] == [[32, 0], [0, 32]]
    text = (tmp_path / "metrics.md").read_text()
    assert "| ResNet18 |" in text
    assert "32 real images" in text
    # Copies of the sample are found in the rest, and counted apart.
    assert found["test_images_with_a_near_copy_in_the_sample"] > 0
    assert "near copy" in text
    assert row["test_copied"]["n"] + row["test_new"]["n"] == 32


# What is complete needs no data loader.
TRAINED = {"num_workers": -1}


def replace(path, found):
    """Put other probabilities into a complete fold."""
    np.savez(path.with_suffix(".npz"), probabilities=found)
    record = json.loads(path.with_suffix(".json").read_text())
    record["files"][".npz"] = sha256_of(path.with_suffix(".npz"))
    path.with_suffix(".json").write_text(json.dumps(record))


def test_several_networks_are_also_tested_together(data, tmp_path):
    """By the mean of their probabilities: one that is wrong and unsure is outweighed by one that is right and sure."""
    study(BRAIN, data / "grey", tmp_path, synthetic_size=0.8).run()
    with np.load(tmp_path / "resnet18" / "fold_1.npz") as arrays:
        right = np.eye(2)[arrays["probabilities"].argmax(1)]
    replace(tmp_path / "resnet18" / "fold_0", 0.6 - 0.2 * right)
    replace(tmp_path / "resnet18" / "fold_1", right)
    study(BRAIN, data / "grey", tmp_path, synthetic_size=0.8, **TRAINED).run()
    row = json.loads((tmp_path / "metrics.json").read_text())["networks"]["resnet18"]
    assert row["test"]["accuracy"]["value"] == 0.5
    low, high = row["accuracy_interval95_over_folds"]  # of 0 and 1, by Student's t with one degree of freedom
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low == pytest.approx(12.706, abs=0.001)
    assert row["test_mean_of_probabilities"]["value"] == 1


def test_a_rerun_with_the_same_settings_trains_nothing(data, tmp_path):
    study(BRAIN, data / "grey", tmp_path).run()
    before = json.loads((tmp_path / "metrics.json").read_text())
    study(BRAIN, data / "grey", tmp_path, **TRAINED).run()
    assert json.loads((tmp_path / "metrics.json").read_text())["networks"] == before["networks"]
    # short.json's label says how many folds there are: more of them are no reason to train the first again.
    study(BRAIN, data / "grey", tmp_path, label="2 of 2 folds", **TRAINED).run()
    assert "2 of 2 folds" in (tmp_path / "metrics.md").read_text()


OF_A_FIFTH = {"max_epochs": 1, "fraction": 0.5}


@pytest.fixture(scope="module")
def of_a_fifth(data, tmp_path_factory):
    """The folder of a run on the real share."""
    folder = tmp_path_factory.mktemp("fifth")
    study(BRAIN, data / "grey", folder, "real_20", "augmented", **OF_A_FIFTH).run()
    return folder


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"batch_size": 5}, "batch_size"),
        ({"classes": CLASSES[::-1]}, "classes"),
        ({"group_by": "$None"}, "parts"),
        ({"augmentation#0#prob": 0.4}, "augmentation"),
        ({"optimizer#_target_": "torch.optim.Adam"}, "optimizer"),
        ({"loss#label_smoothing": 0.3}, "loss"),
        ({"network_def": LINEAR.replace("torch.nn.Linear", "(lambda *n: torch.nn.Linear(*n, bias=False))")}, "initial"),
    ],
)
def test_what_was_trained_with_other_settings_is_not_written_over(changed, named, data, of_a_fifth, tmp_path):
    run, overlays = OF_A_FIFTH, ("real_20", "augmented")
    shutil.copytree(of_a_fifth, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "resnet18" / "fold_0.json").read_bytes()
    with refused(FileExistsError, f"fold_0.json is of an earlier run with other {named}"):
        study(BRAIN, data / "grey", tmp_path, *overlays, **run, **changed).run()
    assert (tmp_path / "resnet18" / "fold_0.json").read_bytes() == before
    study(BRAIN, data / "grey", tmp_path, *overlays, **run, **changed, overwrite=True).run()
    assert (tmp_path / "resnet18" / "fold_0.json").read_bytes() != before


def test_files_that_do_not_belong_together_are_trained_again(data, tmp_path):
    run = {"max_epochs": 1}
    study(BRAIN, data / "grey", tmp_path / "other", seed=1, **run).run()
    for file in ("fold_0.pt", "fold_1.npz", "fold_1.json"):
        study(BRAIN, data / "grey", tmp_path / "own", **run).run()
        path = tmp_path / "own" / "resnet18" / file
        path.unlink() if file.endswith("json") else shutil.copy(tmp_path / "other" / "resnet18" / file, path)
        with refused(ValueError, "num_workers"):
            study(BRAIN, data / "grey", tmp_path / "own", **run, **TRAINED).run()
        assert not path.with_suffix(".json").exists()  # a run that is killed now leaves nothing that looks complete
    study(BRAIN, data / "grey", tmp_path / "own", **run).run()
    with refused(ValueError, "num_workers"):  # weights that were not kept
        study(BRAIN, data / "grey", tmp_path / "own", **run, **TRAINED, keep_weights=2).run()


def test_weights_that_are_missing_are_named_before_the_first_network_is_trained(data, tmp_path):
    (tmp_path / "weights").mkdir()
    torch.save(import_torchvision().models.resnet18().state_dict(), tmp_path / "weights" / "resnet18-1.pth")
    own = {"network_def": ConfigParser.load_config_file(_config(BRAIN, "classify"))["network_def"]}
    own |= {"architectures": "resnet18,alexnet", "spatial_size": [64, 64], "imagenet": str(tmp_path / "weights")}
    with refused(FileNotFoundError, "One file alexnet-.*pth"):
        study(BRAIN, data / "grey", tmp_path / "out", **own).run()
    assert not list((tmp_path / "out").iterdir())


def test_a_torchvision_network_is_trained_and_explained(data, tmp_path):
    own = {"network_def": ConfigParser.load_config_file(_config(SMEAR, "classify"))["network_def"]}
    own |= {"architectures": "mobilenet_v2", "spatial_size": [64, 64], "max_epochs": 1}
    study(SMEAR, data / "colour", tmp_path, "short", **own).run()
    assert "Short: 64 x 64 pixels, at most 1 epochs, 1 of 2 folds" in (tmp_path / "metrics.md").read_text()
    explained = {"classifier_weights": str(tmp_path / "mobilenet_v2" / "fold_0.pt"), "architecture": "mobilenet_v2"}
    explained |= {"images_per_class": 2, "num_samples": 30, "num_segments": 16, "seeds": [0, 1]}
    study(SMEAR, data / "colour", tmp_path / "explain", "explain", **own, **explained).run()
    found = json.loads((tmp_path / "explain" / "metrics.json").read_text())
    assert {name: row["correct"]["n"] for name, row in found["sets"].items()} == {"real": 4, "synthetic": 4}
    for row in (*found["images"]["real"], *found["images"]["synthetic"]):
        assert 0 < row["area"] < 1
        assert row["correlation"] is None or -1 <= row["correlation"] <= 1  # None: weights that are all equal
        assert row["found"] in CLASSES
    assert set(found["agreement"]) == set(CLASSES)
    for wrong, message in (({"split_seed": 1}, "belongs to another sample"), ({"num_samples": 0}, "2 samples")):
        with refused(ValueError, message):
            study(SMEAR, data / "colour", tmp_path / "no", "explain", **{**own, **explained, **wrong}).run()
    held_out = json.loads((tmp_path / "mobilenet_v2" / "fold_0.json").read_text())["held_out"]
    assert {f"{row['class']}/{row['case']}.png" for row in found["images"]["synthetic"]} <= set(held_out)
    overlays = sorted((tmp_path / "explain" / "overlays").iterdir())
    assert len(overlays) == 8
    with Image.open(next(path for path in overlays if path.name.startswith("synthetic_"))) as image:
        assert image.info["Description"].startswith("synthetic")
        assert image.size == (128, 64)


def test_overlays_choose_what_is_trained_on(data, tmp_path):
    def chosen(*overlays, **given):
        run = study(BRAIN, data / "grey", None, *overlays, **given)
        sets = parsed(run, "sets")
        return sets, parsed(run, "output_dir").split("/")[-1], run

    synthetic, name, _ = chosen()
    assert name == "synthetic_random"
    assert all("/synthetic/" in case["image"] for case in synthetic["train"])
    real, name, _ = chosen("real_20")
    assert name == "real_random"
    assert real["train"] == real["sample"]
    assert not {c["image"] for c in real["train"]} & {c["image"] for c in real["test"]}
    augmented, name, run = chosen("real_20", "augmented")
    assert (name, augmented["train"]) == ("real_random_augmented", real["train"])
    plan = parsed(run, "plan")
    case = parsed(run, "preprocessing")({**real["train"][0]})
    trained, tested = (next(iter(plan.loader([case], training)))["image"] for training in (True, False))
    torch.testing.assert_close(tested[0], case["image"].float())
    assert not torch.equal(trained, tested)
    both, name, _ = chosen("real_plus_synthetic")
    assert name == "real_plus_synthetic_random"
    assert len(both["train"]) == len(real["train"]) + len(synthetic["train"])
    assert [both["test"]] * 3 == [synthetic["test"], real["test"], augmented["test"]]
    assert chosen(synthetic_size=0.5)[1] == "synthetic_random_0.5x"
    assert chosen("augmented")[1] == "synthetic_random_augmented"
    assert chosen("real_plus_synthetic", "augmented")[1] == "real_plus_synthetic_random_augmented"
    assert chosen("real_20", "augmented", imagenet=str(tmp_path))[1] == "real_random_augmented_imagenet"
    half = chosen(synthetic_size=0.5)[0]["train"]
    assert {case["case"] for case in half} == {f"{name}_{n:05d}" for name in CLASSES for n in range(5)}


def _config(bundle, name):
    return REPOSITORY / "bundles" / bundle / "configs" / f"{name}.json"
