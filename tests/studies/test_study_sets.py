from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from common.evaluation.folders import ImageFolder
from common.evaluation.groups import groups_of_folders
from common.studies.study_sets import link_folders, main
from tests.bundles.classify_runs import write_real, write_set


@pytest.fixture
def real(tmp_path):
    """20 images a class, each pair of neighbours one group."""
    return write_real(tmp_path / "real", copies=True)


def groups(folder):
    return {(link.name[0], int(link.stem[-3:]) // 2) for link in folder.glob("*.png")}


def test_near_copies_of_the_sample_are_left_out_of_the_real_images(tmp_path, real, capsys):
    synthetic = write_set(tmp_path / "synthetic", each=3)
    counts = link_folders(real, tmp_path / "out", synthetic, group_by="group")
    assert counts["sample"] == 8
    assert counts["synthetic"] == 6
    assert 24 <= counts["real"] < 32, "of the 32 others, 8 or fewer share a group with one of the sample"
    assert not groups(tmp_path / "out" / "sample") & groups(tmp_path / "out" / "real")
    assert f"all: 8, 32, {32 - counts['real']}" in capsys.readouterr().out
    sides = {"fake": "synthetic", "real": "real"}
    folders = {side: ImageFolder(tmp_path / "out" / name, grey=True) for side, name in sides.items()}
    together = groups_of_folders(folders, group_by="group")
    assert len(together["fake"]) == len(set(together["fake"])) == 6
    assert len(set(together["real"])) == len(groups(tmp_path / "out" / "real")) < counts["real"]
    link = tmp_path / "out" / "synthetic" / "dark_dark_00001.png"
    assert link.resolve() == (synthetic / "dark" / "dark_00001.png").resolve()


def test_without_groups_nothing_is_said_of_near_copies(tmp_path, real, capsys):
    assert link_folders(real, tmp_path / "out", every=4) == {"sample": 8, "real": 8}
    assert capsys.readouterr().out.splitlines() == ["class: sample, rest", "bright: 4, 16", "dark: 4, 16", "all: 8, 32"]


def test_a_split_by_group_loses_no_image(tmp_path, real):
    assert link_folders(real, tmp_path / "out", group_by="group", split="group") == {"sample": 8, "real": 32}


def test_a_strict_split_leaves_out_lookalikes_of_the_sample(tmp_path, real, capsys):
    main([str(real), str(tmp_path / "out"), "--split", "strict"])
    number = {name: sum(1 for _ in (tmp_path / "out" / name).glob("*.png")) for name in ("sample", "real")}
    assert number == {"sample": 8, "real": 24}, "a series of four, and six that look like some of them, a class"
    assert not groups(tmp_path / "out" / "sample") & groups(tmp_path / "out" / "real")
    assert "all: 8, 24, 0" in capsys.readouterr().out
    counts = link_folders(real, tmp_path / "validated", split="strict", validation_fraction=0.3)
    assert counts["validation"] + counts["real"] <= 24
    assert not groups(tmp_path / "validated" / "validation") & groups(tmp_path / "validated" / "real")
    assert "class: sample, validation, rest, of" in capsys.readouterr().out
    counts = link_folders(real, tmp_path / "by_group", group_by="group", split="group", lookalike_by="lookalike")
    assert counts["real"] < 32, "with lookalike_by, they are left out of the real images of any split"


def test_images_of_one_name_are_refused_before_anything_is_written(tmp_path, real):
    (real / "manifest.csv").unlink()
    for below in ("x", "y"):
        (real / below / "c").mkdir(parents=True)
        for index in range(5):
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(real / below / "c" / f"{index}.png")
    with pytest.raises(ValueError, match="different ones"):
        link_folders(real, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "group"], "set group_by to a column"),
        (["--split", "patient"], "split of"),
        (["--every", "0"], "every must be"),
        (["--synthetic_dir", "nowhere"], "No nowhere"),
        (["--group_by", "patient"], "no column"),
        (["--lookalike_by", "patient"], "no column"),
        (["--split", "strict", "--group_by", "nothing"], "no column"),
    ],
)
def test_mistakes_end_the_command_with_one_line(tmp_path, real, arguments, message, capsys):
    assert main([str(real), str(tmp_path / "out"), *arguments]) == 2
    assert re.search(f"^error: .*{message}", capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path, real, capsys):
    assert main([str(real), str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_generated_images_among_the_real_ones_are_refused(tmp_path):
    with pytest.raises(ValueError, match="synthetic"):
        link_folders(write_set(tmp_path / "set"), tmp_path / "out")


def test_an_argument_that_is_not_known_is_refused_before_any_work(tmp_path, real, capsys):
    with pytest.raises(SystemExit):
        main([str(real), str(tmp_path / "out"), "--groupby", "group"])
    assert "unrecognized arguments: --groupby" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
