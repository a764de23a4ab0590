"""Training on a share, by the configs of the dm bundles and their overlays, with tiny networks on drawn images."""

from __future__ import annotations

import shutil

import pytest
import torch

from common.studies.synthetic import MANIFEST, names_digest, sample_of, synthetic_cases, synthetic_record
from tests.bundles.classify_runs import BRAIN, BUNDLES, CT, SMEAR
from tests.bundles.generate_runs import config, draw, train, write_data
from tests.bundles.inference_runs import refused
from tests.bundles.training import check_distributed, only_process_of_a_group, weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data({bundle: tmp_path_factory.mktemp(bundle) for bundle in BUNDLES})


def test_a_resumed_run_ends_with_the_same_weights_and_a_tuned_one_starts_from_them(data, tmp_path):
    constant = {"lr_factor": "$lambda step: 1.0", "max_epochs": 2}
    whole = weights(train(BRAIN, data[BRAIN], tmp_path / "whole", **constant))
    train(BRAIN, data[BRAIN], tmp_path / "parts", **{**constant, "max_epochs": 1})
    parts = weights(train(BRAIN, data[BRAIN], tmp_path / "parts", "resume", **constant))
    assert all(torch.equal(parts[key], value) for key, value in whole.items())
    still = {"initial_weights": str(tmp_path / "whole" / "model.pt"), "learning_rate": 0.0}
    tuned = weights(train(BRAIN, data[BRAIN], tmp_path / "tuned", "fine_tune", **still))
    for key, value in torch.load(tmp_path / "whole" / "model.pt", weights_only=True).items():
        torch.testing.assert_close(tuned[f"ema.{key}"], value)


def test_weights_are_not_trained_on_with_another_sample(data, tmp_path):
    """Else they would have seen images that are kept to test on."""
    train(BRAIN, data[BRAIN], tmp_path / "first", max_epochs=1)
    message = "model.pt was trained on another sample of real images"
    with refused(ValueError, message):
        train(BRAIN, data[BRAIN], tmp_path / "first", "resume", split_seed=1)
    initial = {"initial_weights": str(tmp_path / "first" / "model.pt")}
    with refused(ValueError, message):
        train(BRAIN, data[BRAIN], tmp_path / "tuned", "fine_tune", **initial, split_seed=1)
    assert not (tmp_path / "tuned" / "model.pt").exists()
    with refused(ValueError, "class_name must be one of .*'glioma'.*, got 'glioblastoma'"):
        train(BRAIN, data[BRAIN], tmp_path / "one", "one_model_a_class", class_name="glioblastoma")
    train(BRAIN, data[BRAIN], tmp_path / "abrupt", max_epochs=1, warmup=0, cooldown=0)


@pytest.mark.parametrize("bundle", [BRAIN, SMEAR])
@pytest.mark.parametrize("overlays", [(), ("augmented_train",)])
def test_small_moves_for_training_come_with_their_overlay(bundle, overlays, data, tmp_path):
    run = train(bundle, data[bundle], tmp_path, *overlays, flip_prob=0.0)
    given = run.train_dataset_data
    drawn = [case["image"] for case in run.parser.get_parsed_content("train#dataset")]
    assert {(image.shape, image.dtype) for image in drawn} == {(given[0]["image"].shape, torch.float32)}
    changed = [not torch.equal(image, case["image"]) for image, case in zip(drawn, given)]
    assert any(changed) == bool(overlays)
    assert min(image.min() for image in drawn) >= -1
    assert max(image.max() for image in drawn) <= 1
    assert (tmp_path / "model.pt").is_file()


