"""The inference config: its keys, where and how its volumes are written, and reruns."""

from __future__ import annotations

import json
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.inference_runs import inference_workflow, run_inference, save_tiny_weights
from tests.fixtures import BUNDLE, oblique_affine, two_part_mask, write_nifti
from tests.networks.paper import config_network

CONFIGS = BUNDLE / "configs"
VOCABULARY = {
    *("bundle_root", "device", "dataset_dir", "output_dir", "network_def", "network", "preprocessing", "dataset"),
    *("dataloader", "inferer", "postprocessing", "handlers", "evaluator", "checkpointloader", "initialize", "run"),
}
MASK_AS_IMAGE = {"inferer": "$lambda inputs, network: inputs[:, :1]"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(save_tiny_weights(tmp_path_factory.mktemp("weights") / "model.pt"))


def read_config(name):
    return ConfigParser.load_config_file(CONFIGS / name)


def test_an_overlay_only_restates_what_changes():
    base, overlay = read_config("inference.json"), read_config("ancestral.json")
    assert set(overlay) <= set(base)
    assert all(base[key] != value for key, value in overlay.items())


def test_ancestral_takes_the_papers_steps():
    sampler = inference_workflow("ancestral.json", num_inference_steps=250).inferer
    assert type(sampler.step_rule).__name__ == "Ancestral"
    assert [step[:2] for step in sampler.steps] == [(t, t - 1) for t in range(249, -1, -1)]


def test_the_papers_network_runs_in_the_bundle(tmp_path):
    mask = two_part_mask()
    path = write_nifti(tmp_path / "in" / "case.nii.gz", mask)
    narrow = {"network_def#channels": [8] * 5, "network_def#num_head_channels": 8}
    chosen = {"mask": str(path), "output_dir": str(tmp_path / "out"), **narrow}
    network = config_network("paper.json", channels=[8] * 5, num_head_channels=8, norm_num_groups=4)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    run_inference("paper.json", weights=str(tmp_path / "weights.pt"), spacing=None, **chosen)
    result = nib.load(tmp_path / "out" / "case_mr.nii.gz")
    assert result.shape == mask.shape
    assert (tmp_path / "out" / "case_mr_preview.png").is_file()


@pytest.mark.parametrize("axes", ["LPS", "ASR", "IRP"])
def test_the_output_lies_on_the_grid_of_the_mask(tmp_path, weights, axes):
    mask = two_part_mask()
    image = nib.Nifti1Image(mask, np.diag([1.0, 1.0, 1.0, 1.0]))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), axcodes(axes)))
    path = write_nifti(tmp_path / "in" / "case.nii.gz", np.asarray(turned.dataobj), turned.affine)
    run_inference(mask=str(path), output_dir=str(tmp_path / "out"), weights=weights, **MASK_AS_IMAGE)
    result = nib.load(tmp_path / "out" / "case_mr.nii.gz")
    assert result.shape == turned.shape
    np.testing.assert_allclose(result.affine, turned.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(result.dataobj), 1000 * (np.asarray(turned.dataobj) == 1))


def axcodes(axes):
    return nib.orientations.axcodes2ornt(axes)


def test_an_oblique_mask_of_other_voxels_keeps_shape_affine_and_place(tmp_path, weights):
    mask = two_part_mask((24, 30, 20))
    path = write_nifti(tmp_path / "in" / "case.nii", mask)
    run_inference(mask=str(path), output_dir=str(tmp_path / "out"), weights=weights, **MASK_AS_IMAGE)
    result = nib.load(tmp_path / "out" / "case_mr.nii.gz")
    assert result.shape == mask.shape
    np.testing.assert_allclose(result.affine, oblique_affine(), atol=1e-4)
    np.testing.assert_allclose(result.header.get_zooms(), (0.8, 1.2, 2.5), atol=1e-4)
    found, expected = np.asarray(result.dataobj) > 500, mask == 1
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.9


