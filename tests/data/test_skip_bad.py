"""``skip_bad``: good inputs are done, bad ones are listed, and the run ends with a status of its own."""

from __future__ import annotations

import csv

import pytest
import torch
from monai.transforms import Lambda

from common.data.checks import check_run
from common.data.dataset import CheckedCacheDataset, CheckedDataset, InputsSkipped
from common.utils import root_cause
from tests.bundles.inference_runs import refused, run_inference, save_tiny_weights
from tests.bundles.restoration_runs import DENOISE, INPAINT, SUPERRES, grey, restore, tiny_weights, write_picture
from tests.fixtures import two_part_mask, write_nifti

BUNDLES = {DENOISE: "denoised", SUPERRES: "sr", INPAINT: "inpainted"}


def listed(folder):
    with (folder / "skipped.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def test_volumes_without_the_bad_one_are_those_of_a_run_without_it(tmp_path):
    weights = str(save_tiny_weights(tmp_path / "model.pt"))
    masks, out = tmp_path / "masks", tmp_path / "out"
    for name in ("a", "c"):
        write_nifti(masks / f"{name}.nii.gz", two_part_mask())
    run_inference(dataset_dir=str(masks), output_dir=str(tmp_path / "whole"), weights=weights)
    (masks / "b.nii.gz").write_bytes(b"no image")
    options = {"dataset_dir": str(masks), "output_dir": str(out), "weights": weights, "skip_bad": True}
    with pytest.raises(RuntimeError) as ended:
        run_inference(**options)
    assert root_cause(ended.value).exit_status == 3
    found = f"1 of 3 inputs were left out, all others are done; see {out / 'skipped.csv'}."
    assert str(root_cause(ended.value)) == found
    assert list(listed(out)) == [str(masks / "b.nii.gz")]
    assert listed(out)[str(masks / "b.nii.gz")].startswith("damaged, cut off")
    for name in ("a", "c"):
        assert (out / f"{name}_mr_preview.png").is_file()
        assert (out / f"{name}_mr.nii.gz").read_bytes() == (tmp_path / "whole" / f"{name}_mr.nii.gz").read_bytes()
    with refused(RuntimeError, "1 of 1 inputs were left out"):  # nothing else is to be done
        run_inference(**options)
    write_nifti(masks / "b.nii.gz", two_part_mask())
    run_inference(**options)
    assert (out / "b_mr.nii.gz").is_file()
    assert not (out / "skipped.csv").exists()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_pictures_without_the_bad_one(tmp_path, bundle):
    for name in ("a", "b"):
        write_picture(tmp_path / "in" / f"{name}.png", grey())
    (tmp_path / "in" / "c.png").write_bytes(b"no image")
    options = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out"), "skip_bad": True}
    if bundle == INPAINT:
        hole = grey() * 0
        hole[4:9, 4:9] = 255
        options["hole"] = str(write_picture(tmp_path / "hole.png", hole))
    with refused(RuntimeError, "1 of 3 inputs were left out"):
        restore(bundle, **options, weights=tiny_weights(bundle, tmp_path))
    assert list(listed(tmp_path / "out")) == [str(tmp_path / "in" / "c.png")]
    done = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert done == [f"{name}_{BUNDLES[bundle]}.png" for name in ("a", "b")]


def invert(case):
    if case["image"].endswith("bad.png"):
        raise ZeroDivisionError("division by zero")
    return {"image": torch.ones(1, 2, 2)}


def test_what_is_kept_stays_with_its_case(tmp_path):
    cases = [{"image": str(tmp_path / name)} for name in ("bad.png", "b.png", "c.png")]
    dataset = CheckedDataset(cases, invert)
    files = [case["image"] for case in cases]
    assert check_run(files, dataset, tmp_path, skip_bad=True) == len(dataset) == 2
    assert [case["image"] for case in dataset.data] == files[1:]
    assert len(cases) == 3
    assert dataset[1]["image"].shape == (1, 2, 2)
    assert listed(tmp_path) == {files[0]: "ZeroDivisionError: division by zero"}
    with pytest.raises(InputsSkipped):
        dataset.finish()
    CheckedDataset(cases[1:], invert).finish()


def test_a_cache_names_every_bad_case_and_one_without_cache_the_one_asked_for(tmp_path):
    cases = [{"image": str(tmp_path / name), "case": "x"} for name in ("1bad.png", "b.png", "2bad.png")]
    with pytest.raises(ValueError, match=r"2 of 3 .*cannot be used:\n  .*1bad.png: Zero.*\n  .*2bad.png: Zero"):
        CheckedCacheDataset(cases, Lambda(invert), progress=False)
    dataset = CheckedCacheDataset(cases, Lambda(invert), cache_rate=0.0, progress=False)
    assert dataset[1]["image"].shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r"1bad.png: Zero"):
        dataset[0]
