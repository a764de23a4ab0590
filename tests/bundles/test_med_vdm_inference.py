"""Sampling, reconstruction, interpolation, likelihoods and evaluation by med_vdm_cxr's configs, with tiny networks."""

from __future__ import annotations

import csv
import json
import logging
import math
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import grey, write_picture
from tests.bundles.vdm_runs import BUNDLE, inference, train, write_pictures

pytestmark = pytest.mark.filterwarnings("ignore:fid")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def weights(data, tmp_path_factory):
    """Weights of a few iterations: of the dense model, the one on pixels, and the one of three classes."""
    folders = {name: tmp_path_factory.mktemp("w") for name in ("", "conv.json", "conditional.json")}
    for name, folder in folders.items():
        train(data, folder, *filter(None, [name]), learning_rate=1e-3)
    return {name: folder / "model.pt" for name, folder in folders.items()}


def run(*args, **overrides):
    workflow = inference(*args, **overrides)
    assert workflow.check_properties() == []
    workflow.run()
    return workflow


def test_images_are_png_marked_as_synthetic_with_a_record_and_a_sheet(weights, tmp_path):
    run(tmp_path, weights[""], num_samples=5)
    names = sorted(path.name for path in tmp_path.iterdir())
    each = [f"sample_{n:05d}{ending}" for n in range(5) for ending in (".json", ".png")]
    assert names == ["contact_sheet.png", *each]
    record = json.loads((tmp_path / "sample_00003.json").read_text())
    assert record["synthetic"] is True
    assert (record["seed"], record["steps"], record["step_rule"]) == (0, 2, "Ancestral")
    assert len(record["weights_sha256"]) == 64
    for name in ("sample_00003.png", "contact_sheet.png"):
        with Image.open(tmp_path / name) as image:
            assert image.mode == "L"
            assert image.info["Description"].startswith("synthetic med_vdm_cxr")
            assert "seed 0 steps 2" in image.info["Description"]
    assert Image.open(tmp_path / "sample_00003.png").size == (16, 16)
    assert Image.open(tmp_path / "contact_sheet.png").size == (3 * 17 - 1, 2 * 17 - 1)


def test_a_number_is_one_image_whatever_the_batch_and_a_rerun_skips(weights, tmp_path, caplog):
    run(tmp_path / "a", weights[""], num_samples=4, batch_size=4)
    run(tmp_path / "b", weights[""], num_samples=2, first_sample=2, batch_size=1)
    for n in (2, 3):
        a, b = (np.asarray(Image.open(tmp_path / f / f"sample_{n:05d}.png")).astype(int) for f in "ab")
        assert np.abs(a - b).max() <= 1
    other = np.asarray(Image.open(tmp_path / "a" / "sample_00001.png"))
    assert (other != np.asarray(Image.open(tmp_path / "a" / "sample_00002.png"))).any()
    before = (tmp_path / "a" / "sample_00000.png").stat().st_mtime_ns
    whole = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    (tmp_path / "a" / "sample_00001.png").unlink()
    with caplog.at_level(logging.INFO):
        run(tmp_path / "a", weights[""], num_samples=4, batch_size=4)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == whole, "the sheet shows all"
    with refused(FileExistsError, "sample_00000.png was made with seed 0, now it is 1: .*--overwrite True"):
        run(tmp_path / "a", weights[""], num_samples=4, batch_size=4, seed=1)
    assert "3 of 4 already in" in caplog.text
    assert (tmp_path / "a" / "sample_00000.png").stat().st_mtime_ns == before
    assert (tmp_path / "a" / "sample_00001.png").is_file()


def test_nifti_holds_the_same_pixels(weights, tmp_path):
    for image_format in ("png", "nifti"):
        run(tmp_path, weights["conv.json"], "conv.json", num_samples=1, image_format=image_format)
    volume = nib.load(tmp_path / "sample_00000.nii.gz")
    stored = np.asanyarray(volume.dataobj)
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored.T, np.asarray(Image.open(tmp_path / "sample_00000.png")))
    assert bytes(volume.header["descrip"]).decode().startswith("synthetic med_vdm_cxr")


