"""Writes that are complete or not there at all, also after kills and beside other processes."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.data.reader import read_image
from common.networks.weights import read_checkpoint
from common.utils import message_of
from common.utils.files import read_csv, sha256_of, write_csv, written_whole, written_whole_folder

_KILLED = """
import os, signal
from common.utils.files import written_whole
with written_whole({path!r}) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "volume.nii.gz"
    with written_whole(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".volume.nii.gz")
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert os.listdir(path.parent) == ["volume.nii.gz"]


def test_an_error_leaves_the_file_before_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")

    def fill() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert os.listdir(tmp_path) == ["a.json"]
    assert path.read_text() == "before"


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *args: (calls.append("fsync"), fsync(*args)))
    monkeypatch.setattr(os, "replace", lambda *args: (calls.append("replace"), replace(*args)))
    with written_whole(tmp_path / "a") as temporary:
        temporary.write_bytes(b"1")
    assert calls == ["fsync", "replace"]


def test_the_next_write_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    path = tmp_path / "model.pt"
    killed = subprocess.run([sys.executable, "-c", _KILLED.format(path=str(path))])
    assert killed.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.endswith(".model.pt")
    others = {".model.pt", ".backup.model.pt", f"{left[:-3]}.json", "other.pt"}
    for other in others:
        with written_whole(tmp_path / other) as temporary:
            temporary.write_bytes(b"")
    assert {*others, left} == set(os.listdir(tmp_path))
    with written_whole(path) as temporary:
        temporary.write_bytes(b"whole")
    assert {*others, "model.pt"} == set(os.listdir(tmp_path))


def test_a_write_that_goes_on_is_no_leftover(tmp_path):
    path = tmp_path / "a"
    with written_whole(path) as first:
        first.write_text("first")
        with written_whole(path) as second:
            second.write_text("second")
        assert first != second
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_many_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a"

    def write(number: int) -> None:
        with written_whole(path) as temporary:
            temporary.write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    assert os.listdir(tmp_path) == ["a"]


def test_the_hash_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_folder_takes_its_name_when_it_is_complete_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "new" / "series"
    with written_whole_folder(path) as temporary:
        (temporary / "1").write_bytes(b"first")
        assert not path.exists()
    with pytest.raises(FileNotFoundError), written_whole_folder(path) as temporary:
        (temporary / "none").read_bytes()
    assert [one.read_bytes() for one in path.iterdir()] == [b"first"]
    (tmp_path / "new" / ".0123456789abcdef.series").mkdir()  # of a killed process
    with written_whole_folder(path) as temporary, written_whole_folder(path) as other:  # neither is a leftover
        (other / "2").write_bytes(b"second")
        (temporary / "3").write_bytes(b"third")
    assert [one.read_bytes() for one in path.iterdir()] == [b"third"]
    assert [one.name for one in path.parent.iterdir()] == ["series"]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "masks" / "a.nii.gz"
    with pytest.raises(OSError, match="No space left") as full, written_whole(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert message_of(full.value) == f"{path}: No space left on device."
    assert not list(path.parent.iterdir())
    with pytest.raises(FileNotFoundError) as gone, written_whole(path) as temporary:
        temporary.rename(tmp_path / "gone")
    assert gone.value.filename == str(path), "not the hidden one"
    with pytest.raises(FileNotFoundError, match="other"), written_whole(path):
        (tmp_path / "other").read_bytes()
    with pytest.raises(OSError, match="a reader's own words"), written_whole(path):
        raise OSError("a reader's own words")


def test_a_table_comes_back_whatever_its_names_and_a_missing_column_is_named(tmp_path):
    path = write_csv(tmp_path / "new" / "a.csv", ("name", "file"), [("one", "a,b"), ("two", None)])
    assert path.read_bytes() == b'name,file\r\none,"a,b"\r\ntwo,\r\n'
    assert read_csv(path, ["file"]) == [{"name": "one", "file": "a,b"}, {"name": "two", "file": ""}]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as spreadsheets do
    assert read_csv(path)[0]["name"] == "one"
    with pytest.raises(ValueError, match=r"a.csv has no column \['path'\]: the manifest of a set was expected"):
        read_csv(path, ["path", "file"], "the manifest of a set")
    write_csv(path, ["file"], [["\udcff.png"]], "\n")
    assert path.read_bytes() == b"file\n\xff.png\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull fetches the file"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page lies in its place"),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.nii.gz", "a.dcm", "a.pt"])
def test_what_lies_in_the_place_of_a_file_is_told(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}.*{said}"):
        (read_checkpoint if name == "a.pt" else read_image)(path)
