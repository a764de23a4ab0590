from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from common.data.study_folders import main, study_folders
from tests.data.test_synthetic import write_set


@pytest.fixture
def real(tmp_path):
    """20 images a class, each pair of neighbours one group."""
    folder = tmp_path / "real"
    rows = []
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for index in range(20):
            Image.fromarray(np.full((4, 6), index, np.uint8)).save(folder / name / f"{index:02d}.png")
            rows.append({"path": f"{name}/{index:02d}.png", "class": name, "group": f"{name}{index // 2}"})
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "class", "group"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def groups(folder):
    return {(link.name[0], int(link.name[2:4]) // 2) for link in folder.iterdir()}


def test_near_copies_of_the_sample_are_left_out_of_the_real_images(tmp_path, real, capsys):
    synthetic = write_set(tmp_path / "synthetic")
    counts = study_folders(real, tmp_path / "out", synthetic, group_by="group")
    assert counts["sample"] == 8
    assert counts["synthetic"] == 5
    assert 24 <= counts["real"] < 32, "of the 32 others, 8 or fewer share a group with one of the sample"
    assert not groups(tmp_path / "out" / "sample") & groups(tmp_path / "out" / "real")
    assert f"all: 8, 32, {32 - counts['real']}" in capsys.readouterr().out
    link = tmp_path / "out" / "synthetic" / "b_b_00001.png"
    assert link.resolve() == (synthetic / "b" / "b_00001.png").resolve()


def test_without_groups_nothing_is_said_of_near_copies(tmp_path, real, capsys):
    assert study_folders(real, tmp_path / "out", every=4) == {"sample": 8, "real": 8}
    assert capsys.readouterr().out.splitlines() == ["class: sample, rest", "a: 4, 16", "b: 4, 16", "all: 8, 32"]


def test_a_split_by_group_loses_no_image(tmp_path, real):
    assert study_folders(real, tmp_path / "out", group_by="group", split="group") == {"sample": 8, "real": 32}


def test_images_of_one_name_are_refused_before_anything_is_written(tmp_path, real):
    (real / "manifest.csv").unlink()
    for below in ("x", "y"):
        (real / below / "c").mkdir(parents=True)
        for index in range(5):
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(real / below / "c" / f"{index}.png")
    with pytest.raises(ValueError, match="different ones"):
        study_folders(real, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "group"], "with group_by"),
        (["--split", "patient"], "split must be"),
        (["--every", "0"], "every must be"),
        (["--synthetic_dir", "nowhere"], "No nowhere"),
        (["--group_by", "patient"], "no column"),
    ],
)
def test_mistakes_end_the_command_with_one_line(tmp_path, real, arguments, message):
    with pytest.raises(SystemExit, match=f"study_folders: .*{message}"):
        main([str(real), str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path, real):
    with pytest.raises(SystemExit, match="is there already"):
        main([str(real), str(tmp_path)])


def test_generated_images_among_the_real_ones_are_refused(tmp_path):
    with pytest.raises(ValueError, match="synthetic"):
        study_folders(write_set(tmp_path / "set", (("a", 9), ("b", 9))), tmp_path / "out")


def test_an_argument_that_is_not_known_is_refused_before_any_work(tmp_path, real, capsys):
    with pytest.raises(SystemExit):
        main([str(real), str(tmp_path / "out"), "--groupby", "group"])
    assert "unrecognized arguments: --groupby" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
