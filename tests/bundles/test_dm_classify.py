"""Classifiers trained on a synthetic set and tested on real images, and their explanations, by the bundles' configs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from common.networks.classifiers import import_torchvision, load_classifier
from common.studies.cross_validation import best_network
from common.studies.fold_training import predict
from common.studies.study_sets import load_images
from common.utils.files import sha256_of
from tests.bundles.classify_runs import (
    BRAIN,
    CLASSES,
    CT,
    LINEAR,
    SMEAR,
    picture,
    study,
    write_real,
    write_set,
)
from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import write_picture
from tests.fixtures import REPOSITORY


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty real and ten synthetic images a class, grey and in colour."""
    top = tmp_path_factory.mktemp("data")
    for kind in ("grey", "colour"):
        write_real(top / kind / "real", colour=kind == "colour", copies=True)
        write_set(top / kind / "synthetic", colour=kind == "colour")
    return top


def parsed(run, name):
    return run.parser.get_parsed_content(name)


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


def test_only_what_a_classifier_of_the_sample_recognises_is_trained_on(data, tmp_path, caplog):
    def kept(judge, **given):
        given |= {
            "judge_weights": str(judge / "resnet18" / "fold_0.pt"),
            "judge": LINEAR.replace("lambda architecture: ", ""),
        }
        return study(BRAIN, mixed, tmp_path / "kept", "recognised", **given)

    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "real").symlink_to(data / "grey" / "real")
    write_set(mixed / "synthetic", wrong={("dark", 3), ("dark", 7)})
    for name, overlay in (("sample", "real_20"), ("drawn", "augmented")):
        study(BRAIN, data / "grey", tmp_path / name, overlay).run()

    run = kept(tmp_path / "sample")
    caplog.set_level("INFO")
    assert [case["case"] for case in parsed(run, "sets")["train"]] == [
        f"{name}_{n:05d}" for name in CLASSES for n in range(10) if (name, n) not in {("dark", 3), ("dark", 7)}
    ]
    assert parsed(run, "study_name") == "synthetic_random_recognised"
    run.run()
    found = json.loads((tmp_path / "kept" / "metrics.json").read_text())
    assert found["train_images"] == {"bright": 10, "dark": 8}
    assert found["settings"]["recognised_by"] == "sample/resnet18/fold_0.pt"
    assert "10 images drawn as dark are taken for: bright 2, dark 8" in caplog.text

    with refused(FileNotFoundError, "fold_0.pt was expected"):
        parsed(kept(tmp_path / "nobody"), "sets")
    with refused(ValueError, "was trained with train_on 'synthetic'; a classifier of real_20.json was expected"):
        parsed(kept(tmp_path / "drawn"), "sets")
    for other in ({"split_seed": 1}, {"split": "group"}, {"fraction": 0.3}):
        with refused(ValueError, "belongs to another sample of the real images and may have seen those that are"):
            parsed(kept(tmp_path / "sample", **other), "sets")
    study(BRAIN, data / "grey", tmp_path / "later", "real_20", split_seed=1).run()
    shutil.copy(tmp_path / "later" / "resnet18" / "fold_0.pt", tmp_path / "sample" / "resnet18")
    with refused(ValueError, "fold_0.json is not the record of"):
        parsed(kept(tmp_path / "sample"), "sets")
    shutil.rmtree(tmp_path / "sample")
    study(BRAIN, data / "grey", tmp_path / "sample", "real_20").run()
    write_set(tmp_path / "all_wrong", wrong={("dark", number) for number in range(10)})
    with refused(ValueError, r"None of the synthetic images of \['dark'\] is kept"):
        parsed(kept(tmp_path / "sample", synthetic_dir=str(tmp_path / "all_wrong")), "sets")


