from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data.lists import image_cases
from common.data.writer import SaveImaged
from common.studies.synthetic import (
    MANIFEST,
    image_name,
    refuse_synthetic,
    synthetic_cases,
    synthetic_record,
    write_manifest,
    write_synthetic,
)
from common.studies.synthetic_set import SyntheticSet

MADE = {"bundle": "b", "version": "1", "seed": 7, "steps": 3, "step_rule": "DDIM", "weights_sha256": "0123456789abcdef"}


def write_set(folder, counts=(("a", 3), ("b", 2)), colour=False):
    paths = []
    for name, count in counts:
        for number in range(count):
            pixels = np.full((4, 6, 3) if colour else (4, 6), 10 * number, np.uint8)
            write_synthetic(folder / image_name(name, number), pixels, {**MADE, "class": name, "number": number})
            paths.append(image_name(name, number))
    write_manifest(folder, paths)
    return folder


@pytest.mark.parametrize("colour", [False, True])
def test_a_set_comes_back_with_its_marks(tmp_path, colour):
    write_set(tmp_path, colour=colour)
    found = synthetic_cases(tmp_path)
    assert [(case["class"], case["number"], case["case"]) for case in found] == [
        ("a", 0, "a_00000"),
        ("a", 1, "a_00001"),
        ("a", 2, "a_00002"),
        ("b", 0, "b_00000"),
        ("b", 1, "b_00001"),
    ]
    assert [case["class"] for case in synthetic_cases(tmp_path, ["b"])] == ["b", "b"]
    with Image.open(found[2]["image"]) as image:
        assert (image.mode, image.size) == ("RGB" if colour else "L", (6, 4))
        assert np.asarray(image).max() == 20
        assert image.info["Description"] == "synthetic b 1 seed 7 steps 3 weights 0123456789ab"
    assert synthetic_record(found[2]["image"])["number"] == 2
    with (tmp_path / MANIFEST).open() as file:
        row = list(csv.DictReader(file))[2]
    assert (row["path"], row["class"], row["number"], row["synthetic"]) == ("a/a_00002.png", "a", "2", "True")


def changed_pixels(folder):
    path = folder / "a" / "a_00001.png"
    with Image.open(path) as image:
        record = synthetic_record(path)
        write_synthetic(path, np.asarray(image) + 1, record)


def black(name):
    """Put a picture without a mark there."""
    return lambda folder: Image.fromarray(np.zeros((4, 6), np.uint8)).save(folder / "a" / name)


def another_seed(folder):
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace("a_00001.png,a,1,7", "a_00001.png,a,1,8"))


def twice(folder):
    lines = (folder / MANIFEST).read_text().splitlines()
    (folder / MANIFEST).write_text("\n".join([*lines, lines[1]]))


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), FileNotFoundError, "run generate.json to its end"),
        (lambda folder: (folder / "b" / "b_00001.png").unlink(), FileNotFoundError, "b_00001.png, which is missing"),
        (changed_pixels, ValueError, "a_00001.png has changed"),
        (another_seed, ValueError, "a_00001.png has changed"),
        (black("a_00001.png"), ValueError, "a_00001.png is not marked as synthetic"),
        (black("real.png"), ValueError, r"real.png is not in .*manifest.csv \(1 such"),
        (black("real.JPG"), ValueError, r"real.JPG is not in .*manifest.csv"),
        (twice, ValueError, "manifest.csv lists 1 of its images twice"),
        (lambda folder: (folder / MANIFEST).write_text("path,class\n"), ValueError, "has no column"),
    ],
)
def test_a_set_that_is_not_what_was_generated_is_refused(tmp_path, spoil, kind, message):
    write_set(tmp_path)
    spoil(tmp_path)
    with pytest.raises(kind, match=message):
        synthetic_cases(tmp_path)


def test_a_class_that_the_set_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"No image of \['c'\] .* there are \['a', 'b'\]"):
        synthetic_cases(write_set(tmp_path), ["a", "c"])


def test_generated_images_are_not_taken_for_real_ones(tmp_path):
    generated = write_set(tmp_path / "generated")
    with pytest.raises(ValueError, match=r"5 of 5 images that should be real are synthetic, such as .*a_00000.png"):
        refuse_synthetic(image_cases(generated))
    real = tmp_path / "real" / "a"
    real.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(real / "0.png")
    assert refuse_synthetic(image_cases(real)) == image_cases(real)
    (real / "1.png").write_bytes((generated / "a" / "a_00001.png").read_bytes())  # one that has got among them
    volume = nib.Nifti1Image(np.zeros((4, 6)), np.eye(4))
    volume.header["descrip"] = b"synthetic b 1"
    nib.save(volume, real / "2.nii.gz")
    with pytest.raises(ValueError, match=r"2 of 3 .* such as .*1.png"):
        refuse_synthetic(image_cases(real))
    with Image.open(generated / "b" / "b_00000.png") as image:  # the mark is lost, the place says it
        image.save(generated / "b" / "b_00000.jpg")
    with pytest.raises(ValueError, match="6 of 6"):
        refuse_synthetic([{"image": str(path)} for path in sorted(generated.rglob("*.[jp][pn]g"))])


@pytest.mark.parametrize(
    ("pixels", "record", "message"),
    [
        (np.zeros((4, 6), np.uint8), {"class": "a"}, r"must say \['number', 'seed'"),
        (np.zeros((4, 6)), {**MADE, "class": "a", "number": 0}, "uint8 .* was expected"),
        (np.zeros((4, 6, 2), np.uint8), {**MADE, "class": "a", "number": 0}, r"got \(4, 6, 2\)"),
    ],
)
def test_what_is_no_image_or_not_recorded_is_not_written(tmp_path, pixels, record, message):
    with pytest.raises(ValueError, match=message):
        write_synthetic(tmp_path / "x.png", pixels, record)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 100, -40])
def test_a_cut_image_of_a_set_is_drawn_again(tmp_path, kept):
    images = SyntheticSet(tmp_path, ["a"], 2, MADE, batch_size=1)
    save = SaveImaged("pred", tmp_path, image_set=images)
    noise = np.random.default_rng(0).random((1, 16, 16)).astype(np.float32)
    for case in images.pending():
        save({**case, "pred": noise})
    assert images.pending() == []
    path = tmp_path / "a" / "a_00001.png"
    path.write_bytes(path.read_bytes()[:kept])
    assert [(case["case"], case["missing"]) for case in images.pending()] == [("a_00001", 1)]
