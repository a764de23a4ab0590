"""Which images classifiers are trained, chosen and tested on, by the bundles' configs; what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from common.networks.classifiers import load_classifier
from common.studies.cross_validation import best_network
from common.studies.fold_training import predict
from common.studies.study_sets import load_images
from tests.bundles.classify_runs import (
    BRAIN,
    CLASSES,
    LINEAR,
    parsed,
    picture,
    study,
    write_data,
    write_set,
)
from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import write_picture


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


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
    plan = parsed(run, "plan")
    network = load_classifier(parsed(run, "network_def")("resnet18"), tmp_path / "resnet18" / "fold_0.pt", plan.device)
    loaded = load_images(sets["validation"], parsed(run, "preprocessing"))
    right = predict(network, loaded, plan).argmax(1) == [int(case["class_index"]) for case in loaded]
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