def test_a_run_writes_volume_preview_and_record(tmp_path, weights):
    write_nifti(tmp_path / "masks" / "case_1.nii.gz", two_part_mask())
    run_inference(dataset_dir=str(tmp_path / "masks"), output_dir=str(tmp_path / "out"), weights=weights, seed=3)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["case_1_mr.json", "case_1_mr.nii.gz", "case_1_mr_preview.png"]
    volume = nib.load(tmp_path / "out" / "case_1_mr.nii.gz")
    values = np.asarray(volume.dataobj)
    assert volume.get_data_dtype() == np.int16
    assert values.min() >= 0
    assert values.max() <= 1000
    assert values.std() > 0
    record = json.loads((tmp_path / "out" / "case_1_mr.json").read_text())
    assert record["synthetic"] is True
    assert record["steps"] == 2
    assert len(record["weights_sha256"]) == 64
    assert record["version"] == read_config("metadata.json")["version"]
    text = bytes(volume.header["descrip"]).decode()
    assert text.startswith(f"synthetic med_ddpm_3d {record['version']} seed {record['seed']} steps 2 weights ")


def test_a_rerun_skips_what_is_complete_and_says_so(tmp_path, weights, caplog, monkeypatch):
    masks, out = tmp_path / "masks", tmp_path / "out"
    for index in range(2):
        write_nifti(masks / f"case_{index}.nii.gz", two_part_mask(seed=index))
    options = {"dataset_dir": str(masks), "output_dir": str(out), "weights": weights}
    run_inference(**options)
    before = (out / "case_0_mr.nii.gz").stat().st_mtime_ns
    first = np.asarray(nib.load(out / "case_0_mr.nii.gz").dataobj)
    (out / "case_1_mr_preview.png").unlink()
    with caplog.at_level(logging.INFO):
        run_inference(**options)
    assert "1 of 2 already in" in caplog.text
    assert (out / "case_0_mr.nii.gz").stat().st_mtime_ns == before
    assert (out / "case_1_mr_preview.png").is_file(), "an incomplete case is made anew"
    with pytest.raises(RuntimeError, match="pending_cases"):
        run_inference(**options, inferer="$lambda inputs, network: 1 / 0")  # another sampler
    with monkeypatch.context() as patch:
        patch.setattr("scripts.inferers.sampler.DiffusionSampler.__call__", lambda *args, **kwargs: 1 / 0)
        run_inference(**options)  # nothing is left to sample
        with pytest.raises(RuntimeError, match="evaluator"):
            run_inference(**options, overwrite=True)
    run_inference(**options, overwrite=True)
    assert (out / "case_0_mr.nii.gz").stat().st_mtime_ns > before
    np.testing.assert_array_equal(np.asarray(nib.load(out / "case_0_mr.nii.gz").dataobj), first)


def test_another_seed_gives_another_volume(tmp_path, weights):
    path = str(write_nifti(tmp_path / "case.nii.gz", two_part_mask()))
    volumes = []
    for seed in (0, 1):
        run_inference(mask=path, output_dir=str(tmp_path / f"{seed}"), weights=weights, seed=seed)
        volumes.append(np.asarray(nib.load(tmp_path / f"{seed}" / "case_mr.nii.gz").dataobj))
    assert np.abs(volumes[0] - volumes[1]).max() > 0


def test_metadata_names_keys_and_labels_of_the_config():
    formats = read_config("metadata.json")["network_data_format"]
    assert list(formats["inputs"]) == ["image"]
    assert list(formats["outputs"]) == ["pred"]
    for side in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert list(side["channel_def"]) == [str(i) for i in range(side["num_channels"])]
    assert formats["inputs"]["image"]["num_channels"] == 1 + len(read_config("study.json")["labels"])
    written = formats["post_processed_outputs"]["pred"]
    assert written["value_range"] == read_config("inference.json")["intensity_range"]


def test_masks_of_one_size_are_drawn_together_as_alone(tmp_path, weights):
    for name, roll in (("a", 0), ("c", 1)):
        write_nifti(tmp_path / "masks" / f"{name}.nii.gz", np.roll(two_part_mask(), roll, 0), np.eye(4))
    write_nifti(tmp_path / "masks" / "b.nii.gz", two_part_mask()[:-4], np.eye(4))
    for size in (1, 2):
        run_inference(
            dataset_dir=str(tmp_path / "masks"), weights=weights, output_dir=str(tmp_path / str(size)), batch_size=size
        )
    for name in "abc":
        alone, together = (nib.load(tmp_path / size / f"{name}_mr.nii.gz") for size in "12")
        np.testing.assert_allclose(together.get_fdata(), alone.get_fdata(), atol=1)
        np.testing.assert_array_equal(together.affine, alone.affine)
        records = [json.loads((tmp_path / size / f"{name}_mr.json").read_text()) for size in "12"]
        assert records[0]["seed"] == records[1]["seed"]
