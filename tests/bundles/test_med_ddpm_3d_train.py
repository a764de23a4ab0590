from __future__ import annotations

import json
import re
import signal
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.bundle.properties import TrainProperties
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.bundles.training import TINY, train, weights, workflow
from tests.bundles.ways import start
from tests.fixtures import BUNDLE, REPOSITORY, two_part_mask, write_dataset, write_nifti

CONFIGS = BUNDLE / "configs"
KEYS = ("image", "label")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), 6)


def said(error: BaseException | None) -> str:
    """The messages of an error and of all that led to it; MONAI wraps what components raise."""
    return "" if error is None else f"{error}\n{said(error.__cause__ or error.__context__)}"


@pytest.mark.parametrize("overlays", [[], ["resume.json"], ["paper.json"]])
def test_check_properties_is_clean(data, tmp_path, overlays):
    paper = "paper.json" in overlays
    small = {"labels": {"head": 1, "tumour": 2}, "network_def#channels": [32] * 5, "network_def#num_head_channels": 32}
    small["spatial_size"] = [32, 32, 32]  # in 128, these volumes would be less than a percentile of the voxels
    run = workflow(data, tmp_path, *overlays, tiny=not paper, **(small if paper else {}))
    run.initialize()
    assert run.check_properties() == []
    missing = {name for name in TrainProperties if getattr(run, name, None) is None}
    assert missing == {"train_postprocessing", "train_key_metric", "val_key_metric"}


def fix_noise(run: ConfigWorkflow, timestep: int = 200) -> list[float]:
    """Draw the same noise at one high level in every iteration, so that losses compare; returns those to come."""
    losses: list[float] = []
    trainer = run.trainer
    drawn = trainer.prepare_batch

    def prepare_batch(batch, *args, **kwargs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            image, _, rest, inputs = drawn(batch, *args, **kwargs)
        inputs["timesteps"] = torch.full_like(inputs["timesteps"], timestep)
        return image, drawn.get_target(image, inputs["noise"], inputs["timesteps"]), rest, inputs

    trainer.prepare_batch = prepare_batch
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output[0]["loss"]))
    )
    return losses


def test_the_loss_falls_and_the_files_are_there(data, tmp_path):
    options = {"max_epochs": 20, "batch_size": 4, "checkpoint_interval": 8, "val_interval": 10}
    run = workflow(data, tmp_path, learning_rate=3e-3, condition_dropout=0.0, **options)
    run.initialize()
    losses = fix_noise(run)
    run.run()
    run.finalize()
    assert len(losses) == 20
    assert np.mean(losses[-3:]) < 0.5 * losses[0], losses
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.suffix in (".pt", ".png")} == {
        "checkpoint_epoch=16.pt",
        "checkpoint_epoch=20.pt",
        "model.pt",
        "previews/epoch_0010.png",
        "previews/epoch_0020.png",
        "progress.png",
    }
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    ema = {key[4:]: value for key, value in weights(run).items() if key.startswith("ema.")}
    assert all(torch.equal(model[key], value) for key, value in ema.items())
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [image.step for image in events.Images("generated beside real")] == [10, 20]
    assert events.Scalars("train_loss")


def test_a_killed_and_resumed_run_ends_with_the_same_weights(data, tmp_path):
    kill = (
        "$type('Kill', (), {'attach': lambda self, engine: engine.add_event_handler("
        "__import__('ignite').engine.Events.ITERATION_COMPLETED, "
        "lambda e: e.state.iteration == 5 and os.kill(os.getpid(), 9))})()"
    )
    overlay = tmp_path / "kill.json"
    overlay.write_text(json.dumps({"+train#handlers": [kill], **TINY}))
    options = {"max_epochs": 4, "dataset_dir": str(data), "output_dir": str(tmp_path / "parts")}
    command = ["run", "--config_file", f"['bundles/med_ddpm_3d/configs/train.json', '{overlay}']"]
    command += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    killed = start(command, REPOSITORY).wait()
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert not (tmp_path / "parts" / "checkpoint_epoch=3.pt").exists()
    resumed = train(data, tmp_path / "parts", "resume.json", max_epochs=4)
    whole = weights(train(data, tmp_path / "whole", max_epochs=4))
    assert resumed.trainer.state.iteration == 8
    assert all(torch.equal(value, whole[key]) for key, value in weights(resumed).items())
    with pytest.raises(RuntimeError) as caught:
        train(data, tmp_path / "parts", max_epochs=4)
    assert re.search(r"is there from an earlier run: .*resume\.json", said(caught.value))