def test_classes_take_turns_or_one_is_asked_for(weights, tmp_path):
    run(tmp_path, weights["conditional.json"], "conditional.json", num_samples=4)
    classes = [json.loads((tmp_path / f"sample_{n:05d}.json").read_text())["class"] for n in range(4)]
    assert classes == ["bacteria", "normal", "virus", "bacteria"]
    own = {"overwrite": True, "num_samples": 1}
    run(tmp_path, weights["conditional.json"], "conditional.json", class_name="virus", **own)
    assert json.loads((tmp_path / "sample_00000.json").read_text())["class"] == "virus"
    with refused(ValueError, "class_name must be one of .* got 'flu'"):
        run(tmp_path, weights[""], "conditional.json", class_name="flu", **own)
    with refused(ValueError, r"class_name must be one of \[\], got 'virus'"):
        run(tmp_path, weights[""], class_name="virus")


def test_nothing_changes_where_nothing_is_noised(weights, data, tmp_path):
    own = {"dataset_dir": str(data / "normal"), "start": 0.0, "num_samples": 3}
    run(tmp_path, weights["conv.json"], "reconstruct.json", "conv.json", **own)
    width, height = Image.open(tmp_path / "reconstructions.png").size
    assert width >= 6 * 17 - 1
    assert height == 16 + 2 * 14, "a title, heads, images pixel by pixel"
    for n in range(3):
        given = np.asarray(Image.open(data / "normal" / f"normal_{n:02d}.png").resize((16, 16), Image.Resampling.BOX))
        found = np.asarray(Image.open(tmp_path / f"normal_{n:02d}_reconstructed.png"))
        assert np.abs(found.astype(int) - given).mean() < 12  # the ways of making it smaller differ
    record = json.loads((tmp_path / "normal_00_reconstructed.json").read_text())
    assert (record["start"], record["case"], record["image"]) == (0.0, "normal_00", "normal_00.png")


@pytest.mark.parametrize("overlay", ["reconstruct", "interpolate"])
def test_what_is_made_of_images_is_compared_and_made_again_as_a_whole_batch(weights, data, tmp_path, overlay, caplog):
    caplog.set_level("INFO")
    own = {"dataset_dir": str(tmp_path / "in"), "num_samples": 2, "batch_size": 2}
    shutil.copytree(data / "normal", tmp_path / "in" / "normal")
    made = [tmp_path / "out", weights["conv.json"], f"{overlay}.json", "conv.json"]
    run(*made, **own)
    assert all(said in caplog.text for said in (f"Results go to {made[0]}", f"{overlay.removesuffix('e')}ions.png"))
    whole = {path.name: path.read_bytes() for path in made[0].iterdir()}
    next(made[0].glob("normal_00_*.png")).unlink()
    (made[0] / f"{overlay.removesuffix('e')}ions.png").unlink(missing_ok=True)
    run(*made, **own)
    assert {path.name: path.read_bytes() for path in made[0].iterdir()} == whole, "the sheet shows all"
    with refused(FileExistsError, "was made with start 0.5, now it is 0.25: .*--overwrite True"):
        run(*made, **own, start=0.25)
    with refused(FileExistsError, "was made with batch_size 2, now it is 1"):
        run(*made, **{**own, "batch_size": 1})
    write_picture(tmp_path / "in" / "normal" / "normal_01.png", grey((24, 24), seed=9))
    with refused(FileExistsError, "image_sha256"):
        run(*made, **own)
    run(*made, **own, overwrite=True)
    assert {path.name: path.read_bytes() for path in made[0].iterdir()} != whole
    shutil.copytree(tmp_path / "in" / "normal", tmp_path / "in" / "again")
    with refused(ValueError, "normal_00.png.* would be written to the same output: rename one of them"):
        run(*made, **{**own, "num_samples": 40}, overwrite=True)


