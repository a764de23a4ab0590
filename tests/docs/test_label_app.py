"""What the app for MONAI Label does with files, without MONAI Label: ``make integration`` tests the rest."""

from __future__ import annotations

import sys

import pytest

from common.data.lists import image_cases, paired_cases
from tests.fixtures import REPOSITORY

sys.path.append(str(REPOSITORY / "docs" / "examples" / "label"))
from lib.files import lay_out, may_read, new_run, publish, weights_of


def test_a_request_names_no_file_but_those_of_the_datastore_and_those_sent(tmp_path):
    studies, sent, private = (tmp_path / name for name in ("studies", "sent", "private"))
    for folder in (studies, sent, private):
        folder.mkdir()
        (folder / "a.png").touch()
        (folder / "link.png").symlink_to(private / "a.png")
    allowed = [studies / "a.png", studies / "link.png", sent / "a.png"]
    refused = [private / "a.png", sent / "link.png", studies / "none.png", studies, sent]
    refused += [f"{studies}/../private/a.png", f"{sent}/../private/a.png", "/etc/hostname", ".", "..", "\0"]
    assert [path for path in allowed if not may_read(str(path), str(studies), [str(sent)])] == []
    assert [path for path in refused if may_read(str(path), str(studies), [str(sent)])] == []


def test_a_datastore_is_laid_out_as_trainings_read_it(tmp_path):
    for name in ("x.nii.gz", "y.nii.gz", "z.png"):
        (tmp_path / name).write_bytes(b"1")
    pair = {"images": str(tmp_path / "x.nii.gz"), "labels": str(tmp_path / "y.nii.gz")}
    lay_out({"scan.1": pair, "scan.2": pair}, tmp_path / "pairs")
    folders = {"image": "images", "label": "labels"}
    assert [case["case"] for case in paired_cases(tmp_path / "pairs", folders)] == ["scan.1", "scan.2"]
    lay_out({"slice": {"": str(tmp_path / "z.png")}}, tmp_path / "images")
    assert [case["image"] for case in image_cases(tmp_path / "images")] == [str(tmp_path / "images" / "slice.png")]


def test_trained_weights_are_offered_whole_and_replace_none(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / "model.pt").write_bytes(b"shipped")
    run = new_run(tmp_path, "mine")
    (run / "result").mkdir()
    (run / "result" / "model.pt").write_bytes(b"trained")
    with pytest.raises(FileNotFoundError, match=r"model\.json: the training has not left it"):
        publish(run, tmp_path)
    assert weights_of(tmp_path) == ["model.pt"]
    (run / "result" / "model.json").write_text("{}")
    assert publish(run, tmp_path) == models / "label_mine.pt"
    assert weights_of(tmp_path) == ["model.pt", "label_mine.pt"]
    found = {path.name: path.read_bytes() for path in models.iterdir()}
    assert found == {"model.pt": b"shipped", "label_mine.pt": b"trained", "label_mine.json": b"{}"}

    (run / "result" / "model.pt").write_bytes(b"again")
    with pytest.raises(FileExistsError, match=r"label_mine\.pt is there already"):
        publish(run, tmp_path)
    assert {path.name: path.read_bytes() for path in models.iterdir()} == found
    for name in ("mine", "../model", "", "a/b", "x" * 65):
        with pytest.raises(ValueError, match=r"^publish_as: "):
            new_run(tmp_path, name)
