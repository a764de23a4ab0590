"""Two folders measured where several real images are of one patient."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from common.evaluation.__main__ import main
from common.evaluation.folders import ImageFolder
from common.evaluation.groups import groups_of_folders

PATIENTS, EACH = 12, 5
METRICS = "fid,kid,mmd,recall,machine_2afc,grain"
FEATURES = "torch.nn:Flatten"


@pytest.fixture
def folders(tmp_path):
    """60 real images, five of each patient and nearly alike, and as many generated ones; a table of the real ones."""
    rng = np.random.default_rng(0)
    patients = rng.normal(size=(PATIENTS, 8, 8)).repeat(EACH, 0)
    values = {"real": patients + 0.3 * rng.normal(size=patients.shape), "fake": rng.normal(size=patients.shape)}
    rows = ["path,class,patient"]
    for side, images in values.items():
        (tmp_path / side).mkdir()
        for i, image in enumerate(images):
            name = f"p{i // EACH:02d}_{i % EACH}.png" if side == "real" else f"drawn_{i}.png"
            Image.fromarray(np.clip(128 + 30 * image, 0, 255).astype(np.uint8)).save(tmp_path / side / name)
            rows += [f"{name},brain,{i // EACH}"] if side == "real" else []
    (tmp_path / "real" / "manifest.csv").write_text("\n".join(rows))
    return tmp_path


def compared(folders, *more, fake="fake"):
    arguments = ["--real", folders / "real", "--fake", folders / fake, "--out", folders / "report"]
    status = main([str(a) for a in ("compare", *arguments, "--metrics", METRICS, "--network", FEATURES, *more)])
    assert status == 0
    return json.loads((folders / "report" / "metrics.json").read_text())


def test_intervals_of_folders_draw_whole_patients(folders, capsys):
    alone, named = (compared(folders, *more) for more in ((), ("--subject_of", "(p[0-9]+)")))
    assert "left out" not in capsys.readouterr().err, "a manifest is expected beside images"
    assert alone["bootstrap"]["over"] == "images"
    assert named["bootstrap"]["over"] == "12 groups of real images and 60 of generated ones"
    for label, entry in named["metrics"].items():
        if label.startswith("machine"):  # whose folds are others
            assert entry["groups"] == PATIENTS + 60
            continue
        assert entry["value"] == pytest.approx(alone["metrics"][label]["value"])
        of_generated = label == "grain"
        assert (entry["interval95"] == alone["metrics"][label]["interval95"]) == of_generated
        if label.startswith(("kid", "mmd")):
            assert np.ptp(entry["interval95"]) > 1.05 * np.ptp(alone["metrics"][label]["interval95"])


def test_patients_of_restored_images_are_those_of_their_originals(folders, capsys):
    (folders / "restored").mkdir()
    for path in (folders / "real").glob("*.png"):
        Image.open(path).point(lambda grey: grey * 0.9 + 8).save(folders / "restored" / path.name)
    real, restored = (ImageFolder(folders / name) for name in ("real", "restored"))
    sides = {"real": real, "fake": restored}
    groups = groups_of_folders(sides, group_by="patient")
    assert groups["fake"] == groups["real"]
    assert len(set(groups["fake"])) == PATIENTS
    named = groups_of_folders(sides, subject_of="p([0-9]+)")
    assert [int(name) for name in named["real"]] == [int(name) for name in groups["real"]]
    alone, together = (
        compared(folders, "--metrics", "mse,psnr,grain", *more, fake="restored")["metrics"]
        for more in ((), ("--group_by", "patient"))
    )
    for name in ("mse", "psnr", "grain", "grain_ratio"):
        assert together[name]["value"] == pytest.approx(alone[name]["value"])
        assert together[name]["interval95"] != alone[name]["interval95"]


def test_images_of_patients_of_their_own_are_images(folders):
    sides = {name: ImageFolder(folders / name) for name in ("real", "fake")}
    assert groups_of_folders(sides) == groups_of_folders(sides, subject_of="file") == {}
    assert len(set(groups_of_folders(sides, subject_of="(.+)_")["fake"])) == 60  # not of one patient, "drawn"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--subject_of", "(p[0-9]+)", "--group_by", "patient"), "give one of them"),
        (("--subject_of", "(sub-[0-9]+)"), "does not match the file name 'p00_0'"),
        (("--subject_of", "p[0-9]+"), "a regular expression with a group"),
        (("--group_by", "centre"), "manifest.csv has no column ['centre']"),
    ],
)
def test_what_no_image_belongs_to_is_told_before_the_work(folders, capsys, more, message):
    arguments = ["compare", "--real", folders / "real", "--fake", folders / "fake", "--out", folders / "report", *more]
    assert main([str(a) for a in arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folders / "report").exists()


def test_a_table_that_lacks_an_image_or_is_not_there(folders, capsys):
    table = folders / "real" / "manifest.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-2]))
    arguments = ["compare", "--real", folders / "real", "--fake", folders / "fake", "--group_by", "patient"]
    assert main([str(a) for a in arguments]) == 2
    assert "does not list 2 of 60 images, such as p11_3.png" in capsys.readouterr().err
    table.unlink()
    assert main([str(a) for a in arguments]) == 2
    assert "manifest.csv, whose column 'patient' would say" in capsys.readouterr().err


def test_an_audit_knows_patients(folders, capsys):
    (folders / "train").mkdir()
    for path in sorted((folders / "real").glob("*.png"))[:30]:
        path.rename(folders / "train" / path.name)
    sides = [f"--{name}={folders / folder}" for name, folder in (("train", "train"), ("held_out", "real"))]
    arguments = ["audit", "--fake", str(folders / "fake"), *sides, "--out", str(folders / "audit")]
    assert main([*arguments, "--subject_of", "p([0-9]+)"]) == 0
    assert "Groups, which change sides whole: train 6, held_out 6." in (folders / "audit" / "audit.md").read_text()
    assert main([*arguments, "--subject_of", "p[0-9]+_([0-9])"]) == 2
    assert "5 groups, such as 0, have images in training and among the held-out ones" in capsys.readouterr().err