def test_interpolation_begins_and_ends_with_the_pair(weights, data, tmp_path):
    own = {"dataset_dir": str(data / "normal"), "start": 0.0, "num_samples": 2}
    run(tmp_path / "i", weights["conv.json"], "interpolate.json", "conv.json", **own)
    run(tmp_path / "r", weights["conv.json"], "reconstruct.json", "conv.json", **own)
    for end, name in ((0, "normal_00"), (4, "normal_01")):
        a = np.asarray(Image.open(tmp_path / "i" / f"normal_00_interpolated_{end}.png")).astype(int)
        b = np.asarray(Image.open(tmp_path / "r" / f"{name}_reconstructed.png")).astype(int)
        assert np.abs(a - b).max() <= 2
    assert Image.open(tmp_path / "i" / "interpolations.png").size[1] == 2 * 17 - 1 + 2 * 14
    record = json.loads((tmp_path / "i" / "normal_00_interpolated.json").read_text())
    assert len(record["outputs"]) == 5


def test_scores_of_a_folder_do_not_depend_on_the_batch(weights, data, tmp_path):
    rows = {}
    for size in (1, 4):
        own = {"dataset_dir": str(data / "virus"), "batch_size": size, "bound_times": 2}
        run(tmp_path / str(size), weights[""], "ood.json", **own)
        with (tmp_path / str(size) / "scores.csv").open() as file:
            rows[size] = list(csv.DictReader(file))
    assert len(rows[1]) == 10
    bits = [float(row["bits_per_dimension"]) for row in rows[1]]
    assert bits == sorted(bits, reverse=True)
    for a, b in zip(rows[1], rows[4]):
        assert a["case"] == b["case"]
        total = sum(float(a[f"{term}_nats"]) for term in ("reconstruction", "diffusion", "latent"))
        assert float(a["bound_nats"]) == pytest.approx(total)
        assert float(a["bits_per_dimension"]) == pytest.approx(total / (256 * math.log(2)))
        assert float(b["bound_nats"]) == pytest.approx(total, rel=1e-4)


@pytest.mark.slow
def test_one_table_has_it_all(tmp_path):
    data = write_pictures(tmp_path / "data", each=60, size=32)
    train(data, tmp_path / "w", spatial_size=[32, 32], batch_size=16)
    own = {"dataset_dir": str(data), "group_by": None, "spatial_size": [32, 32], "bound_times": 1}
    own |= {"ood_dir": str(data / "virus"), "batch_size": 8}
    workflow = run(tmp_path / "eval", tmp_path / "w" / "model.pt", "evaluate.json", **own)
    held_out = [case["case"] for case in workflow.parser.get_parsed_content("split")[1]]
    assert {name.split("_")[0] for name in held_out} == {"normal"}
    result = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    values = {name: entry["value"] for name, entry in result["metrics"].items()}
    terms = ("reconstruction", "diffusion", "latent", "bound")
    others = ("bacteria", "virus", "noisy", "other images")
    assert set(values) == {
        *(f"{term} [{unit}]" for term in terms for unit in ("nats", "bits/dim")),
        *(f"ood_auc[{name}, {score}]" for name in others for score in ("bound", "grey entropy", "PNG bits")),
        "fid[cxr_v1]",
        "kid[cxr_v1]",
        "ms_ssim",
        "ms_ssim_real",
        "memorisation",
    }
    assert values["bound [nats]"] == pytest.approx(sum(values[f"{term} [nats]"] for term in terms[:3]))
    assert values["bound [bits/dim]"] == pytest.approx(values["bound [nats]"] / (32 * 32 * math.log(2)))
    assert result["metrics"]["bound [nats]"]["n"] == len(held_out)
    assert result["metrics"]["memorisation"]["n"]["train"] == 60 - len(held_out)
    assert result["metrics"]["fid[cxr_v1]"]["n"] == {"generated": len(held_out), "real": len(held_out)}
    assert result["context"]["sets"] == ["held out", *others]
    for name in ("metrics.md", "contact_sheet.png", "roc.png"):
        assert (tmp_path / "eval" / name).is_file()