def test_groups_stay_whole_and_the_papers_settings_train_and_draw(data, tmp_path):
    listed = tmp_path / "data"
    shutil.copytree(data[BRAIN], listed)
    rows = [f"{path.relative_to(listed).as_posix()},{path.parent.name}" for path in sorted(listed.rglob("*.png"))]
    (listed / MANIFEST).write_text("\n".join(["path,class,group", *(f"{row},g{i // 3}" for i, row in enumerate(rows))]))
    run = train(BRAIN, listed, tmp_path / "run", "paper", "by_group", group_by="group")
    sample, rest = run.parser.get_parsed_content("shares")
    assert (len(sample), len(rest)) == (4 * 3, 4 * 12)
    assert not {case["group"] for case in sample} & {case["group"] for case in rest}
    assert run.parser.get_parsed_content("train#prepare_batch").prediction_type == "epsilon"
    drawn = tmp_path / "set"
    draw(BRAIN, drawn, tmp_path / "run" / "model.pt", "generate", "paper", "by_group", per_class=1, batch_size=1)
    assert synthetic_record(drawn / "glioma" / "glioma_00000.png")["step_rule"] == "Ancestral"
    with refused(ValueError, "every image is a group of its own"):
        train(BRAIN, listed, tmp_path / "alone", "by_group", group_by=None)


def test_a_strict_sample_is_trained_on_drawn_from_and_recorded(data, tmp_path):
    listed = tmp_path / "data"
    shutil.copytree(data[BRAIN], listed)
    rows = [f"{path.relative_to(listed).as_posix()},{path.parent.name}" for path in sorted(listed.rglob("*.png"))]
    marked = [f"{row},g{i // 3},s{i // 3},n{i % 30}" for i, row in enumerate(rows)]
    (listed / MANIFEST).write_text("\n".join(["path,class,group,series,lookalike", *marked]))
    own = {"group_by": "series"}  # train() takes each image for itself otherwise
    run = train(BRAIN, listed, tmp_path / "run", "strict", **own)
    sample, rest = run.parser.get_parsed_content("shares")
    assert len(sample) == 4 * 3
    assert 4 * 9 <= len(rest) < 4 * 12, "each image looks like one other"
    assert not {case["group"] for case in sample} & {case["group"] for case in rest}
    assert not {case["lookalike"] for case in sample} & {case["lookalike"] for case in rest}
    by_series = train(BRAIN, listed, tmp_path / "by_series", "by_group", **own)
    assert by_series.parser.get_parsed_content("shares")[0] == [
        {key: value for key, value in case.items() if key != "lookalike"} for case in sample
    ]
    assert sample_of(tmp_path / "run" / "model.pt") == names_digest(sample)
    draw(BRAIN, tmp_path / "set", tmp_path / "run" / "model.pt", "generate", "strict", per_class=1, batch_size=1)
    assert {case["sample"] for case in synthetic_cases(tmp_path / "set")} == {names_digest(sample)}
    with refused(ValueError, "was trained on another sample of real images"):
        train(BRAIN, listed, tmp_path / "run", "strict", "resume", **own, split_seed=1)
    with refused(ValueError, "have no 'lookalike'.*set lookalike_by to the column"):
        train(BRAIN, listed, tmp_path / "alone", "strict", **own, lookalike_by=None)
    with refused(ValueError, "split must be one of"):
        train(BRAIN, listed, tmp_path / "alone", **own, split="patient")


def test_a_process_of_a_distributed_run_learns_all_parameters(data, tmp_path, monkeypatch):
    only_process_of_a_group(monkeypatch)
    run = train(CT, data[CT], tmp_path, "multi_gpu_train", val_interval=1)
    check_distributed(run, tmp_path / "model.pt")


def test_one_model_a_class_fills_one_set(data, tmp_path):
    names = config(CT, "inference")["classes"]
    for name in names:
        assert not (tmp_path / "set" / MANIFEST).exists()
        run = train(CT, data[CT], tmp_path / name, "one_model_a_class", class_name=name, batch_size=3)
        assert {case["class"] for case in run.train_dataset_data} == {name}
        own = {"class_name": name, "num_samples": 2}
        path = tmp_path / name / "model.pt"
        assert "class_embedding.weight" not in torch.load(path, weights_only=True)
        draw(CT, tmp_path / "set", path, "generate", "one_model_a_class", **own)
    assert [case["case"] for case in synthetic_cases(tmp_path / "set")] == [
        f"{name}_{number:05d}" for name in names for number in range(2)
    ]
