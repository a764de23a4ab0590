"""A data set is looked at before training: what training would stop at, what is odd, pictures on one page."""

from __future__ import annotations

import runpy
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from common.evaluation import data_check
from tests.fixtures import image_of, two_part_mask, write_dataset, write_nifti

BUNDLE = "bundles/med_ddpm_3d"


def run(capsys, *arguments):
    """Exit status, what was printed, and the message."""
    status = data_check.main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return status, out, err.splitlines()[-1] if err else ""


def write_case(folder, name, mask, image, affine=None):
    for kind, array in (("images", image), ("labels", mask)):
        write_nifti(folder / kind / f"{name}.nii.gz", array, np.eye(4) if affine is None else affine)


def test_a_clean_set_is_summed_up_and_shown(tmp_path, capsys):
    data, page = write_dataset(tmp_path / "data", 6), tmp_path / "page.html"
    status, out, _ = run(capsys, data, "--bundle", BUNDLE, "--out", page)
    assert status == 0
    assert out.startswith("6 cases of 6 subjects or groups: 5 training, 1 held out.\n")
    assert "Error" not in out
    assert out.splitlines()[-1] == (
        f"Next: python -m monai.bundle run --config_file {BUNDLE}/configs/train.json --dataset_dir {data} "
        "--output_dir runs/mine"
    )
    text = page.read_text()
    assert text.count("<img ") == 6
    assert "anterior" in text
    assert "://" not in text


@pytest.fixture
def odd(tmp_path):
    """Six cases as they come, and one for everything that can be odd or wrong."""
    data = write_dataset(tmp_path / "data", 6)
    mask = two_part_mask((18, 22, 16), seed=50)
    write_case(data, "bright", mask, 100 * image_of(mask))
    write_case(data, "flipped", mask, image_of(mask, seed=9), np.diag([-1.0, 1.0, 1.0, 1.0]))
    write_case(data, "coarse", mask, image_of(mask, seed=8), np.diag([3.0, 3.0, 3.0, 1.0]))
    write_case(data, "unknown", np.where(mask == 2, 7, mask).astype(np.uint8), image_of(mask, seed=7))
    write_case(data, "lacking", np.minimum(mask, 1), image_of(mask, seed=6))
    write_case(data, "moved", mask, image_of(mask, seed=5))
    write_nifti(data / "labels" / "moved.nii.gz", mask[:-1], np.eye(4))
    for kind in ("images", "labels"):
        for name in ("case_001_a", "case_002_a"):
            shutil.copy(data / kind / "case_001.nii.gz", data / kind / f"{name}.nii.gz")
    damaged = (data / "images" / "case_006.nii.gz").read_bytes()
    (data / "images" / "case_006.nii.gz").write_bytes(damaged[:200])
    return data


def test_every_oddity_is_named(odd, tmp_path, capsys):
    status, out, _ = run(capsys, odd, "--bundle", BUNDLE, "--out", tmp_path / "page.html")
    errors = "\n".join(line for line in out.splitlines() if line.startswith("Error"))
    notices = "\n".join(line for line in out.splitlines() if line.startswith("Look at"))
    assert status == 1
    for name in ("unknown.nii.gz", "lacking.nii.gz", "moved.nii.gz", "case_006.nii.gz"):
        assert name in errors
    assert "bright.nii.gz" not in errors
    for words in (
        "in bright:",
        "LAS in flipped",
        "to which they are resampled: coarse",
        "Equal files: case_00",
        "are few",
    ):
        assert words in notices
    assert "'case_001'" in notices  # case_001 and case_001_a may be one subject
    assert "say so by --subject_of.\n" in notices  # no expression, because names without a number would not match it
    page = (tmp_path / "page.html").read_text()
    assert page.count('class="copies"') == len(errors.splitlines()) == 4


def test_copies_on_both_sides_of_the_split_are_told(tmp_path, capsys):
    data = write_dataset(tmp_path / "data", 10)
    status, out, _ = run(capsys, data, "--bundle", BUNDLE, "--out", tmp_path / "a.html")
    held_out = [row for row in data_check.check(data, data_check.find_bundle(BUNDLE)).rows if row["side"] == "held out"]
    other = next(f"case_{n:03d}" for n in range(1, 11) if f"case_{n:03d}" not in {row["case"] for row in held_out})
    for kind in ("images", "labels"):
        shutil.copy(data / kind / f"{held_out[0]['case']}.nii.gz", data / kind / f"{other}.nii.gz")
    status, out, _ = run(capsys, data, "--bundle", BUNDLE, "--out", tmp_path / "b.html")
    assert status == 0
    assert "lie on both sides of the split" in out


def test_settings_and_mistakes(tmp_path, capsys):
    data, page = write_dataset(tmp_path / "data", 6), tmp_path / "page.html"
    arguments = (data, "--bundle", BUNDLE, "--out", page)
    status, _, _ = run(capsys, *arguments, "--subject_of", "case_00([0-9])", "--labels", "{'a': 1, 'b': 2}")
    assert status == 0
    status, _, message = run(capsys, *arguments, "--label", "{'a': 1}")
    assert status == 2
    assert "--labels was meant?" in message
    (data / "labels" / "case_003.nii.gz").unlink()
    status, _, message = run(capsys, *arguments)
    assert status == 2
    assert "'case_003'" in message
    assert run(capsys, tmp_path, "--bundle", "med_ddpm")[0] == 2


def test_pictures_of_classes_are_checked_too(tmp_path, capsys):
    data = tmp_path / "data"
    for index in range(60):
        kind = "normal" if index % 10 else "virus"
        pixels = np.random.default_rng(index).integers(0, 255, (40, 48), dtype=np.uint8)
        (data / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(data / kind / f"{index}.png")
    bundle = "bundles/med_cdiff_xray_denoise"
    status, out, err = run(capsys, data, "--bundle", bundle, "--out", tmp_path / "p.html", "--group_by", "None")
    assert status == 0, err
    assert "Classes of few images: {'virus': 6}" in out
    assert (tmp_path / "p.html").read_text().count("<img ") == 60


@pytest.mark.parametrize("channels", [(), (2,)])
def test_slices_of_volumes_are_looked_at_and_a_file_of_several_channels_is_no_damage(tmp_path, capsys, channels):
    data, rng = tmp_path / "data", np.random.default_rng(0)
    for name in "abc":
        write_nifti(data / f"{name}.nii.gz", rng.integers(0, 900, (32, 40, 3, *channels)).astype(np.int16), np.eye(4))
    arguments = (data, "--bundle", "bundles/med_cdiff_mri_superres", "--overlays", "slices.json")
    one = ("--channel", 1) if channels else ()
    status, out, err = run(capsys, *arguments, "--out", tmp_path / "page.html", *one)
    assert status == 0, out + err
    assert "9 cases of 3 subjects or groups" in out
    assert "Equal files" not in out
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img ") == 9
    assert "32 x 40 x 3" in page
    if channels:
        status, _, message = run(capsys, *arguments, "--out", tmp_path / "page.html")
        assert status == 2
        assert message.endswith("a.nii.gz: a 3D volume was expected, got shape (32, 40, 3, 2): set channel, 0 to 1.")


def test_the_command_has_a_second_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["check", "check", str(tmp_path / "nowhere"), "--bundle", str(BUNDLE)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("common.data", run_name="__main__")
    assert ended.value.code == 2
    assert "nowhere/images: set dataset_dir" in capsys.readouterr().err
