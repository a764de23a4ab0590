"""Bad input stops the run before any sampling, names the file and what was expected, and leaves nothing behind."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import (
    DENOISE,
    INPAINT,
    NO_SAMPLING,
    SUPERRES,
    grey,
    pixels,
    restore,
    tiny_weights,
    write_picture,
)
from tests.fixtures import write_nifti


def corrupt(path):
    write_picture(path, np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:900])


def with_nan(path):
    array = grey(dtype=np.float32)
    array[0, 0] = np.nan
    write_nifti(path, array)


BAD_IMAGES = {
    "corrupt JPEG": ("b.jpg", corrupt, "b.jpg: damaged, cut off, or not a PNG, JPEG, NIfTI or DICOM image"),
    "NaN": ("b.nii.gz", with_nan, "b.nii.gz: 1 of 1320 pixels are NaN or infinite"),
    "flat": ("b.png", lambda path: write_picture(path, grey() * 0 + 9), "b.png: all known pixels have the value 9"),
    "text": ("b.dcm", lambda path: path.write_text("no image"), "b.dcm: damaged, cut off, or not"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_stops_the_run_and_is_named(tmp_path, name):
    file, write, message = BAD_IMAGES[name]
    write_picture(tmp_path / "in" / "a.png", grey())
    write(tmp_path / "in" / file)
    out = tmp_path / "out"
    with refused(ValueError, f"1 of 2 inputs cannot be used:\n  .*{message}"):
        restore(DENOISE, dataset_dir=str(tmp_path / "in"), output_dir=str(out), **NO_SAMPLING)
    assert not out.exists()


BAD_HOLES = {
    "empty": (grey() * 0, "a.png: the hole is empty"),
    "everything": (grey() * 0 + 255, "a.png: the hole covers the whole image"),
    "another size": (grey((30, 43)), "a.png: a hole of the size of .*, 44 x 30 x 1, was expected, got 43 x 30 x 1"),
    "missing": (None, r"holes.a.png: no such file.*It is the hole of .*a\.png; --hole takes another"),
}


@pytest.mark.parametrize("name", BAD_HOLES)
def test_a_bad_hole_stops_the_run_and_is_named(tmp_path, name):
    hole, message = BAD_HOLES[name]
    write_picture(tmp_path / "in" / "a.png", grey())
    (tmp_path / "in" / "holes").mkdir()
    if hole is not None:
        write_picture(tmp_path / "in" / "holes" / "a.png", hole)
    options = {"dataset_dir": str(tmp_path / "in"), "hole": str(tmp_path / "in" / "holes")}
    with refused(ValueError, f"1 of 1 inputs cannot be used:\n  .*{message}"):
        restore(INPAINT, **options, output_dir=str(tmp_path / "out"), **NO_SAMPLING)
    assert not (tmp_path / "out").exists()


def test_a_missing_image_an_empty_folder_and_a_wrong_fit_are_named(tmp_path):
    with refused(ValueError, "none.png: no such file"):
        restore(DENOISE, image=str(tmp_path / "none.png"), output_dir=str(tmp_path / "out"), **NO_SAMPLING)
    with refused(FileNotFoundError, f"No image in {tmp_path}"):
        restore(DENOISE, dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"), **NO_SAMPLING)
    with refused(ValueError, "fit must be one of .* got 'tiles'"):
        restore(DENOISE, fit="tiles", output_dir=str(tmp_path / "out"), **NO_SAMPLING)
    with refused(ValueError, "scale must be at least 1, got 0.5"):
        restore(SUPERRES, scale=0.5, output_dir=str(tmp_path / "out"), **NO_SAMPLING)


@pytest.mark.parametrize("shape", [(5, 3), (2, 130), (9, 9)])
def test_an_image_smaller_than_the_networks_multiple_is_restored(tmp_path, shape):
    path = write_picture(tmp_path / "a.png", grey(shape))
    restore(DENOISE, image=str(path), output_dir=str(tmp_path), weights=tiny_weights(DENOISE, tmp_path))
    assert pixels(tmp_path / "a_denoised.png").shape == shape


@pytest.mark.parametrize("victim", ["PIL.Image.Image.save", "pathlib.Path.write_text"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, victim):
    path = write_picture(tmp_path / "a.png", grey())
    weights = tiny_weights(DENOISE, tmp_path)

    def full(*args, **kwargs):
        if victim.startswith("PIL"):
            Path(args[1]).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(victim, full)
    with refused(OSError, r"the image cannot be written \(No space left on device\): .*a_denoised.png"):
        restore(DENOISE, image=str(path), output_dir=str(tmp_path / "out"), weights=weights, num_samples=2)
    assert list((tmp_path / "out").iterdir()) == []
