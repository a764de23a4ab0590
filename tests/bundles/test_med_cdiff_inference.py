"""The inference configs of the Med-cDiff bundles: their keys, and what they make of every format."""

from __future__ import annotations

import json
import logging

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from tests.bundles.restoration_runs import (
    AS_IS,
    BUNDLES,
    DENOISE,
    INPAINT,
    SUPERRES,
    folder_of,
    grey,
    pixels,
    restoration,
    restore,
    tiny_weights,
    write_dicom,
    write_picture,
)
from tests.fixtures import oblique_affine, write_nifti

VOCABULARY = {
    *("bundle_root", "device", "dataset_dir", "output_dir", "network_def", "network", "preprocessing", "dataset"),
    *("dataloader", "inferer", "postprocessing", "handlers", "evaluator", "checkpointloader", "initialize", "run"),
}


def read_config(bundle, name="inference.json"):
    return ConfigParser.load_config_file(folder_of(bundle) / "configs" / name)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_ancestral_takes_the_papers_steps(bundle):
    sampler = restoration(bundle, "ancestral.json", num_inference_steps=2000).inferer.sampler
    assert (type(sampler.step_rule).__name__, sampler.step_rule.variance) == ("Ancestral", "beta")
    assert [step[:2] for step in sampler.steps] == [(t, t - 1) for t in range(1999, -1, -1)]
    assert sampler.noise_scale == 1


def write_inputs(folder):
    """One image of each format, values over the whole range of each."""
    return {
        "png8": write_picture(folder / "png8.png", grey()),
        "png16": write_picture(folder / "png16.png", grey((31, 150), np.uint16, 65535)),
        "jpeg": write_picture(folder / "jpeg.jpg", grey()),
        "flat": write_nifti(folder / "flat.nii", grey((30, 44), np.float32, 3)),
        "volume": write_nifti(folder / "volume.nii.gz", grey((20, 26, 3), np.int16, 900) - 300),
        "dicom": write_dicom(
            folder / "dicom.dcm",
            grey(dtype=np.uint16, high=4000),
            PhotometricInterpretation="MONOCHROME1",
            RescaleSlope=2,
            RescaleIntercept=-100,
        ),
    }


@pytest.mark.parametrize("fit", ["tile", "whole"])
def test_every_format_returns_in_its_size_range_and_format(tmp_path, fit):
    files = write_inputs(tmp_path / "in")
    options = {"dataset_dir": str(tmp_path / "in"), "weights": tiny_weights(DENOISE, tmp_path), "fit": fit}
    restore(DENOISE, output_dir=str(tmp_path / "as_is"), **options, **AS_IS)
    restore(DENOISE, output_dir=str(tmp_path / "out"), spatial_size=[64, 64], **options)
    for name, source in files.items():
        before = pixels(source)
        as_is, sampled = (
            next(path for path in (tmp_path / folder).glob(f"{name}_denoised.*") if path.suffix != ".json")
            for folder in ("as_is", "out")
        )
        assert as_is.name.removeprefix(f"{name}_denoised") == source.name.removeprefix(name).replace(".jpg", ".png")
        np.testing.assert_allclose(pixels(as_is), before, atol=1e-6 if name == "flat" else 0)
        after = pixels(sampled)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert before.min() <= after.min() < after.max() <= before.max()
        assert np.abs(after.astype(float) - before).mean() > 0.01 * np.ptp(before)
        if ".nii" in sampled.name:
            np.testing.assert_allclose(nib.load(sampled).affine, nib.load(source).affine, atol=1e-6)


def test_resizing_is_undone(tmp_path):
    path = write_picture(tmp_path / "a.png", np.add.outer(np.arange(60), np.arange(95)).astype(np.uint8))
    restore(
        DENOISE,
        image=str(path),
        output_dir=str(tmp_path),
        weights=tiny_weights(DENOISE, tmp_path),
        fit="resize",
        **AS_IS,
    )
    after = pixels(tmp_path / "a_denoised.png").astype(float)
    assert after.shape == (60, 95)
    assert np.abs(after - pixels(path)).max() <= 2


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_super_resolution_writes_the_grid_that_is_asked_for(tmp_path, scale):
    write_picture(tmp_path / "in" / "a.png", grey((20, 24)))
    write_nifti(tmp_path / "in" / "b.nii.gz", grey((20, 24, 2), np.int16, 900))
    options = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path), "scale": scale}
    restore(SUPERRES, **options, weights=tiny_weights(SUPERRES, tmp_path))
    side = int(scale)
    assert pixels(tmp_path / "a_sr.png").shape == (20 * side, 24 * side)
    result = nib.load(tmp_path / "b_sr.nii.gz")
    assert result.shape == (20 * side, 24 * side, 2)
    np.testing.assert_allclose(result.header.get_zooms(), (0.8 / scale, 1.2 / scale, 2.5), atol=1e-5)
    corners = [
        image.affine @ [-0.5, -0.5, 0, 1] for image in (result, nib.Nifti1Image(np.zeros((1, 1, 1)), oblique_affine()))
    ]
    np.testing.assert_allclose(corners[0], corners[1], atol=1e-4)
    assert json.loads((tmp_path / "b_sr.json").read_text())["scale"] == scale


def test_super_resolution_leaves_room_above_what_was_blurred_away(tmp_path):
    path = write_nifti(tmp_path / "a.nii", grey((20, 24), np.float32, 3))
    brightest = {"inferer": "$lambda inputs, network: inputs[:, :1] * 0 + 1"}
    restore(SUPERRES, image=str(path), output_dir=str(tmp_path), weights=tiny_weights(SUPERRES, tmp_path), **brightest)
    np.testing.assert_allclose(pixels(tmp_path / "a_sr.nii"), 3 * 2 / 1.5, rtol=1e-6)