def test_a_split_by_group_leaves_no_copies(data, tmp_path):
    run = study(BRAIN, data / "grey", tmp_path, "real_20", split="group", max_epochs=1)
    run.run()
    sets = parsed(run, "sets")
    assert not {c["group"] for c in sets["sample"]} & {c["group"] for c in sets["test"]}
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["test_images_with_a_near_copy_in_the_sample"] == 0
    assert "near copy" not in (tmp_path / "metrics.md").read_text()


def test_a_strict_split_is_trained_tested_and_explained_without_lookalikes(data, tmp_path):
    own = {"group_by": "series", "network_def": LINEAR}
    run = study(BRAIN, data / "grey", None, "strict", "real_20", **own)
    assert parsed(run, "study_name") == "real_strict"
    sets = parsed(run, "sets")
    assert {key: len(sets[key]) for key in ("sample", "test")} == {"sample": 8, "test": 24}
    for key in ("group", "lookalike"):
        assert not {c[key] for c in sets["sample"]} & {c[key] for c in sets["test"]}
    drawn = study(BRAIN, data / "grey", tmp_path, "strict", **own, max_epochs=1)
    drawn.run()
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["settings"]["split"] == "strict"
    assert found["test_images"] == {"bright": 12, "dark": 12}
    assert found["test_images_with_a_near_copy_in_the_sample"] == 0
    explain = {"classifier_weights": str(tmp_path / "resnet18" / "fold_0.pt")}
    explained = study(BRAIN, data / "grey", tmp_path / "x", "strict", "explain", **own, **explain)
    assert parsed(explained, "study").sets["real"] == sets["test"]
    with refused(ValueError, "belongs to another sample"):
        parsed(study(BRAIN, data / "grey", tmp_path / "x", "explain", **explain), "study")


def test_training_stops_and_the_best_network_is_chosen_on_a_validation_share(data, tmp_path):
    own = {"group_by": "series", "validation_fraction": 0.3, "max_epochs": 2}
    run = study(BRAIN, data / "grey", tmp_path, "strict", **own)
    assert parsed(run, "study_name") == "synthetic_strict_validated"
    sets = parsed(run, "sets")
    shares = [sets[name] for name in ("sample", "validation", "test")]
    for key in ("group", "lookalike", "image"):
        values = [{case[key] for case in share} for share in shares]
        assert all(values)
        assert not values[0] & values[1] | values[0] & values[2] | values[1] & values[2]
    run.run()
    found = json.loads((tmp_path / "metrics.json").read_text())
    images = {name: sum(found[f"{name}_images"].values()) for name in ("train", "validation", "test")}
    assert images == {name: len(sets[name]) for name in images}
    said = f"on {images['train']} images (synthetic), stopped and chosen on {images['validation']} real images of a"
    assert said in (tmp_path / "metrics.md").read_text()
    record = json.loads((tmp_path / "resnet18" / "fold_0.json").read_text())
    assert len(record["held_out"]) == 10, "synthetic images that the fold has not seen, as without"
    network = load_classifier(parsed(run, "network_def")("resnet18"), tmp_path / "resnet18" / "fold_0.pt")
    loaded = load_images(sets["validation"], parsed(run, "preprocessing"))
    right = predict(network, loaded, parsed(run, "plan")).argmax(1) == [int(case["class_index"]) for case in loaded]
    assert record["val_accuracy"] == pytest.approx(right.mean())
    with refused(FileExistsError, "fold_0.json is of an earlier run with other"):
        study(BRAIN, data / "grey", tmp_path, "strict", **{**own, "validation_fraction": 0.0}).run()
    own |= {"classifier_weights": str(tmp_path / "resnet18" / "fold_0.pt"), "output_dir": str(tmp_path / "explain")}
    explained = study(BRAIN, data / "grey", None, "strict", "explain", **own)
    assert len(parsed(explained, "unseen")) == 10
    for fraction in (0.0, 0.6):
        with refused(ValueError, "was stopped on another validation share"):
            other = study(BRAIN, data / "grey", None, "strict", "explain", **{**own, "validation_fraction": fraction})
            parsed(other, "unseen")


