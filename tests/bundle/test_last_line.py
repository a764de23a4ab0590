"""What is left of an error on the console: its message, last and alone."""

from __future__ import annotations

import sys
import tempfile
import threading

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, Lambdad

from common.bundle.last_line import LastLine, shortened
from common.networks.weights import write_torch
from common.utils import message_of, root_cause
from tests.fixtures import files_of_at_most


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


def test_a_full_disk_is_told_with_the_folder_also_by_threads(hook, capsys, tmp_path):
    full = OSError(28, "No space left on device")  # of an open file: the system names none
    hook(*caught(lambda: (_ for _ in ()).throw(full)))
    assert capsys.readouterr().err.splitlines()[-1] == f"{tmp_path / 'out'}: No space left on device."
    threading.excepthook(threading.ExceptHookArgs((OSError, full, None, None)))
    assert capsys.readouterr().err == ""


def test_a_folder_that_takes_no_log_is_left_without_half_of_one(hook, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with files_of_at_most(100):
        hook(*caught(fails))
    assert "The traceback is in no file" in capsys.readouterr().err
    assert list(tmp_path.rglob("*.log")) == []


def test_weights_that_do_not_fit_name_their_file_and_leave_what_was_there(tmp_path):
    path = write_torch(tmp_path / "model.pt", {"a": torch.ones(3)})
    with files_of_at_most(100_000), pytest.raises(OSError, match=r"model\.pt") as full:
        write_torch(path, {"a": torch.ones(1_000_000)})
    assert "unexpected pos" not in message_of(full.value)
    assert [one.name for one in tmp_path.iterdir()] == ["model.pt"]
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))


def test_the_log_of_an_earlier_run_goes(hook, tmp_path):
    hook(*caught(fails))
    assert (tmp_path / "out" / "error.log").exists()
    LastLine.install(hook.parser)
    assert not (tmp_path / "out" / "error.log").exists()


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
