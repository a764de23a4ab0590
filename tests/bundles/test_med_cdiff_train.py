"""The training configs of the Med-cDiff bundles: a few iterations of a tiny network, and the paper's numbers."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from common.networks.classifiers import grey_vgg11, load_classifier
from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import (
    BUNDLES,
    DENOISE,
    INPAINT,
    SUPERRES,
    folder_of,
    grey,
    restoration,
    write_picture,
    write_two_classes,
)
from tests.bundles.training import NETWORK, TINY, weights
from tests.fixtures import TEST_DEVICE, write_nifti
from tests.masks.phantom2d import head_slice
from tests.simulated_gpu import simulated_gpu

SMALL = {**{key: value for key, value in TINY.items() if key != "subject_of"}, "group_by": None}
STEPS = "validate#inferer#num_inference_steps"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve pictures in two folders that are classes."""
    return write_two_classes(tmp_path_factory.mktemp("data"), 12)


def workflow(bundle, data, output, *overlays, without=(), **overrides):
    files = [str(folder_of(bundle) / "configs" / name) for name in ("train.json", *overlays)]
    given = {**SMALL, "dataset_dir": str(data), "output_dir": str(output), "spatial_size": [16, 16], "max_epochs": 1}
    given = {key: value for key, value in given.items() if key not in without}
    run = ConfigWorkflow(files, workflow_type="train", logging_file=False, **{**given, **overrides})
    run.initialize()
    return run


def train(*args, **kwargs):
    run = workflow(*args, **kwargs)
    assert run.check_properties() == []
    run.run()
    run.finalize()
    return run


@pytest.mark.parametrize("bundle", BUNDLES)
def test_it_trains_validates_resumes_and_fine_tunes(bundle, data, tmp_path):
    whole = train(bundle, data, tmp_path / "whole", max_epochs=2, val_interval=2)
    assert whole.trainer.state.iteration == 4
    assert (tmp_path / "whole" / "previews" / "epoch_0002.png").is_file()
    train(bundle, data, tmp_path / "parts", lr_factor="$lambda step: 1.0")
    resumed = train(bundle, data, tmp_path / "parts", "resume.json", max_epochs=2)
    assert resumed.trainer.state.iteration == 4
    still = {"initial_weights": str(tmp_path / "whole" / "model.pt"), "learning_rate": 0.0}
    tuned = weights(train(bundle, data, tmp_path / "tuned", "fine_tune.json", **still))
    expected = torch.load(tmp_path / "whole" / "model.pt", weights_only=True)
    for key, value in expected.items():
        torch.testing.assert_close(tuned[f"ema.{key}"], value)


def test_few_steps_are_taught_and_taken(data, tmp_path):
    train(SUPERRES, data, tmp_path / "teacher")
    given = {"initial_weights": str(tmp_path / "teacher" / "model.pt")}
    run = train(SUPERRES, data, tmp_path / "student", "fine_tune.json", "train_fast.json", **given)
    prepare = run.parser.get_parsed_content("train#prepare_batch")
    assert [len(prepare.teacher.steps), len(prepare.steps)] == [10, 2]
    taught = run.parser.get_parsed_content("network_def").state_dict()
    assert any(not torch.equal(value, taught[key]) for key, value in prepare.network.state_dict().items())
    image = write_picture(tmp_path / "a.png", grey((16, 16)))
    options = {"image": str(image), "output_dir": str(tmp_path / "out"), "spatial_size": [16, 16], "scale": 1}
    restoration(SUPERRES, "fast.json", tiny=False, direct=True, run_dir=str(tmp_path / "student"), **options).run()
    record = json.loads((tmp_path / "out" / "a_sr.json").read_text())
    found = {key: record[key] for key in ("step_rule", "steps", "levels", "prediction_type")}
    assert found == {"step_rule": "DDIM", "steps": 2, "levels": 10, "prediction_type": "v_prediction"}


def test_a_resumed_run_ends_with_the_same_weights(data, tmp_path):
    constant = {"lr_factor": "$lambda step: 1.0", "max_epochs": 2}
    whole = weights(train(DENOISE, data, tmp_path / "whole", **constant))
    train(DENOISE, data, tmp_path / "parts", **{**constant, "max_epochs": 1})
    parts = weights(train(DENOISE, data, tmp_path / "parts", "resume.json", **constant))
    assert all(torch.equal(parts[key], value) for key, value in whole.items())


@pytest.mark.parametrize("bundle", BUNDLES)
def test_paper_numbers(bundle, data, tmp_path):
    run = workflow(bundle, data, tmp_path, "paper.json", without=(*NETWORK, "spatial_size", "max_epochs"))
    get = run.parser.get_parsed_content
    table = {
        "prediction_type": "epsilon",
        "learning_rate": 1e-4,
        "spatial_size": [128, 128],
        "max_grad_norm": None,
        "flip_prob": 0.0,
        "patient_range": True,
    }
    assert {key: get(key) for key in table} == table
    betas = get("noise_schedule").betas
    np.testing.assert_allclose(betas, np.linspace(1e-4, 0.02, 2000), rtol=1e-5)
    assert type(get("loss")).__name__ == "MSELoss"
    assert type(get("optimizer")).__name__ == "Adam"
    assert [get("lr_factor")(step) for step in (0, 199_999)] == [1, 1]
    run.parser["batch_size"] = 2
    run.parser.ref_resolver.reset()
    length = len(get("train#dataloader"))
    assert 200_000 <= get("max_epochs") * length < 200_000 + length
    network = run.parser["network_def"]
    assert "patch_size" not in network
    assert "refine_channels" not in network
    assert get("network_def").conv_in.conv.in_channels == (3 if bundle == INPAINT else 2)
    ancestral = ConfigParser.load_config_file(folder_of(bundle) / "configs" / "ancestral.json")
    assert (ancestral["num_inference_steps"], ancestral["step_rule"]["variance"]) == (2000, "beta")