def test_a_classifier_that_was_stopped_on_real_images_outside_the_sample_filters_nothing(data, tmp_path):
    own = {"validation_fraction": 0.3, "max_epochs": 1}
    study(BRAIN, data / "grey", tmp_path, "real_20", **own).run()
    judge = {"judge_weights": str(tmp_path / "resnet18" / "fold_0.pt")}
    judge["judge"] = LINEAR.replace("lambda architecture: ", "")
    with refused(ValueError, "was stopped on real images outside the sample"):
        parsed(study(BRAIN, data / "grey", None, "recognised", **judge), "sets")


def test_the_best_network_is_that_of_the_validation_share_where_there_is_one():
    rows = {"a": {"val_accuracy": 0.7, "test": {"accuracy": {"value": 0.9}}}}
    rows["b"] = {"val_accuracy": 0.8, "test": {"accuracy": {"value": 0.6}}}
    assert [best_network(rows, validated) for validated in (False, True)] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"validation_fraction": 1.5}, "fraction must lie between 0 and 1, got 1.5"),
        ({"split": "strict"}, "have no 'lookalike'.*set lookalike_by to the column"),
        ({"split": "patient"}, "split of .'random', 'group', 'strict'., got 'synthetic' and 'patient'"),
        ({"folds": 11}, "at least 11 images"),
        ({"synthetic_size": 2.0}, "20 of each were expected"),
        ({"train_on": "fake"}, "train_on must be one of"),
        ({"split": "group", "group_by": None, "dataset_dir": "unlisted"}, "a group of its own"),
        ({"dataset_dir": "synthetic"}, "that should be real are synthetic|no column"),
        ({"synthetic_dir": "other_classes"}, r"\['Dark'\] only in the former, \['dark'\] only in the latter"),
        ({"dataset_dir": "colour"}, "a grey image was expected, got colour"),
        ({"architectures": "resnet19"}, "resnet19"),
        ({"classes": [*CLASSES, "none"]}, "'none'"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(given, message, data, bad, tmp_path):
    folders = {key: str(bad / given[key]) for key in ("dataset_dir", "synthetic_dir") if key in given}
    never = {"optimizer": "$lambda parameters: (_ for _ in ()).throw(AssertionError('trained'))"}
    run = study(BRAIN, data / "grey", tmp_path, **{**never, **given, **folders})
    with refused(ValueError, message):
        run.run()


@pytest.fixture(scope="module")
def bad(data, tmp_path_factory):
    """Data sets with one fault each."""
    top = tmp_path_factory.mktemp("bad")
    for name in ("unlisted", "colour", "damaged"):
        shutil.copytree(data / "grey" / "real", top / name)
    (top / "unlisted" / "manifest.csv").unlink()
    for path in (top / "colour" / "dark").iterdir():
        write_picture(path, picture("dark", 0, colour=True))
    shutil.copytree(data / "grey" / "synthetic", top / "synthetic")
    write_set(top / "other_classes", classes=["bright", "Dark"])
    return top


def test_damaged_images_are_skipped_on_request(data, bad, tmp_path):
    run = study(BRAIN, data / "grey", tmp_path, dataset_dir=str(bad / "damaged"))
    broken = parsed(run, "sets")["test"][0]["image"]
    whole = Path(broken).read_bytes()
    Path(broken).write_bytes(whole[: len(whole) // 2])
    first = Path(parsed(run, "sets")["sample"][0]["image"])
    first.write_bytes(b"no picture")
    with refused(ValueError, "2 of 40 images cannot be used"):  # of both sets at once
        study(BRAIN, data / "grey", tmp_path, "real_20", dataset_dir=str(bad / "damaged")).run()
    study(BRAIN, data / "grey", tmp_path, dataset_dir=str(bad / "damaged"), skip_unreadable=True).run()
    assert sum(json.loads((tmp_path / "metrics.json").read_text())["test_images"].values()) == 31


def _config(bundle, name):
    return REPOSITORY / "bundles" / bundle / "configs" / f"{name}.json"
