"""What counts as done: the record beside an output agrees with this run, and the output can be read."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from common.data.checks import pending_cases
from common.data.drawn import sample_cases
from common.data.finder import find_images, own_outputs
from common.data.reader import LoadImaged
from common.data.writer import SaveImaged
from tests.bundles.restoration_runs import grey, write_picture

MADE = {
    "synthetic": True,
    "bundle": "b",
    "version": "1",
    "weights": "a.pt",
    "weights_sha256": "77",
    "seed": 0,
    "fit": "tile",
}


def restored(tmp_path, names=("a", "b"), maps=False, **made):
    """Inputs in ``in`` and what a run with ``made`` makes of them in ``out``."""
    files = []
    for seed, name in enumerate(names):
        path = tmp_path / "in" / f"{name}.png"
        files.append(str(path if path.is_file() else write_picture(path, grey(seed=seed))))
        case = LoadImaged("image")({"image": files[-1]})
        case["pred"] = case["image"]
        if maps:
            case |= {"mean": case["image"], "std": case["image"] / 9}
        SaveImaged("pred", tmp_path / "out", "sr", provenance={**MADE, **made})(case)
    return files


def pending(tmp_path, files, num_samples=1, overwrite=False, **made):
    cases = pending_cases(files, tmp_path / "out", "sr", num_samples, overwrite=overwrite, provenance={**MADE, **made})
    return [case["image"] for case in cases]


def test_what_this_run_would_make_is_done(tmp_path):
    files = restored(tmp_path)
    assert pending(tmp_path, files) == []
    assert pending(tmp_path, files, version="2", weights="renamed.pt") == [], "the same weights make the same image"
    assert pending(tmp_path, files, overwrite=True, seed=1) == files
    record = json.loads((tmp_path / "out" / "a_sr.json").read_text())
    assert len(record["image_sha256"]) == 64


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, r"a_sr.png was made with seed 0, now it is 1: .*--overwrite True"),
        ({"fit": "whole"}, "fit 'tile', now it is 'whole'"),
        ({"weights_sha256": "88"}, "weights_sha256 '77', now it is '88'"),
        ({"precision": "bf16"}, "has no precision in its record, now it is 'bf16'"),
    ],
)
def test_another_setting_is_refused(tmp_path, changed, said):
    with pytest.raises(FileExistsError, match=said):
        pending(tmp_path, restored(tmp_path), **changed)


def test_an_exchanged_input_is_refused(tmp_path):
    files = restored(tmp_path)
    write_picture(tmp_path / "in" / "b.png", grey(seed=5))
    with pytest.raises(FileExistsError, match=r"b_sr.png was made with image_sha256 '"):
        pending(tmp_path, files)


def test_an_exchanged_hole_is_refused(tmp_path):
    image, hole = (write_picture(tmp_path / name, grey()) for name in ("a.png", "holes/a.png"))
    case = LoadImaged(["image", "hole"])({"image": str(image), "hole": str(hole)})
    SaveImaged("pred", tmp_path / "out", "x", provenance=MADE, hole_key="hole")({**case, "pred": case["image"]})
    options = {"hole": tmp_path / "holes", "provenance": MADE}
    assert pending_cases([str(image)], tmp_path / "out", "x", **options) == []
    write_picture(hole, grey(seed=3))
    with pytest.raises(FileExistsError, match=r"a_x.png was made with hole_sha256"):
        pending_cases([str(image)], tmp_path / "out", "x", **options)


def test_an_output_of_unknown_making_is_refused(tmp_path):
    files = restored(tmp_path)
    record = tmp_path / "out" / "a_sr.json"
    whole = record.read_text()
    record.write_text(whole.replace('"image_sha256"', '"other"'))
    with pytest.raises(FileExistsError, match=r"a_sr.png has no image_sha256 in its record"):
        pending(tmp_path, files)
    record.write_text(whole[:40])
    with pytest.raises(FileExistsError, match=r"a_sr.png is there without a record that can be read"):
        pending(tmp_path, files)
    record.unlink()
    with pytest.raises(FileExistsError, match=r"a_sr.png is there without its record a_sr.json.*--overwrite True"):
        pending(tmp_path, files)
    assert pending(tmp_path, files, overwrite=True) == files


@pytest.mark.parametrize("kept", [0, 1, 200, -40])
@pytest.mark.parametrize("name", ["a_sr.png", "a_sr_std.png"])
def test_a_cut_output_is_made_again(tmp_path, caplog, kept, name):
    files = restored(tmp_path, maps=True)
    assert pending(tmp_path, files, num_samples=3) == []
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:kept])
    assert pending(tmp_path, files, num_samples=3) == files[:1]
    assert f"{name}: damaged" in caplog.text


def test_what_a_killed_run_leaves_is_made_again(tmp_path):
    files = restored(tmp_path, maps=True)
    (tmp_path / "out" / "a_sr.png").unlink()  # killed between record and result
    assert pending(tmp_path, files, num_samples=3) == files[:1]
    (tmp_path / "out" / "a_sr.json").unlink()  # killed between maps and record
    assert pending(tmp_path, files, num_samples=3) == files[:1]


def test_drawn_images_are_compared_and_their_batch_is_drawn_as_a_whole(tmp_path, caplog):
    save = SaveImaged("pred", tmp_path, image_format="png", provenance=MADE)
    cases = sample_cases(6, tmp_path, provenance=MADE, batch_size=2)
    for case in cases:
        save({**case, "pred": torch.full((1, 4, 4), case["image"] / 6)})
    assert sample_cases(6, tmp_path, provenance=MADE, batch_size=2) == []
    (tmp_path / "sample_00003.png").unlink()
    (tmp_path / "sample_00004.png").write_bytes(b"")
    with caplog.at_level(logging.INFO):
        again = sample_cases(6, tmp_path, provenance=MADE, batch_size=2)
    assert [(case["image"], case["missing"]) for case in again] == [(2, 0), (3, 1), (4, 1), (5, 0)]
    assert "4 of 6 already in" in caplog.text
    before = (tmp_path / "sample_00002.png").stat().st_mtime_ns
    for case in again:
        save({**case, "pred": torch.zeros(1, 4, 4)})
    assert (tmp_path / "sample_00002.png").stat().st_mtime_ns == before
    assert sample_cases(6, tmp_path, provenance=MADE) == []
    with pytest.raises(FileExistsError, match=r"sample_00000.png was made with seed 0, now it is 1"):
        sample_cases(6, tmp_path, provenance={**MADE, "seed": 1})


def test_outputs_are_no_inputs_of_the_next_run(tmp_path, caplog):
    """Where the output folder is the input folder; generated images alone are taken."""
    files = [str(write_picture(tmp_path / f"{name}.png", grey())) for name in ("a", "a_b")]
    notes = write_picture(tmp_path / "a_sr_mean_of_mine.png", grey())
    for file in files:
        case = LoadImaged("image")({"image": file})
        case |= {"pred": case["image"], "mean": case["image"], "std": case["image"]}
        SaveImaged("pred", tmp_path, "sr", provenance=MADE)(case)
    for name in ("a_sr_preview.png", "contact_sheet.png"):
        write_picture(tmp_path / name, grey())
    assert find_images(tmp_path) == [*files, str(notes)]
    assert "8 left out, which earlier runs wrote there, e.g. a_b_sr.png" in caplog.text
    assert find_images(tmp_path, recursive=True) == [*files, str(notes)]
    assert len(find_images(tmp_path, generated=True)) == 11
    for path in (*files, notes):
        (tmp_path / path).unlink()
    assert find_images(tmp_path) == [str(tmp_path / f"{name}_sr.png") for name in ("a_b", "a")]


@pytest.mark.parametrize("by_name", [False, True])
def test_sheets_of_reconstructions_are_no_images_beside_records_alone(tmp_path, by_name):
    sheets = [str(write_picture(tmp_path / f"{name}.png", grey())) for name in ("interpolations", "reconstructions")]
    assert own_outputs(sheets, by_name) == (set(), set())
    case = LoadImaged("image")({"image": str(write_picture(tmp_path / "in" / "a.png", grey()))})
    SaveImaged("pred", tmp_path, "reconstructed", provenance=MADE)({**case, "pred": case["image"]})
    made = str(tmp_path / "a_reconstructed.png")
    assert own_outputs([made, *sheets], by_name) == ({made}, set(sheets))


def test_files_without_a_record_of_ours_are_inputs(tmp_path):
    files = [str(write_picture(tmp_path / f"{name}.png", grey())) for name in ("contact_sheet", "x", "x_mean")]
    (tmp_path / "x.json").write_text(json.dumps({"outputs": {"pred": "x.png", "mean": "x_mean.png"}}))
    assert find_images(tmp_path) == files
