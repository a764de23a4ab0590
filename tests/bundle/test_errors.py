"""What ``monai.bundle run`` refuses before anything is done, and what it takes."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
import types

import pytest
import torch
from monai.bundle import create_workflow

from common.bundle.arguments import configs
from common.bundle.errors import changed_transforms, check_arguments, check_configs, check_values, command_line
from common.utils import message_of
from tests.bundles.ways import start
from tests.fixtures import BUNDLE, REPOSITORY

INFERENCE = BUNDLE / "configs" / "inference.json"


def test_arguments_that_something_knows_are_taken():
    defined = {"seed": 0, "train": {"trainer": {}}}
    given = ["seed", "train#trainer#max_epochs", "train::dataloader", "_meta_#version", "debug", "mine", "tracking_uri"]
    config = {"seed": "@mine", "handler": {"uri": "$@tracking_uri"}}
    check_arguments(given, defined, config)
    with pytest.raises(ValueError, match="--trian#trainer: no such argument; --train#trainer was meant"):
        check_arguments(["trian#trainer"], defined, config)
    with pytest.raises(ValueError, match=r"--zzz: no such argument\. --sed: .*--seed was meant"):
        check_arguments(["zzz", "sed"], defined, config)
    sampled = {"batch_size": 1, "dataloader": {"batch_sampler": "@batches"}}
    with pytest.raises(ValueError, match=r"--dataloader#batch_size: a sampler .* --batch_size was meant\. Nothing"):
        check_arguments(["dataloader#batch_size", "dataloader#num_workers"], sampled, sampled)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "$torch.device('cuda')"])
def test_a_gpu_that_is_not_there_is_said_in_one_line(device):
    with pytest.raises(ValueError, match=r"--device: cpu, .* was expected: PyTorch finds no GPU"):
        check_values({"device": device})
    for fine in ("cpu", "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"):
        check_values({"device": fine})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("overwrite", "false", "True or False"),
        ("skip_bad", "no", "True or False"),
        ("seed", 1.5, "a whole number"),
        ("num_inference_steps", "ten", "a whole number"),
        ("num_samples", True, "a value"),
        ("guidance_scale", "1,1", "a number"),
        ("spatial_size", "128x128", "a list of numbers"),
        ("spatial_size", 128, "a list of numbers"),
        ("optional_labels", "tumour", "a list of texts"),
        ("labels", "head", "names with their values"),
        ("network_def#use_checkpointing", "yes", "True or False"),
    ],
)
def test_a_value_of_another_kind_is_refused(name, value, expected):
    with pytest.raises(ValueError, match=rf"^--{name}: {expected}.* was expected.*\. Nothing was done\."):
        check_values({name: value})
    for fine in (None, "$None", "@other", {"_target_": "a.B"}):
        check_values({name: fine})


def test_values_of_their_kind_are_taken():
    check_values({"overwrite": False, "seed": -1, "guidance_scale": 2, "spatial_size": (64, 64), "spacing": 3})
    check_values({"size": 96, "sizes": 128})
    check_values({"sizes": [[64, 64]], "optional_labels": [], "labels": {"a": 1}, "unknown": "x", "split": "group"})


def test_a_value_of_another_kind_in_a_config_is_refused_with_its_file(tmp_path):
    own = tmp_path / "own.json"
    own.write_text('{"seed": "7", "num_inference_steps": "$2 * 5"}')
    with pytest.raises(ValueError, match=rf"^{own}: a whole number was expected as seed, got '7'\. Nothing was done"):
        check_configs([str(INFERENCE), str(own)])
    check_configs([str(path) for path in configs(BUNDLE)])


def test_python_is_told_nothing(tmp_path):
    before = sys.excepthook
    create_workflow(config_file=str(INFERENCE), logging_file=False, output_dir=str(tmp_path), my_own=1)
    command_line()
    assert sys.excepthook is before


@pytest.fixture
def as_command_line(monkeypatch):
    main = types.ModuleType("__main__")
    main.__spec__ = importlib.machinery.ModuleSpec("monai.bundle.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.mark.parametrize("overlay", ["ancestral.json", "evaluate.json"])
def test_the_command_line_refuses_what_no_config_knows(as_command_line, overlay):
    files = [str(INFERENCE), str(INFERENCE.with_name(overlay))]
    with pytest.raises(RuntimeError) as caught:
        create_workflow(config_file=files, logging_file=False, num_inference_step=3, sed=4)
    assert message_of(caught.value).startswith("--num_inference_step: no such argument; --num_inference_steps was")
    assert "--seed was meant" in message_of(caught.value)
    assert type(sys.excepthook).__name__ == "LastLine"  # that of the bundle's own code


def test_an_argument_that_an_overlay_has_replaced_is_named(as_command_line, caplog):
    files = [str(INFERENCE), str(INFERENCE.with_name("generate.json"))]
    given = {"mask": "mine.nii.gz", "dataset_dir": "masks", "count": 2, "inferer#progress": False, "debug": True}
    create_workflow(config_file=files, logging_file=False, **given)
    told = [record.getMessage() for record in caplog.records if "has no effect" in record.getMessage()]
    assert told == [f"--{name} has no effect: nothing that runs here reads it." for name in ("mask", "dataset_dir")]


def test_a_folder_of_digits_is_a_folder(as_command_line):
    run = create_workflow(config_file=str(INFERENCE), logging_file=False, output_dir=20240501, debug=False)
    assert run.parser.get_parsed_content("output_dir") == "20240501"
    path = str(REPOSITORY / "bundles" / "med_cdiff_mri_superres" / "configs" / "inference.json")
    run = create_workflow(config_file=path, logging_file=False, output_postfix=2024, debug=False)
    assert run.parser.get_parsed_content("output_postfix") == "2024"


def test_a_word_that_means_false_is_not_taken_for_true(as_command_line):
    with pytest.raises(RuntimeError) as caught:
        create_workflow(config_file=str(INFERENCE), logging_file=False, overwrite="false")
    assert message_of(caught.value) == "--overwrite: True or False was expected, got 'false'. Nothing was done."


def run_bundle(folder, *arguments):
    """``python -m monai.bundle run`` with inference.json: its status, and the lines on stderr."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(INFERENCE), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return run.returncode, run.stderr.splitlines()