def test_a_loss_that_is_no_number_stops_the_run(data, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(data, tmp_path, max_epochs=2, learning_rate=1e36, max_grad_norm=None, lr_factor="$lambda step: 1.0")
    assert re.search(r"The loss is (nan|inf) .*cases \['case_", said(caught.value))
    assert not list(tmp_path.glob("*.pt"))


def test_weights_broken_after_a_finite_loss_are_not_written(data, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(data, tmp_path, batch_size=4, max_epochs=2, learning_rate=1e30, max_grad_norm=None)
    assert re.search(r"weights in out\..* are NaN, .* after epoch 1: nothing is written", said(caught.value))
    assert not list(tmp_path.glob("*.pt"))


def nan_image(folder: Path) -> str:
    path = folder / "images" / "case_002.nii.gz"
    image = nib.load(path)
    array = image.get_fdata(dtype=np.float32)
    array[3, 3, 3] = np.nan
    write_nifti(path, array, image.affine)
    return "case_002.nii.gz: 1 of .* pixels are NaN"


def no_partner(folder: Path) -> str:
    (folder / "labels" / "case_003.nii.gz").unlink()
    return r"No label in .*labels for \['case_003'\]"


def no_files(folder: Path) -> str:
    for path in folder.rglob("*.nii.gz"):
        path.unlink()
    return r"No NIfTI file .* in .*images"


def no_folder(folder: Path) -> str:
    (folder / "images").rename(folder / "pictures")
    return "No folder .*images: set dataset_dir to a folder that holds"


def other_label(folder: Path) -> str:
    mask = two_part_mask((18, 22, 17), seed=1)
    mask[mask == 2] = 7
    write_nifti(folder / "labels" / "case_001.nii.gz", mask, np.eye(4))
    return r"case_001.nii.gz: label values \[7\] are not in the label dictionary"


def other_grid(folder: Path) -> str:
    write_nifti(folder / "labels" / "case_001.nii.gz", two_part_mask((9, 9, 9), seed=1), np.eye(4))
    return "case_001.nii.gz and .*case_001.nii.gz have different shapes"


@pytest.mark.parametrize("spoil", [nan_image, no_partner, no_files, no_folder, other_label, other_grid])
def test_unsuitable_data_is_named_before_training(tmp_path, spoil):
    data = write_dataset(tmp_path / "data", 3)
    message = spoil(data)
    with pytest.raises((RuntimeError, ValueError, OSError)) as caught:
        train(
            data, tmp_path / "out", max_epochs=1, **{"split#fractions": [0.67, 0.33], "batch_size": 1, "split#seed": 1}
        )
    assert re.search(message, said(caught.value), re.DOTALL), said(caught.value)
    assert not list((tmp_path / "out").glob("*.pt"))


def test_training_that_will_not_fit_stops_before_the_first_iteration(data, tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**28))
    run = workflow(data, tmp_path, max_epochs=1, spatial_size=[64, 64, 64])
    run.initialize()
    with pytest.raises(RuntimeError) as caught:
        run.run()
    assert re.search(
        r"batches of \(2, 3, 64, 64, 64\) needs about .* without activation checkpointing", said(caught.value)
    )
    assert run.trainer.state.iteration <= 1
    assert not run.parser.get_parsed_content("optimizer").state, "no step was taken"


def prepared(data: Path, output: Path, **overrides) -> list[dict]:
    run = workflow(data, output, **overrides)
    run.initialize()
    return list(run.train_dataset)


def test_volumes_of_the_default_spacing_are_not_resampled_and_others_are(data, tmp_path):
    as_they_are, spaced = prepared(data, tmp_path, spacing=None), prepared(data, tmp_path)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(as_they_are, spaced, strict=True) for key in KEYS)
    for path in sorted(write_dataset(tmp_path / "thick", 6).rglob("*.nii.gz")):
        write_nifti(path, np.asanyarray(nib.load(path).dataobj), np.diag([1.0, 1.0, 2.0, 1.0]))
    (case, *_) = prepared(tmp_path / "thick", tmp_path)
    shape = nib.load(tmp_path / "thick" / "images" / f"{case['case']}.nii.gz").shape
    assert [tuple(case[key].shape[1:]) for key in KEYS] == [(*shape[:2], 2 * shape[2] - 1)] * 2
    assert set(case["label"].unique().tolist()) == {-1.0, 1.0}, "masks are resampled to the nearest label"