@pytest.mark.parametrize("bundle", [SUPERRES, INPAINT])
def test_slices_of_volumes_are_trained_on(bundle, tmp_path):
    for name in "abc":
        volume = np.random.default_rng(ord(name)).integers(0, 900, (20, 18, 3, 2))
        write_nifti(tmp_path / "volumes" / f"{name}.nii.gz", volume.astype(np.int16))
    run = train(bundle, tmp_path / "volumes", tmp_path / "out", "slices.json", channel=0, batch_size=2)
    assert len(run.train_dataset) == 6
    assert (tmp_path / "out" / "model.pt").is_file()
    given = {"dataset_dir": str(tmp_path / "volumes"), "channel": 0}
    shipped = restoration(bundle, "evaluate.json", "slices.json", **given).parser.get_parsed_content("split")
    assert len(shipped[1]) == 3, "a volume, whatever columns the record of the shipped weights names"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_images_of_a_patient_are_scaled_alike(bundle, tmp_path):
    dim, bright = (head_slice(24, seed=seed) // factor for seed, factor in ((0, 3), (1, 1)))
    rows = ["path,class,patient"]
    for patient in range(6):
        for name, image in (("dim", dim), ("bright", bright)):
            write_picture(tmp_path / "data" / "glioma" / f"{name}_{patient}.png", image)
            rows.append(f"glioma/{name}_{patient}.png,glioma,{patient}")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(rows))
    largest = {}
    for wanted in (False, True):
        given = {"group_by": "patient", "patient_range": wanted, "spatial_size": [24, 24]}
        run = workflow(
            bundle, tmp_path / "data", tmp_path, **given, **({"factors": [1.0]} if bundle == SUPERRES else {})
        )
        cases = run.parser.get_parsed_content("train#dataset")
        largest[wanted] = [float(case["image"].max()) for case in cases if case["case"].startswith("dim")]
    assert largest[True]
    assert max(largest[True]) < min(largest[False]), "a dim image stays dim beside the bright one of its patient"


@pytest.mark.parametrize("bundle", [SUPERRES, INPAINT])
def test_a_strict_split_holds_out_no_lookalike_of_a_training_slice(bundle, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    files = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png"))
    rows = [f"{file},{file.split('/')[0]},{i // 2},{i % 6 if i % 2 else file}" for i, file in enumerate(files)]
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(["path,class,series,lookalike", *rows]))
    shares = {}
    for overlays, given in (((), {"group_by": "series"}), (("strict.json",), {})):
        run = workflow(bundle, tmp_path / "data", tmp_path, *overlays, without=("group_by",), **given)
        shares[overlays] = run.parser.get_parsed_content("split")
    (train_by_series, _), (train_strict, held_out) = shares.values()
    assert [case["case"] for case in train_strict] == [case["case"] for case in train_by_series]
    assert held_out
    for key in ("group", "lookalike"):
        assert not {case[key] for case in train_strict} & {case[key] for case in held_out}
    with refused(ValueError, "have no 'lookalike'"):
        own = {"split#apart": "lookalike", "group_by": "series"}
        workflow(bundle, tmp_path / "data", tmp_path, without=("group_by",), **own).parser.get_parsed_content("split")


@pytest.mark.parametrize(("bundle", "device"), [(DENOISE, TEST_DEVICE), (SUPERRES, "cuda")])
def test_the_classifier_learns_clean_images_of_the_training_share(bundle, device, data, tmp_path):
    own = {"classes": ["glioma", "normal"], "classifier_weights": str(tmp_path / "c.pt"), "spatial_size": [32, 32]}
    more = {"batch_size": 5, "max_epochs": 2, "log_interval": 100, "val_interval": 2}
    more["device"] = f"$torch.device('{device}')"
    with nullcontext() if device == "cpu" or torch.cuda.is_available() else simulated_gpu():
        run = train(bundle, data, tmp_path, "train_classifier.json", without=(*NETWORK, STEPS), **own, **more)
    assert run.evaluator.state.metrics["held_out_accuracy"] >= 0
    assert {case["case"] for case in run.train_dataset_data} == {
        c["case"] for c in run.parser.get_parsed_content("split")[0]
    }
    batch = next(iter(run.parser.get_parsed_content("train#dataloader")))
    assert (float(batch["image"].min()), float(batch["image"].max())) == (-1, 1)
    network = load_classifier(grey_vgg11(2), tmp_path / "c.pt")
    trained = run.parser.get_parsed_content("network").state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, trained[key].cpu(), rtol=1e-3, atol=1e-4)
    assert (tmp_path / "c.pt").stat().st_size < 25e6


def test_the_published_head_and_a_wrong_one():
    with torch.device("meta"):
        assert sum(p.numel() for p in grey_vgg11(3, head="vgg", batch_norm=False).parameters()) == 128_777_475
    assert 9.2e6 < sum(p.numel() for p in grey_vgg11(3, batch_norm=False).parameters()) < 9.3e6
    assert grey_vgg11(3).eval()(torch.zeros(2, 1, 40, 36)).shape == (2, 3)
    with pytest.raises(ValueError, match="head must be one of"):
        grey_vgg11(3, head="small")
