"""Command lines: their mistakes, and names of files and folders."""

from __future__ import annotations

import pytest

from common.bundle.arguments import main as arguments
from common.bundle.package import main as package
from common.bundle.release import main as release
from common.bundle.zoo import main as zoo
from common.data.bids import main as bids
from common.evaluation.__main__ import main
from common.evaluation.data_check import main as check
from common.masks.__main__ import main as masks
from tests.bundles.restoration_runs import grey, write_picture
from tests.fixtures import BUNDLE, files_of_at_most, write_dataset


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


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (package, ["--bundle", "nowhere"], "nowhere is no bundle that can be packed"),
        (release, ["nowhere"], "nowhere is no bundle that can be packed"),
        (zoo, ["nowhere"], "nowhere"),
        (bids, ["nowhere"], "nowhere"),
        (arguments, ["nowhere"], "No bundle nowhere"),
        (check, ["nowhere", "--bundle", str(BUNDLE)], "nowhere"),
        (check, [".", "--bundle", str(BUNDLE), "--out", "."], "--out . is a folder; a file was expected"),
    ],
)
def test_a_mistake_ends_in_one_line(command, given, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(given) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_in_one_line(tmp_path, capsys):
    data = write_dataset(tmp_path / "data", 4)
    with files_of_at_most(1000):
        assert check([str(data), "--bundle", str(BUNDLE), "--out", str(tmp_path / "page.html")]) == 2
        assert package(["--bundle", str(BUNDLE), "--out", str(tmp_path / "dist")]) == 2
    first, second = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert first.startswith(f"error: {tmp_path / 'page.html'}: ")
    assert second.startswith(f"error: {tmp_path / 'dist' / 'med_ddpm_3d.zip'}: ")
    assert list((tmp_path / "dist").iterdir()) == []
