from __future__ import annotations

import json
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.drawn import sample_cases
from common.data.writer import SaveImaged

MADE = {"bundle": "b", "seed": 3, "steps": 7}


def image(channels: int = 1) -> torch.Tensor:
    """(C, 6, 4): x to the right, y down; black top left."""
    return (torch.arange(24).reshape(6, 4).float() / 23).expand(channels, 6, 4)


@pytest.mark.parametrize("image_format", ["png", "nifti"])
def test_pixels_and_record_come_back(tmp_path, image_format):
    SaveImaged("pred", tmp_path, image_format=image_format, provenance=MADE)(
        {"pred": image(), "case": "x", "class": "c"}
    )
    expected = np.rint(image()[0].numpy() * 255).astype(np.uint8)
    if image_format == "png":
        with Image.open(tmp_path / "x.png") as file:
            np.testing.assert_array_equal(np.asarray(file).T, expected)
            assert file.info["Description"] == "synthetic b seed 3 steps 7"
    else:
        np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "x.nii.gz").dataobj), expected)
    record = json.loads((tmp_path / "x.json").read_text())
    assert (record["seed"], record["case"], record["class"]) == (3, "x", "c")
    assert record["outputs"] == ["x.png" if image_format == "png" else "x.nii.gz"]


def test_several_channels_are_several_images(tmp_path):
    SaveImaged("pred", tmp_path, "mixed", "png")({"pred": image(3), "case": "x"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x_mixed.json", *(f"x_mixed_{i}.png" for i in range(3))]


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (image() * 2, r"x: values in \[0, 1\] were expected, got 0 to 2"),
        (image() * float("nan"), "got nan to nan"),
        (image()[0], r"an image \(C, X, Y\) was expected, got shape \(6, 4\)"),
    ],
)
def test_what_is_no_image_is_not_written(tmp_path, pred, message):
    with pytest.raises(ValueError, match=message):
        SaveImaged("pred", tmp_path, image_format="png")({"pred": pred, "case": "x"})
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="image_format must be one of"):
        SaveImaged("pred", tmp_path, image_format="jpeg")


def test_a_full_disk_leaves_no_half_image(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(OSError, match="No space left"):
        SaveImaged("pred", tmp_path, image_format="png")({"pred": image(), "case": "x"})
    assert not list(tmp_path.iterdir())
    assert len(sample_cases(1, tmp_path)) == 1


def test_cases_are_numbered_and_what_is_complete_is_left_out(tmp_path, caplog):
    own = {"first": 5, "provenance": {**MADE, "synthetic": True}}
    assert [case["image"] for case in sample_cases(3, tmp_path, **own)] == [5, 6, 7]
    save = SaveImaged("pred", tmp_path, image_format="png", provenance=own["provenance"])
    save({**sample_cases(3, tmp_path, **own)[1], "pred": image()})
    with caplog.at_level(logging.INFO):
        assert [case["case"] for case in sample_cases(3, tmp_path, **own)] == ["sample_00005", "sample_00007"]
    assert "1 of 3 already in" in caplog.text
    assert len(sample_cases(3, tmp_path, overwrite=True, **own)) == 3
    assert len(sample_cases(3, tmp_path, "nifti", **own)) == 3
    for wrong in ({"num_samples": 0}, {"num_samples": 1, "first": -1}):
        with pytest.raises(ValueError, match="num_samples must be at least 1 and first at least 0"):
            sample_cases(output_dir=tmp_path, **wrong)
