"""What is left of an error on the console: its message, last and alone."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
import types

import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.transforms import Compose, Lambdad

from common.bundle.arguments import configs
from common.bundle.errors import LastLine, check_arguments, check_configs, check_values, command_line, shortened
from common.utils import message_of, root_cause
from tests.bundles.ways import start
from tests.fixtures import BUNDLE, REPOSITORY

INFERENCE = BUNDLE / "configs" / "inference.json"


def fails(text="in/a.png: damaged."):
    raise ValueError(text)


@pytest.fixture
def hook(tmp_path, monkeypatch):
    """A hook in place of one that counts its calls."""
    calls = []
    parser = ConfigParser({"output_dir": str(tmp_path / "out")})
    monkeypatch.setattr(sys, "excepthook", lambda *error: calls.append(error))
    LastLine.install(parser)
    sys.excepthook.calls = calls
    return sys.excepthook


def caught(call, *args):
    try:
        call(*args)
    except BaseException as error:
        return type(error), error, error.__traceback__
    raise AssertionError("no error")


def wrapped():
    config = {"part": {"_target_": f"{__name__}.fails"}, "run": "$@part"}
    return caught(ConfigParser(config).get_parsed_content, "run")


def test_the_root_cause_is_the_first_that_is_not_monais():
    kind, error, _ = wrapped()
    assert kind is RuntimeError
    assert isinstance(root_cause(error), ValueError)
    assert message_of(error) == "in/a.png: damaged."
    _, error, _ = caught(Compose([Lambdad("x", lambda x: fails())]), {"x": 1})
    assert message_of(error) == "in/a.png: damaged."
    ours = RuntimeError("out: ended.")
    ours.__cause__ = ValueError("a reason")
    assert root_cause(ours) is ours


def test_an_error_without_a_sentence_has_its_type():
    assert message_of(KeyError("inferer")) == "KeyError: 'inferer'"
    assert message_of(KeyError("configs/a.json has no item 'b'.")) == "configs/a.json has no item 'b'."
    assert message_of(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert message_of(PermissionError(13, "Permission denied", "out")) == "out: Permission denied."
    assert message_of(ValueError()) == "ValueError: "


def test_an_error_of_a_worker_is_its_first():
    text = "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    text += '  File "a.py", line 1, in f\nValueError: in/a.png: damaged.\n\nThe above exception was the direct cause'
    assert message_of(RuntimeError(text + " of x:\n\nRuntimeError: applying transform b")) == "in/a.png: damaged."


def test_the_message_is_last_and_alone_and_the_traceback_in_a_file(hook, tmp_path, capsys):
    hook(*wrapped())
    place, message = capsys.readouterr().err.splitlines()
    log = tmp_path / "out" / "error.log"
    assert message == "in/a.png: damaged."
    assert str(log) in place
    assert "Traceback (most recent call last)" in log.read_text()
    assert "Failed to instantiate" in log.read_text()
    assert hook.calls == []


@pytest.mark.parametrize("folder", ["out", None])
def test_a_name_that_is_not_utf8_stands_in_the_log(hook, tmp_path, monkeypatch, folder):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    hook.parser["output_dir"] = folder and str(tmp_path / folder)
    assert hook._write("/in/\udcff.png: damaged.").read_text() == "/in/\\udcff.png: damaged."


def test_with_debug_the_traceback_is_on_the_console(hook, tmp_path, capsys):
    hook.parser["debug"] = True
    hook(*wrapped())
    assert capsys.readouterr().err.splitlines() == ["in/a.png: damaged."]
    assert len(hook.calls) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["file", "$1 / 0", None])
def test_without_an_output_folder_the_traceback_is_in_a_temporary_file(hook, tmp_path, monkeypatch, capsys, folder):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    hook.parser["output_dir"] = str(tmp_path / folder) if folder == "file" else folder
    hook(*wrapped())
    (log,) = tmp_path.glob("error_*.log")
    assert str(log) in capsys.readouterr().err


def test_a_status_of_its_own_ends_the_process_with_it(hook, tmp_path, capsys):
    error = RuntimeError("1 of 3 inputs was left out.")
    error.exit_status = 3
    with pytest.raises(SystemExit) as ended:
        hook(RuntimeError, error, None)
    assert ended.value.code == 3
    assert capsys.readouterr().err == "1 of 3 inputs was left out.\n"
    assert not (tmp_path / "out").exists()


def test_an_interrupt_is_left_to_the_hook_before(hook, capsys):
    hook(*caught(lambda: (_ for _ in ()).throw(KeyboardInterrupt())))
    assert len(hook.calls) == 1
    assert capsys.readouterr().err == ""


def test_it_is_installed_once(hook):
    other = ConfigParser({})
    LastLine.install(other)
    assert sys.excepthook is hook
    assert hook.parser is other


def test_a_long_message_is_two_lines():
    files = "3 of 9 inputs cannot be used:\n  in/a.png: x.\n  in/b.png: y.\n  in/c.png: z."
    assert shortened(files).splitlines()[0].startswith("3 of 9 inputs cannot be used (a.png, b.png, c.png); ")
    assert shortened(files).splitlines()[1:] == ["in/a.png: x."]
    assert shortened("a\nb") == "a\nb"
    assert shortened("a\nb\nc\nd").splitlines() == ["a", "b (2 more lines are in the log.)"]


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
