"""Four modalities: heads are simulated, read as BraTS publishes cases, trained on and drawn."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from common.masks.__main__ import simulate
from common.masks.mr_signal import MODALITIES
from tests.bundles.inference_runs import refused
from tests.bundles.training import TINY, weights
from tests.fixtures import BRATS
from tests.masks.tissues import write_tissues

SPACING = [8.0, 8.0, 8.0]
NAMES = [f"mask_000_mr_{name}.nii.gz" for name in MODALITIES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six cases and a mask of simulated heads of 24 voxels a side, and the run of two epochs on them."""
    folder = tmp_path_factory.mktemp("brats")
    tissues = write_tissues(folder / "tissues")
    simulate(folder / "data", count=6, size=24, spacing=8.0, tissues=tissues)
    simulate(folder / "masks", size=24, spacing=8.0, masks=True, tissues=tissues)
    train(folder / "data", folder / "run", val_interval=2)
    return folder


def train(data, output, *overlays, **overrides):
    files = [str(BRATS / "configs" / name) for name in ("train.json", *overlays)]
    given = {**TINY, "dataset_dir": str(data), "output_dir": str(output), "max_epochs": 2, "spacing": SPACING}
    run = ConfigWorkflow(files, workflow_type="train", logging_file=False, **{**given, **overrides})
    run.initialize()
    assert run.check_properties() == []
    run.run()
    run.finalize()
    return run


def draw(folder, out, *overlays, **overrides):
    files = [str(BRATS / "configs" / name) for name in ("inference.json", *overlays)]
    given = {
        "run_dir": str(folder / "run"),
        "dataset_dir": str(folder / "masks"),
        "num_inference_steps": 2,
        **overrides,
    }
    run = ConfigWorkflow(files, workflow_type="inference", logging_file=False, output_dir=str(out), **given)
    run.initialize()
    assert run.check_properties() == []
    run.run()


def test_training_shows_four_rows_and_resumes_with_the_same_weights(folder, tmp_path):
    assert (folder / "run" / "previews" / "epoch_0002.png").is_file()
    state = torch.load(folder / "run" / "checkpoint_epoch=2.pt", weights_only=True)
    shutil.copy(folder / "run" / "checkpoint_epoch=1.pt", tmp_path)
    resumed = weights(train(folder / "data", tmp_path, "resume.json"))
    assert all(torch.equal(resumed[f"network.{key}"], value) for key, value in state["network"].items())


def test_labels_of_training_are_those_that_are_drawn(folder):
    run = ConfigWorkflow(
        [str(BRATS / "configs" / "train.json")],
        workflow_type="train",
        dataset_dir=str(folder / "data"),
        spacing=None,
        logging_file=False,
    )
    run.initialize()
    case = run.parser.get_parsed_content("validate#dataset")[0]
    source = folder / "data" / case["case"] / f"{case['case']}_seg.nii.gz"
    published = np.asarray(nib.load(source).dataobj)
    t1 = np.asarray(nib.load(str(source).replace("_seg", "_t1")).dataobj)
    assert case["image"].shape == (4, 24, 24, 24)
    for channel, inside in enumerate([published == 1, published == 2, published == 4, (published == 0) & (t1 > 0)]):
        np.testing.assert_array_equal(case["label"][channel].numpy() > 0, inside)


def test_four_files_on_the_grid_of_the_mask_and_a_crop_that_is_undone(folder, tmp_path):
    draw(folder, tmp_path, spatial_size=[16, 24, 32])
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES, "mask_000_mr.json", "mask_000_mr_preview.png"}
    mask = nib.load(folder / "masks" / "mask_000.nii.gz")
    for name in NAMES:
        volume = nib.load(tmp_path / name)
        values = np.asarray(volume.dataobj)
        assert (volume.shape, values.dtype) == (mask.shape, np.int16)
        np.testing.assert_allclose(volume.affine, mask.affine)
        assert not values[:4].any()
        assert not values[20:].any()
        assert values[4:20].any()
    record = json.loads((tmp_path / "mask_000_mr.json").read_text())
    assert list(record["outputs"]) == list(MODALITIES)
    before = (tmp_path / NAMES[0]).stat().st_mtime_ns
    draw(folder, tmp_path, spatial_size=[16, 24, 32])
    assert (tmp_path / NAMES[0]).stat().st_mtime_ns == before, "what is done is not done again"
    (tmp_path / NAMES[2]).unlink()
    draw(folder, tmp_path, spatial_size=[16, 24, 32])
    assert (tmp_path / NAMES[2]).is_file()
    assert (tmp_path / NAMES[0]).stat().st_mtime_ns != before


def test_one_file_of_four_channels(folder, tmp_path):
    draw(folder, tmp_path, one_file=True)
    assert nib.load(tmp_path / "mask_000_mr.nii.gz").shape == (24, 24, 24, 4)


def test_the_papers_network_runs_in_the_bundle(folder, tmp_path):
    narrow = {"network_def#channels": [8] * 5, "network_def#num_head_channels": 8, "network_def#norm_num_groups": 4}
    given = {"spacing": None, "spatial_size": [16, 16, 16], "run_dir": None, "checkpointloader": None, **narrow}
    files = [str(BRATS / "configs" / name) for name in ("inference.json", "paper.json")]
    given |= {"dataset_dir": str(folder / "masks"), "output_dir": str(tmp_path), "num_inference_steps": 2}
    run = ConfigWorkflow(files, workflow_type="inference", logging_file=False, weights=__file__, **given)
    run.initialize()
    run.run()
    assert set(NAMES) < {path.name for path in tmp_path.iterdir()}


def test_bad_cases_are_named(folder, tmp_path):
    data = shutil.copytree(folder / "data", tmp_path / "data")
    (data / "head_001" / "head_001_t2.nii.gz").unlink()
    with refused(ValueError, "head_001 holds 0 for t2"):
        train(data, tmp_path / "out")
    shutil.rmtree(data / "head_001")
    t1 = data / "head_002" / "head_002_t1.nii.gz"
    image = nib.load(t1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.int16(1), image.affine), t1)
    with refused(ValueError, "head_002_t1.nii.gz: 100 % of the voxels are above 0.*extract the brain"):
        train(data, tmp_path / "out")
    with refused(FileNotFoundError, "holds no folder with files that end in"):
        train(folder / "masks", tmp_path / "out")


def test_a_mask_without_brain_and_missing_weights_are_named(folder, tmp_path):
    mask = nib.load(folder / "masks" / "mask_000.nii.gz")
    values = np.where(np.asarray(mask.dataobj) == 4, 0, np.asarray(mask.dataobj)).astype(np.uint8)
    nib.save(nib.Nifti1Image(values, mask.affine), tmp_path / "bare.nii.gz")
    with refused(ValueError, r"bare.nii.gz: required labels \['brain'\] are missing"):
        draw(folder, tmp_path / "out", mask=str(tmp_path / "bare.nii.gz"))
    with refused(FileNotFoundError, "made by simulate.json, which makes training data, and then train.json"):
        draw(folder, tmp_path / "out", run_dir=None, spacing=SPACING, weights=str(tmp_path / "none.pt"))