def test_the_last_line_a_user_sees_is_the_message(tmp_path):
    bad, out = tmp_path / "bad.nii.gz", tmp_path / "out"
    bad.write_bytes(b"no image")
    status, lines = run_bundle(tmp_path, "--mask", bad, "--output_dir", out)
    assert status == 1
    assert lines[-1].startswith(f"{bad}: damaged, cut off")
    assert lines[-2] == "1 of 1 inputs cannot be used:"
    assert f"The traceback is in {out / 'error.log'}" in lines[-3]
    assert len(lines) <= 5
    given = ["run", "--config_file", INFERENCE, "--mask", bad, "--output_dir", out, "--skip_bad", True]
    status, _, told = start(given, tmp_path).wait()
    lines = told.splitlines()
    assert status == 3
    assert lines[-1] == f"1 of 1 inputs were left out, all others are done; see {out / 'skipped.csv'}."
    assert len(lines) <= 5


def test_changed_transforms_of_the_user_are_told_apart_from_those_of_the_bundle(tmp_path):
    own = tmp_path / "own.json"
    own.write_text('{"+preprocessing#transforms": [{"_target_": "Flipd", "keys": "image"}], "seed": 3}')
    files, given = [str(INFERENCE), str(own)], {"postprocessing::transforms::2::output_dtype": "$float", "prep": 1}
    assert changed_transforms(files, given, INFERENCE.parent) == [
        'postprocessing::transforms::2::output_dtype: "$float"',
        'preprocessing::transforms: [{"_target_": "Flipd", "keys": "image"}]',
    ]
    assert changed_transforms(files[:1], {"seed": 1}, INFERENCE.parent) == []


def test_an_image_made_with_another_transform_is_not_taken_for_this_run(tmp_path):
    restore = REPOSITORY / "bundles" / "med_cdiff_xray_denoise" / "configs" / "inference.json"
    plain = ["run", "--config_file", restore, "--output_dir", tmp_path / "out", "--num_inference_steps", "1"]
    changed = [*plain, "--preprocessing#transforms#3#b_max", "0.9"]
    assert start(changed, tmp_path).wait()[0] == 0
    status, *said = start(plain, tmp_path).wait()
    assert status
    assert "changed_transforms ['preprocessing::transforms::3::b_max: 0.9']" in "".join(said)
