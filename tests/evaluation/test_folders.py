"""How the images of a folder are read: scaling, orientation, spacing."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, ScaleIntensityRangePercentiles
from PIL import Image

from common.evaluation.choice import about_folders
from common.evaluation.folders import ImageFolder
from common.metrics.sharpness import acutance
from tests.metrics.image_folders import pictures, volumes


def test_size_changes_the_millimetres_of_a_volume(tmp_path):
    folder = volumes(tmp_path, 1)
    before, after = (ImageFolder(folder, size=size).spacings[0] for size in (None, (6, 13, 14)))
    assert after == pytest.approx((before[0] * 12 / 6, *before[1:]))


def test_pixels_of_pictures_are_those_compared(tmp_path):
    """Copies in another size have the same acutance: nobody knows the millimetres of a picture."""
    large, small = pictures(tmp_path / "large", 1, side=48), tmp_path / "small"
    small.mkdir()
    Image.open(large / "image_00.png", formats=["PNG"]).resize((24, 24), Image.Resampling.BOX).save(
        small / "image_00.png"
    )
    folders = [ImageFolder(folder, size=(24, 24)) for folder in (large, small)]
    assert [folder.spacings for folder in folders] == [[(1.0, 1.0)]] * 2
    values = [float(acutance(folder[0][None], folder.spacings[0])) for folder in folders]
    assert values[0] == pytest.approx(values[1], rel=0.5)


def test_percentile_rule_is_that_of_the_evaluate_config(tmp_path):
    folder = volumes(tmp_path / "real", 2)
    read = Compose(
        [
            *(LoadImage(image_only=True), EnsureChannelFirst(), Orientation("RAS", labels=None)),
            ScaleIntensityRangePercentiles(0.5, 99.5, -1, 1, clip=True),
        ]
    )
    expected = read(folder / "volume_01.nii.gz").as_tensor()
    assert torch.allclose(ImageFolder(folder)[1], expected, atol=1e-5)
    flipped = nib.load(folder / "volume_01.nii.gz").slicer[::-1]
    nib.save(flipped, folder / "volume_01.nii.gz")
    assert torch.allclose(ImageFolder(folder)[1], expected, atol=1e-5)


def test_subfolders_are_searched_where_the_folder_holds_no_image_and_are_part_of_the_names(tmp_path):
    for name in ("a", "b"):
        pictures(tmp_path / name, 1)
    assert ImageFolder(tmp_path).names == ["a/image_00", "b/image_00"]
    pictures(tmp_path, 1, names="top_{}")
    assert ImageFolder(tmp_path).names == ["top_0"]


def test_twelve_bits_in_sixteen_are_noticed(tmp_path):
    rng = np.random.default_rng(0)
    for name, high in (("narrow", 4095), ("wide", 60000)):
        (tmp_path / name).mkdir()
        Image.fromarray(rng.integers(0, high, (24, 24)).astype(np.uint16)).save(tmp_path / name / "a.png")
    folders = {"real": ImageFolder(tmp_path / "narrow"), "fake": ImageFolder(tmp_path / "wide")}
    [notice] = about_folders(folders)
    assert "--real: values reach 40" in notice
    assert "of 65535" in notice
    assert "--scaling percentiles" in notice
    assert not about_folders({"real": ImageFolder(pictures(tmp_path / "eight", 2))})
    assert not about_folders({"real": ImageFolder(tmp_path / "narrow", "percentiles")})


def test_every_image_that_cannot_be_used_is_named(tmp_path):
    folder = pictures(tmp_path, 4)
    for number in (1, 3):
        (folder / f"image_{number:02d}.png").write_bytes(b"no image")
    named = r"(?s)2 of 4 inputs cannot be used:.*image_01.png: damaged.*image_03.png: damaged"
    with pytest.raises(ValueError, match=named):
        ImageFolder(folder)


def test_pixels_that_are_damaged_behind_good_headers_are_all_named(tmp_path):
    folder = pictures(tmp_path, 4)
    for number in (1, 3):
        file = folder / f"image_{number:02d}.png"
        file.write_bytes(file.read_bytes()[:-40])
    images = ImageFolder(folder)
    assert images[0].shape[0] == 1
    with pytest.raises(ValueError, match=r"(?s)2 of 4 inputs cannot be used:.*image_01.png: .*image_03.png: "):
        images[1]


def test_the_worst_pairs_of_an_audit_are_no_image(tmp_path):
    folder = pictures(tmp_path, 3)
    Image.new("L", (200, 90)).save(folder / "worst_pairs.png")
    assert (len(ImageFolder(folder)), ImageFolder(folder).left_out) == (3, ["worst_pairs.png"])