def holed_files(folder):
    """An image and its hole in each format that can be paired; the hole in a folder of its own."""
    hole = np.zeros((30, 44), np.uint8)
    hole[8:19, 10:30] = 255
    files = write_inputs(folder)
    volume_hole = np.zeros((20, 26, 3), np.uint8)
    volume_hole[5:9, 7:20, 1] = 1
    wide = np.zeros((31, 150), np.uint8)
    wide[3:20, 40:140] = 1
    holes = {
        "png8": write_picture(folder / "holes" / "png8.png", hole),
        "png16": write_picture(folder / "holes" / "png16.png", wide),
        "jpeg": write_picture(folder / "holes" / "jpeg.png", hole),
        "flat": write_nifti(folder / "holes" / "flat.nii.gz", hole),
        "volume": write_nifti(folder / "holes" / "volume.nii.gz", volume_hole),
        "dicom": write_picture(folder / "holes" / "dicom.png", hole),
    }
    return {name: (files[name], holes[name]) for name in files}


@pytest.mark.parametrize("fit", ["resize", "tile"])
def test_known_pixels_are_bit_identical_and_the_hole_is_new(tmp_path, fit):
    files = holed_files(tmp_path / "in")
    options = {"dataset_dir": str(tmp_path / "in"), "hole": str(tmp_path / "in" / "holes"), "num_samples": 2}
    restore(
        INPAINT, output_dir=str(tmp_path / "out"), weights=tiny_weights(INPAINT, tmp_path), fit=fit, **options,
        spatial_size=[32, 32],
    )  # fmt: skip
    for name, (source, hole) in files.items():
        before, inside = pixels(source), pixels(hole) > 0
        for what in ("", "_mean", "_std"):
            ending = source.name.removeprefix(name).replace(".jpg", ".png")
            after = pixels(tmp_path / "out" / f"{name}_inpainted{what}{ending}")
            assert after.shape == before.shape
            if what == "_std":
                assert not after[~inside].any()
                assert after[inside].any()
                continue
            np.testing.assert_array_equal(after[~inside], before[~inside])
            assert (after[inside] != before[inside]).mean() > 0.9
        assert json.loads((tmp_path / "out" / f"{name}_inpainted.json").read_text())["hole"] == hole.name


def test_what_the_hole_holds_does_not_matter(tmp_path):
    image, hole = grey(), np.zeros((30, 44), np.uint8)
    hole[8:19, 10:30] = 1
    write_picture(tmp_path / "holes" / "a.png", hole)
    results = []
    for value in (0, 255):
        path = write_picture(tmp_path / f"{value}" / "a.png", np.where(hole, value, image).astype(np.uint8))
        restore(
            INPAINT, image=str(path), hole=str(tmp_path / "holes" / "a.png"), output_dir=str(tmp_path / f"{value}"),
            weights=tiny_weights(INPAINT, tmp_path),
        )  # fmt: skip
        results.append(pixels(tmp_path / f"{value}" / "a_inpainted.png"))
    np.testing.assert_array_equal(*results)


def test_several_samples_give_mean_and_deviation_beside_the_same_result(tmp_path):
    path = write_picture(tmp_path / "a.png", grey())
    weights = tiny_weights(DENOISE, tmp_path)
    for number in (1, 3):
        out = tmp_path / f"{number}"
        restore(DENOISE, image=str(path), output_dir=str(out), weights=weights, num_samples=number, seed=5)
    one, three = (json.loads((tmp_path / n / "a_denoised.json").read_text()) for n in "13")
    np.testing.assert_array_equal(pixels(tmp_path / "1" / "a_denoised.png"), pixels(tmp_path / "3" / "a_denoised.png"))
    assert sorted(p.name for p in (tmp_path / "1").iterdir()) == ["a_denoised.json", "a_denoised.png"]
    assert one["outputs"] == {"pred": "a_denoised.png"}
    deviation = pixels(tmp_path / "3" / "a_denoised_std.png") * three["std_of_one_step"]
    assert 0 < deviation.max() < 128
    mean = pixels(tmp_path / "3" / "a_denoised_mean.png").astype(float)
    difference = np.abs(mean - pixels(tmp_path / "3" / "a_denoised.png"))
    assert (difference <= 2 * deviation / np.sqrt(3) + 2).all(), "no sample is further from the mean of three"


def test_the_record_says_how_an_image_was_made(tmp_path, caplog):
    path = write_picture(tmp_path / "a.png", np.stack([grey(seed=seed) for seed in range(3)], -1))
    options = {"image": str(path), "output_dir": str(tmp_path), "weights": tiny_weights(DENOISE, tmp_path), "seed": 4}
    with caplog.at_level(logging.INFO):
        restore(DENOISE, **options)
    assert "a.png is in colour" in caplog.text
    record = json.loads((tmp_path / "a_denoised.json").read_text())
    expected = {"image": "a.png", "synthetic": True, "bundle": DENOISE, "seed": 4, "steps": 2, "num_samples": 1}
    assert {key: record[key] for key in expected} == expected
    assert len(record["weights_sha256"]) == 64
    assert pixels(tmp_path / "a_denoised.png").ndim == 2
    with caplog.at_level(logging.INFO):
        restore(DENOISE, **options, **{"inferer": "$lambda inputs, network: 1 / 0"})
    assert "1 of 1 already in" in caplog.text
