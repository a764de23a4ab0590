"""Training on a share, and synthetic sets, by the configs of the dm bundles, with tiny networks on drawn images."""

from __future__ import annotations

import csv
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.lists import image_cases
from common.studies.study_sets import study_sets
from common.studies.synthetic import MANIFEST, sample_of, synthetic_cases, synthetic_record
from tests.bundles.classify_runs import BRAIN, BUNDLES, CT, SMEAR
from tests.bundles.generate_runs import config, draw, picture, train, write_data
from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import write_picture


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data({bundle: tmp_path_factory.mktemp(bundle) for bundle in BUNDLES})


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Weights of a grey and of a colour network after an epoch, and the runs that made them."""
    folders = {bundle: tmp_path_factory.mktemp(bundle) for bundle in (BRAIN, SMEAR)}
    options = {"learning_rate": 1e-2, "max_epochs": 2, "val_interval": 2}
    runs = {bundle: train(bundle, data[bundle], folder, **options) for bundle, folder in folders.items()}
    return {bundle: (runs[bundle], folder) for bundle, folder in folders.items()}


@pytest.mark.parametrize("bundle", [BRAIN, SMEAR])
def test_it_trains_on_the_share_alone_and_previews(trained, data, bundle):
    run, folder = trained[bundle]
    get = run.parser.get_parsed_content
    sample, rest = get("shares")
    assert len(sample) == 4 * 3
    assert len(rest) == 4 * 12
    assert {case["case"] for case in run.train_dataset_data} == {case["case"] for case in sample}
    assert not {case["case"] for case in sample} & {case["case"] for case in rest}
    assert run.trainer.state.iteration == 2 * 3
    names = {"checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt", "model.pt", "model.json", "previews", "tensorboard"}
    names |= {"progress.csv", "progress.png"}
    assert {path.name for path in folder.iterdir()} == names
    with Image.open(folder / "previews" / "epoch_0002.png") as sheet:
        assert (sheet.mode, sheet.height) == ("RGB" if bundle == SMEAR else "L", 4 * 17 - 1)
        assert sheet.width > 2 * 17 - 1, "the names of the classes stand at the left"
    null = torch.load(folder / "model.pt", weights_only=True)["class_embedding.weight"]
    assert len(null) == 5, "four classes and none"


def test_a_set_says_which_real_images_its_model_has_seen(data, trained, tmp_path, caplog):
    _, folder = trained[BRAIN]
    draw(BRAIN, tmp_path / "set", folder / "model.pt", "generate", per_class=2)
    real = image_cases(data[BRAIN])
    shutil.copy(folder / "model.pt", tmp_path)
    draw(BRAIN, tmp_path / "silent", tmp_path / "model.pt", "generate", per_class=2)
    record = {"sample": "of other weights", "weights_sha256": "0" * 64}
    (tmp_path / "model.json").write_text(json.dumps(record))
    assert sample_of(tmp_path / "model.pt") is None
    own = {"fraction": 0.2, "per_class": 2}
    assert "does not say" not in caplog.text
    assert len(study_sets(real, tmp_path / "set", **own)["train"]) == 8
    for other in ({"seed": 1}, {"fraction": 0.4}):
        with pytest.raises(ValueError, match="set was drawn by a model that was trained on another sample"):
            study_sets(real, tmp_path / "set", **{**own, **other})
        study_sets(real, tmp_path / "silent", **{**own, **other})
        assert f"{tmp_path / 'silent'} does not say which real images its model has seen" in caplog.text
        caplog.clear()


def test_a_class_is_drawn_on_request_and_all_go_on_a_sheet(trained, tmp_path):
    _, folder = trained[SMEAR]
    draw(SMEAR, tmp_path, folder / "model.pt", num_samples=3, class_name="pre")
    written = {f"pre/pre_{number:05d}.png" for number in range(3)}
    assert set(content(tmp_path)) == {*written, "contact_sheet.png"}
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert (sheet.mode, sheet.height) == ("RGB", 16)
        assert sheet.width > 3 * 17 - 1
        assert sheet.info["Description"].startswith("synthetic dm_leukemia_smear")
    first = np.asarray(Image.open(tmp_path / "pre" / "pre_00000.png")).astype(int)
    assert first.shape == (16, 16, 3)
    whole = content(tmp_path)
    (tmp_path / "pre" / "pre_00001.png").unlink()
    draw(SMEAR, tmp_path, folder / "model.pt", num_samples=3, class_name="pre")
    assert content(tmp_path) == whole, "after a resume, the sheet shows the images of both runs"
    with refused(FileExistsError, "was made with batch_size 16, now it is 2"):
        draw(SMEAR, tmp_path, folder / "model.pt", num_samples=3, class_name="pre", batch_size=2)
    guided = draw(SMEAR, tmp_path / "guided", folder / "model.pt", num_samples=1, class_name="pre", guidance_scale=9.0)
    assert guided.inferer.guidance_scale == 9
    other = np.asarray(Image.open(tmp_path / "guided" / "pre" / "pre_00000.png"))
    assert (first != other).any()
    with refused(ValueError, "class_name of .* were expected, got 16 and 'flu'"):
        draw(SMEAR, tmp_path, folder / "model.pt", class_name="flu")


def test_a_killed_run_and_several_processes_end_with_the_same_set(trained, tmp_path, monkeypatch, caplog):
    _, folder = trained[BRAIN]
    options = {"per_class": 5, "batch_size": 2}
    draw(BRAIN, tmp_path / "whole", folder / "model.pt", "generate", **options)
    whole = content(tmp_path / "whole")
    assert len(whole) == 4 * 5 + 2  # manifest.csv and croissant.json
    cases = synthetic_cases(tmp_path / "whole")
    assert [case["number"] for case in cases if case["class"] == "notumor"] == [0, 1, 2, 3, 4]
    assert len({synthetic_record(case["image"])["seed"] for case in cases}) == 20
    assert (tmp_path / "whole" / MANIFEST).read_text().splitlines()[1].startswith("glioma/glioma_00000.png,glioma,0,")

    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", killed)
    (killed / MANIFEST).unlink()
    for name in ("glioma/glioma_00004.png", "notumor/notumor_00001.png"):
        (killed / name).unlink()
    (killed / "notumor" / ".77.notumor_00001.png").write_bytes(b"half")
    with caplog.at_level(logging.INFO):
        run = draw(BRAIN, killed, folder / "model.pt", "generate", **options)
    assert "18 of 20 already in" in caplog.text
    assert [case["case"] for case in run.parser.get_parsed_content("cases")] == [
        "glioma_00004",
        "notumor_00000",
        "notumor_00001",
    ]
    assert content(killed) == whole

    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert not (tmp_path / "shared" / MANIFEST).exists()
        draw(BRAIN, tmp_path / "shared", folder / "model.pt", "generate", **options)
    assert content(tmp_path / "shared") == whole


def test_a_set_is_not_continued_with_other_settings(trained, tmp_path):
    _, folder = trained[BRAIN]
    draw(BRAIN, tmp_path, folder / "model.pt", "generate", per_class=1)
    with refused(FileExistsError, "glioma_00000.png was made with steps 2, now it is 3: choose another output_dir"):
        draw(BRAIN, tmp_path, folder / "model.pt", "generate", per_class=1, num_inference_steps=3)
    draw(BRAIN, tmp_path, folder / "model.pt", "generate", per_class=1, num_inference_steps=3, overwrite=True)
    assert {synthetic_record(case["image"])["steps"] for case in synthetic_cases(tmp_path)} == {3}


def test_a_set_is_continued_with_the_same_weights_alone(trained, tmp_path):
    _, folder = trained[BRAIN]
    renamed, other = tmp_path / "renamed.pt", tmp_path / "other.pt"
    shutil.copy(folder / "model.pt", renamed)
    torch.save({key: value + 1 for key, value in torch.load(renamed, weights_only=True).items()}, other)
    draw(BRAIN, tmp_path / "set", folder / "model.pt", "generate", per_class=1)
    draw(BRAIN, tmp_path / "set", renamed, "generate", per_class=2)
    assert len(synthetic_cases(tmp_path / "set")) == 8
    with refused(FileExistsError, "glioma_00000.png was made with weights 'model.pt', now it is 'other.pt'"):
        draw(BRAIN, tmp_path / "set", other, "generate", per_class=2)


def test_a_set_has_one_origin(trained, tmp_path, monkeypatch):
    """Whatever other numbers are there, and whichever process ends first."""
    weights = trained[BRAIN][1] / "model.pt"
    one_class = {"class_name": "notumor", "batch_size": 1}
    draw(BRAIN, tmp_path, weights, "generate", per_class=2, **one_class)
    ancestral = {"step_rule#_target_": "scripts.diffusion.steps.Ancestral"}
    redone, more = {"per_class": 1, "overwrite": True}, {"per_class": 2, "first_sample": 2}
    for changed in ({"seed": 1}, {"prediction_type": "epsilon"}, {"step_rule#min_log_snr": -4.0}, ancestral):
        for run, found in ((redone, "notumor_00001.png was made with"), (more, "notumor_00000.png was made with")):
            with refused(FileExistsError, found):
                draw(BRAIN, tmp_path, weights, "generate", **one_class, **changed, **run)
    draw(BRAIN, tmp_path, weights, "generate", per_class=2, first_sample=2, **one_class)
    assert len(list((tmp_path / "notumor").iterdir())) == 4

    shared = tmp_path / "shared"
    draw(BRAIN, shared, weights, "generate", per_class=2, batch_size=1)
    before = content(shared)
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        writing = shared / "notumor" / f".77.notumor_0000{1 - rank}.png"  # of the other process
        writing.write_bytes(b"half")
        draw(BRAIN, shared, weights, "generate", per_class=2, batch_size=1, seed=1, overwrite=True)
        assert writing.exists()
        writing.unlink()
        if rank:
            assert content(shared)[MANIFEST] == before[MANIFEST]  # not yet written anew: half of the images are old
    assert {synthetic_record(case["image"])["set_seed"] for case in synthetic_cases(shared)} == {1}


def test_what_cannot_be_trained_on_is_named(data, trained, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(data[CT], bad)
    with refused(ValueError, "No image of the classes .'healthy'."):
        train(CT, bad, tmp_path / "out", classes=["COVID", "healthy"])
    everything = {"fraction": 0.93}
    write_picture(bad / "COVID" / "COVID (0).png", picture(True, 0))
    (bad / "COVID" / "COVID (1).png").write_bytes(b"no picture")
    with refused(ValueError, r"2 of 28 images cannot be used(.|\n)*grey image was expected, got colour"):
        train(CT, bad, tmp_path / "out", **everything)
    run = train(CT, bad, tmp_path / "out", **everything, skip_unreadable=True)
    assert len(run.train_dataset_data) == 26
    _, folder = trained[BRAIN]
    draw(BRAIN, tmp_path / "set", folder / "model.pt", "generate", per_class=4)
    with refused(ValueError, "16 of 16 images that should be real are synthetic"):
        train(BRAIN, tmp_path / "set", tmp_path / "out2")


@pytest.mark.parametrize("bundle", [BRAIN, SMEAR])
def test_images_are_scored_and_what_fails_is_drawn_anew_and_recorded(trained, data, tmp_path, bundle):
    _, folder = trained[bundle]
    classes = config(bundle, "inference")["classes"]
    ranges = {key: {"log_grain": [-99, 99]} for key in classes[1:]} | {classes[0]: {"log_grain": [-99, -98]}}
    content_of = {"ranges": ranges, "classes": classes, "spatial_size": [16, 16], "classifier_sha256": None}
    (tmp_path / "quality.json").write_text(json.dumps(content_of))
    given = {"per_class": 2, "batch_size": 3, "quality": str(tmp_path / "quality.json")}
    out = {name: tmp_path / name for name in ("plain", "checked", "rejected")}
    draw(bundle, out["plain"], folder / "model.pt", "generate", **given)
    draw(bundle, out["checked"], folder / "model.pt", "generate", check_quality=True, **given)
    draw(bundle, out["rejected"], folder / "model.pt", "generate", reject=True, tries=2, **given)
    rows = {name: list(csv.DictReader((path / MANIFEST).open())) for name, path in out.items()}
    assert "quality_draws" not in rows["plain"][0]
    assert [row["quality_draws"] for row in rows["rejected"]] == ["2"] * 2 + ["1"] * 2 * (len(classes) - 1)
    assert [row["quality_failed"] for row in rows["checked"]] == ["log_grain"] * 2 + [""] * 2 * (len(classes) - 1)
    images = {name: [np.asarray(Image.open(path / row["path"])) for row in rows[name]] for name, path in out.items()}
    assert all((a == b).all() for a, b in zip(images["plain"], images["checked"])), "a look changes nothing"
    same = [(a == b).all() for a, b in zip(images["plain"], images["rejected"])]
    assert same[2:] == [True] * len(same[2:])
    before = content(out["rejected"])
    (out["rejected"] / rows["rejected"][0]["path"]).unlink()
    draw(bundle, out["rejected"], folder / "model.pt", "generate", reject=True, tries=2, **given)
    assert content(out["rejected"]) == before, "a redraw is the same after a stop"
    with refused(ValueError, r"3 training images give no range"):
        train(bundle, data[bundle], tmp_path / "fit", "fit_quality", quality=str(tmp_path / "new.json"))
    with refused(FileNotFoundError, r"fit_quality\.json makes it"):
        draw(
            bundle,
            tmp_path / "none",
            folder / "model.pt",
            "generate",
            **{**given, "reject": True, "quality": "none.json"},
        )
