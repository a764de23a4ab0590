"""Names of files and folders on command lines that fire reads."""

from __future__ import annotations

import pytest

from common.evaluation.__main__ import main
from common.masks.__main__ import main as masks
from tests.bundles.restoration_runs import grey, write_picture


@pytest.mark.parametrize("name", ["1e3", "a,b", "007", "[x]", "1_0"])
def test_a_folder_is_found_whatever_it_is_called(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        write_picture(tmp_path / name / f"{index}.png", grey(seed=index))
    sets = ["--real", name, "--fake", name, "--pairs", "1"]
    assert main(["reader-study", *sets, "--out", f"{name}.study"]) == 0, capsys.readouterr().err
    assert (tmp_path / f"{name}.study" / "key.csv").is_file()
    masks(["phantom", f"{name}.masks", "--size", "16"])
    assert (tmp_path / f"{name}.masks" / "head_000.nii.gz").is_file()