def test_a_model_of_classes_is_told_from_noise_alone(weights, data, tmp_path):
    own = {"dataset_dir": str(data), "group_by": None, "bound_times": 1}
    own |= {"metrics#names": ["ms_ssim", "ms_ssim_real"], "measured_size": [14, 14]}
    workflow = run(tmp_path, weights["conditional.json"], "evaluate.json", "conditional.json", **own)
    result = json.loads((tmp_path / "metrics.json").read_text())
    measured = workflow.parser.get_parsed_content("to_metrics")({"image": torch.full((1, 16, 16), 0.75)})["image"]
    assert measured.shape == (1, 14, 14)
    assert measured.unique().tolist() == [0.5]
    assert (result["context"]["size"], result["context"]["samples_measured_at"]) == ([16, 16], [14, 14])
    assert [name for name in result["metrics"] if name.startswith("ood") and "bound" in name] == [
        "ood_auc[noisy, bound]"
    ]
    assert result["metrics"]["bound [nats]"]["n"] == 6


def test_wrong_sizes_weights_and_steps_are_named(weights, data, tmp_path):
    with refused(ValueError, r"model.pt does not fit.*encoder.linear_in.weight is \(16, 256\), expected \(16, 1024\)"):
        run(tmp_path, weights[""], spatial_size=[32, 32])
    with refused(FileNotFoundError, "No weights at .*none.pt"):
        run(tmp_path, tmp_path / "none.pt")
    with refused(ValueError, "num_inference_steps must be at least 1"):
        run(tmp_path, weights[""], num_inference_steps=0)
    with refused(ValueError, "num_samples must be at least 1"):
        run(tmp_path, weights[""], num_samples=0)
    with refused(ValueError, "image_format must be one of .* got 'bmp'"):
        run(tmp_path, weights[""], image_format="bmp")
    sixteen = write_picture(tmp_path / "in" / "a.png", np.full((20, 20), 300, np.uint16)).parent
    with refused(ValueError, r"a.png: values in \[0.0, 255.0\] were expected, got 300 to 300"):
        run(tmp_path, weights[""], "ood.json", dataset_dir=str(sixteen))
    own = {"dataset_dir": str(sixteen), "intensity_max": 65535.0, "bound_times": 1}
    run(tmp_path, weights[""], "ood.json", **own)
    assert not list(tmp_path.glob("sample_*"))
    model = inference(tmp_path, weights[""])
    model.check_properties()
    with pytest.raises(ValueError, match=r"images of \(16, 16\) pixels, got \(16, 20\)"):
        model.parser.get_parsed_content("network_def")(torch.zeros(1, 1, 16, 20))


@pytest.mark.parametrize("overlay", ["reconstruct.json", "ood.json", "evaluate.json"])
def test_all_images_that_cannot_be_used_are_named_before_the_weights_are_read(tmp_path, overlay):
    folder = write_pictures(tmp_path / "in", each=3)
    for name in ("normal_00.png", "normal_02.png"):
        (folder / "normal" / name).write_bytes(b"no image")
    given = {"all_cases": True, "group_by": None} if overlay == "evaluate.json" else {}
    with refused(ValueError, r"2 of \d+ inputs cannot be used:\n.*normal_00.png: damaged.*\n.*normal_02.png: damaged"):
        run(tmp_path, tmp_path / "none.pt", overlay, dataset_dir=str(folder), **given)


def test_the_network_takes_and_gives_what_metadata_says(tmp_path, weights):
    metadata = ConfigParser.load_config_file(BUNDLE / "configs" / "metadata.json")
    size = ConfigParser.load_config_file(BUNDLE / "configs" / "inference.json")["spatial_size"]
    formats = metadata["network_data_format"]
    assert [formats["inputs"]["image"]["spatial_shape"], formats["outputs"]["pred"]["spatial_shape"]] == [size, size]
    model = inference(tmp_path, weights[""])
    model.check_properties()
    with torch.no_grad():
        image = model.parser.get_parsed_content("network_def")(torch.rand(2, 1, 16, 16, device=model.device))
    assert image.shape == (2, 1, 16, 16)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


def test_every_variant_has_weights_of_a_size_to_share(tmp_path):
    for overlays in ((), ("conv.json",)):
        files = [str(BUNDLE / "configs" / name) for name in ("inference.json", *overlays)]
        workflow = ConfigWorkflow(files, workflow_type="inference", logging_file=False, output_dir=str(tmp_path))
        workflow.initialize()
        state = workflow.network_def.state_dict()
        assert sum(2 * value.numel() for value in state.values()) < 24.5e6