def test_paper_numbers(data, tmp_path):
    run = workflow(data, tmp_path, "paper.json", tiny=False, bundle_root=str(BUNDLE))
    get = run.parser.get_parsed_content
    table = {
        "labels": {"head": 1, "tumour": 2},
        "optional_labels": ["tumour"],
        "spatial_size": [128, 128, 128],
        "spacing": [1.5, 1.5, 1.5],
        "prediction_type": "epsilon",
        "max_epochs": 100_000,
        "batch_size": 1,
        "learning_rate": 1e-5,
        "condition_dropout": 0.0,
        "max_grad_norm": None,
    }
    assert {key: get(key) for key in table} == table
    schedule = get("noise_schedule")
    t = np.arange(251) / 250
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alpha_bar[:249], (f[1:] / f[0])[:249], rtol=1e-9)
    assert len(schedule.betas) == 250
    run.parser["total_steps"] = 1000
    run.parser.ref_resolver.reset()
    factor = get("lr_factor")
    rates = [1e-5 * factor(step) for step in (0, 499, 500, 999)]
    assert rates == pytest.approx([1e-5, 1e-5, 1e-6, 1e-6])
    assert type(get("loss")).__name__ == "L1Loss"
    assert run.parser["optimizer#_target_"] == "torch.optim.Adam"
    assert type(get("ema")).__name__ == "EMAHandler"
    assert type(get("train#prepare_batch")).__name__ == "ConditionalPrepareBatch"
    given = {key: value for key, value in run.parser["network_def"].items() if not key.startswith("_")}
    given |= {"in_channels": 1 + len(get("labels")), "out_channels": get("out_channels")}
    settings = [given[key] for key in ("in_channels", "out_channels", "norm_eps", "max_period", "upsample_mode")]
    assert settings == [3, 1, 1e-5, 1000, "linear"]
    assert given["channels"] == [64 * multiplier for multiplier in (1, 1, 2, 3, 4)]
    side = [128 // 2**level for level, attends in enumerate(given["attention_levels"]) if attends]
    assert (side, given["num_res_blocks"], given["norm_num_groups"]) == ([16], 1, 32)
    assert given["num_head_channels"] == given["channels"], "one head a level"
    assert "patch_size" not in given


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_tracking_with_mlflow(data, tmp_path):
    run = workflow(data, tmp_path, max_epochs=1, tracking="mlflow")
    run.initialize()
    run.run()
    run.finalize()
    assert (tmp_path / "mlruns.db").is_file()
    assert list(tmp_path.glob("config_*.json"))


def test_tracking_finds_trainer_and_handlers(data, tmp_path):
    run = workflow(data, tmp_path, max_epochs=1, tracking="mlflow", seed=3)
    assert run.parser["train#handlers"][-1]["_target_"] == "MLFlowHandler"
    (config,) = tmp_path.glob("config_*.json")
    assert json.loads(config.read_text())["seed"] == 3


def test_fine_tuning_starts_from_given_weights(data, tmp_path):
    first = weights(train(data, tmp_path / "first", max_epochs=1))
    initial = tmp_path / "first" / "model.pt"
    still = {"initial_weights": str(initial), "learning_rate": 0.0, "max_epochs": 1}
    second = weights(train(data, tmp_path / "second", "fine_tune.json", **still))
    for key, value in second.items():
        torch.testing.assert_close(value, first["ema." + key.split(".", 1)[1]])
    assert any(not torch.equal(first["network." + k[4:]], v) for k, v in first.items() if k.startswith("ema."))


def test_few_steps_are_taught_without_guidance(data, tmp_path):
    untrained = workflow(data, tmp_path, max_epochs=1)
    untrained.initialize()
    torch.save(untrained.parser.get_parsed_content("network_def").state_dict(), tmp_path / "a.pt")
    given = {"initial_weights": str(tmp_path / "a.pt"), "max_epochs": 1}
    run = train(data, tmp_path / "student", "fine_tune.json", "train_fast.json", **given)
    prepare = run.parser.get_parsed_content("train#prepare_batch")
    assert (len(prepare.teacher.steps), prepare.teacher.guidance_scale) == (20, 1.1)
    assert [step.t for step in prepare.steps] == [step.t for step in prepare.teacher.steps[::5]]
    assert (prepare.condition_dropout, prepare.prediction_type) == (0.0, "v_prediction")
    assert (tmp_path / "student" / "model.pt").is_file()


def test_all_bad_files_are_named_before_the_training_starts(tmp_path):
    data = write_dataset(tmp_path / "data", 6)
    bad = sorted((data / "labels").iterdir())[:2]
    bad[0].write_bytes(bad[0].read_bytes()[:200])
    write_nifti(bad[1], two_part_mask() * 0)
    with pytest.raises(RuntimeError) as caught:
        train(data, tmp_path / "out", **{"train#dataset#data": "@cases"})
    assert "2 of 6 inputs cannot be used" in said(caught.value)
    for path in bad:
        assert str(path) in said(caught.value)
