"""The training configs of med_vdm_cxr: a few iterations of tiny networks, the paper's numbers, what stops a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import write_picture
from tests.bundles.training import check_distributed, only_process_of_a_group, weights
from tests.bundles.vdm_runs import BUNDLE, train, training, write_pictures
from tests.fixtures import write_nifti


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("overlays", [(), ("conv.json",), ("conditional.json",)])
def test_it_trains_validates_and_previews(data, tmp_path, overlays):
    run = train(data, tmp_path, *overlays, max_epochs=2, val_interval=2, learning_rate=1e-3)
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "checkpoint_epoch=1.pt",
        "checkpoint_epoch=2.pt",
        "model.pt",
    ]
    assert (tmp_path / "previews" / "epoch_0002.png").is_file()
    metrics = run.evaluator.state.metrics
    assert set(metrics) == {"bound_bits_per_dimension", "reconstruction", "diffusion", "latent"}
    nats = sum(metrics[name] for name in ("reconstruction", "diffusion", "latent"))
    assert metrics["bound_bits_per_dimension"] == pytest.approx(nats / (16 * 16 * math.log(2)))
    classes = {case["class"] for case in run.train_dataset_data}
    assert classes == ({"bacteria", "normal", "virus"} if "conditional.json" in overlays else {"normal"})
    held_out = {case["case"] for case in run.parser.get_parsed_content("split")[1]}
    assert not held_out & {case["case"] for case in run.train_dataset_data}


def test_the_loss_falls(data, tmp_path):
    options = {"max_epochs": 20, "learning_rate": 3e-3, "checkpoint_interval": 100, "warmup": 5}
    run, losses = training(data, tmp_path, "conv.json", **options), []
    run.check_properties()
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    run.run()
    run.finalize()
    assert len(losses) == 20 * 2
    assert np.mean(losses[-15:]) < 0.95 * np.mean(losses[:10]), losses


def test_a_resumed_run_ends_with_the_same_weights_and_a_tuned_one_starts_from_them(data, tmp_path):
    constant = {"lr_factor": "$lambda step: 1.0", "max_epochs": 2}
    whole = weights(train(data, tmp_path / "whole", **constant))
    train(data, tmp_path / "parts", **{**constant, "max_epochs": 1})
    parts = weights(train(data, tmp_path / "parts", "resume.json", **constant))
    assert all(torch.equal(parts[key], value) for key, value in whole.items())
    still = {"initial_weights": str(tmp_path / "whole" / "model.pt"), "learning_rate": 0.0}
    tuned = weights(train(data, tmp_path / "tuned", "fine_tune.json", **still))
    for key, value in torch.load(tmp_path / "whole" / "model.pt", weights_only=True).items():
        torch.testing.assert_close(tuned[f"ema.{key}"], value)


@pytest.mark.parametrize(("overlays", "kind"), [((), "FixedLinearGamma"), (("conv.json",), "Gamma")])
def test_other_schedules_are_one_setting(data, tmp_path, overlays, kind):
    run = train(data, tmp_path, *overlays, **{"gamma#_target_": f"scripts.networks.gamma.{kind}"})
    assert type(run.parser.get_parsed_content("network_def").gamma).__name__ == kind
    assert run.trainer.state.iteration == 2


def test_a_process_of_a_distributed_run_learns_all_parameters(data, tmp_path, monkeypatch):
    only_process_of_a_group(monkeypatch)
    run = train(data, tmp_path, "multi_gpu_train.json", val_interval=1, device="$torch.device('cpu')")
    check_distributed(run, tmp_path / "model.pt")


def test_paper_numbers(data, tmp_path):
    run = training(data, tmp_path, "paper.json", without=("warmup", "max_epochs"), batch_size=2)
    run.check_properties()
    get = run.parser.get_parsed_content
    optimizer = get("optimizer")
    assert type(optimizer).__name__ == "AdamW"
    group = optimizer.param_groups[0]
    assert {key: group[key] for key in ("initial_lr", "betas", "eps", "weight_decay")} == {
        "initial_lr": 8e-4,
        "betas": (0.9, 0.99),
        "eps": 1e-8,
        "weight_decay": 1e-4,
    }
    factor = get("lr_factor")
    assert factor(0) == pytest.approx(1 / 250)
    assert factor(249) == pytest.approx(1, abs=1e-3)
    assert factor(10_000) == pytest.approx(0.5, abs=1e-4)
    assert factor(20_000) == pytest.approx(1e-5)
    length = len(get("train#dataloader"))
    assert 20_000 <= get("max_epochs") * length < 20_000 + length
    paper = ConfigParser.load_config_file(BUNDLE / "configs" / "paper.json")
    assert (paper["spatial_size"], paper["batch_size"], paper["flip_prob"]) == ([256, 256], 64, 0.0)
    definition = ConfigParser.load_config_file(BUNDLE / "configs" / "inference.json")["network_def"]
    assert {key: definition[key] for key in ("latent_features", "blocks", "score_blocks", "embedding")} == {
        "latent_features": 64,
        "blocks": 6,
        "score_blocks": 10,
        "embedding": 128,
    }


def volume(path):
    write_nifti(path, np.zeros((20, 20, 3), np.uint8))


def out_of_range(path):
    write_nifti(path, np.linspace(-3, 300, 400, dtype=np.float32).reshape(20, 20))


@pytest.mark.parametrize(
    ("file", "write", "message"),
    [
        ("x.nii.gz", volume, "x.nii.gz: a 2D image was expected, got 20 x 20 x 3"),
        ("x.nii.gz", out_of_range, r"x.nii.gz: values in \[0.0, 255.0\] were expected, got -3 to 300"),
    ],
)
def test_a_bad_image_stops_training_and_is_named(tmp_path, file, write, message):
    for name in ("a", "b", "c", "d", "e", "f"):
        write_picture(tmp_path / "in" / "normal" / f"{name}.png", np.full((20, 20), 7, np.uint8))
    write(tmp_path / "in" / "normal" / file)
    with refused(ValueError, message):
        train(tmp_path / "in", tmp_path / "out", batch_size=1)
    assert not list((tmp_path / "out").glob("*.pt"))


def test_what_does_not_go_together_stops_training(data, tmp_path):
    with refused(ValueError, "'healthy' were expected in every share.*'bacteria', 'normal', 'virus'"):
        train(data, tmp_path, classes=["healthy"])
    with refused(ValueError, "timesteps must be at least 1"):
        train(data, tmp_path, timesteps=0)
    with refused(ValueError, "endpoints have crossed.*got 6 and 5"):
        train(data, tmp_path, **{"gamma#gamma_min": 6.0})
    run = training(data, tmp_path / "crossed")
    run.check_properties()
    with torch.no_grad():
        run.parser.get_parsed_content("network_def").gamma.gamma_min.fill_(9.0)
    with refused(ValueError, "endpoints have crossed.*got 9 and 5"):
        run.run()
    run.finalize()


def test_a_loss_that_is_no_number_names_its_term_and_writes_nothing(data, tmp_path):
    run = training(data, tmp_path)
    run.check_properties()
    with torch.no_grad():
        run.parser.get_parsed_content("network_def").score.linear_out.bias.fill_(math.nan)
    with refused(FloatingPointError, "The diffusion term of the bound"):
        run.run()
    run.finalize()
    assert not list(tmp_path.glob("*.pt"))
