"""Bundles opened from Python: what they generate in memory is what the command line writes to files."""

from __future__ import annotations

import os
import zipfile

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor

from common.bundle import open_bundle, package_bundle
from tests import forks
from tests.bundle.test_install import installed  # noqa: F401
from tests.bundles import generate_runs, vdm_runs
from tests.bundles.inference_runs import TINY
from tests.bundles.restoration_runs import BUNDLES as RESTORATIONS
from tests.bundles.restoration_runs import DENOISE, INPAINT, SUPERRES, grey, pixels, write_picture
from tests.fixtures import BUNDLE, REPOSITORY, network_arguments, oblique_affine, two_part_mask, write_nifti

GENERATED = {"dm_brain_tumor_mri": generate_runs.TINY, "med_vdm_cxr": vdm_runs.DENSE}
SETTINGS = {
    **{name: {**TINY, "sampler#progress": False} for name in RESTORATIONS},
    **{name: {**network_arguments(tiny), "spatial_size": [16, 16]} for name, tiny in GENERATED.items()},
    BUNDLE.name: {**TINY, "inferer#progress": False},
}
VOLUME = two_part_mask()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A tiny network and its weights, which predict more than 0, for each kind of bundle."""
    folder, ready = tmp_path_factory.mktemp("weights"), {}
    for name, tiny in SETTINGS.items():
        given = {**tiny, "num_inference_steps": 2, "device": "cpu"}
        torch.manual_seed(0)
        state = workflow(name, given).network_def.state_dict()
        state = {key: v + 0.02 * torch.randn_like(v) if v.is_floating_point() else v for key, v in state.items()}
        torch.save(state, folder / f"{name}.pt")
        ready[name] = {**given, "weights": str(folder / f"{name}.pt")}
    return ready


def workflow(name, given):
    files = [str(REPOSITORY / "bundles" / name / "configs" / "inference.json")]
    run = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **given)
    run.initialize()
    return run


def to_files(name, given, folder, **more):
    workflow(name, {**given, **more, "output_dir": str(folder)}).run()
    return folder


def opened(name, given):
    return open_bundle(REPOSITORY / "bundles" / name, **given)


def test_a_volume_is_that_of_the_file(settings, tmp_path, monkeypatch):
    given = settings[BUNDLE.name]
    file = write_nifti(tmp_path / "mask.nii.gz", VOLUME)
    written = nib.load(to_files(BUNDLE.name, given, tmp_path / "out", mask=str(file)) / "mask_mr.nii.gz")
    bundle = opened(BUNDLE.name, given)
    monkeypatch.chdir(tmp_path / "out")
    before = sorted(os.listdir())
    volume = bundle.generate(MetaTensor(VOLUME[None], affine=nib.load(file).affine))
    assert volume.shape == (1, *VOLUME.shape)
    np.testing.assert_array_equal(volume[0].round().numpy(), np.asanyarray(written.dataobj))
    np.testing.assert_array_equal(volume.affine.numpy(), nib.load(file).affine)
    assert sorted(os.listdir()) == before
    other = bundle.generate(MetaTensor(VOLUME[None], affine=oblique_affine()), seed=1)
    assert not torch.equal(volume, other)


def test_a_plain_array_lies_in_voxels_of_one_millimetre(settings):
    bundle = opened(BUNDLE.name, settings[BUNDLE.name])
    volume = bundle.generate(VOLUME[None])
    same = bundle.generate(torch.from_numpy(VOLUME)[None])
    assert torch.equal(volume.affine, torch.eye(4).double())
    assert torch.equal(volume, same)
    assert 0 <= float(volume.min()) < float(volume.max()) <= 1000


@pytest.mark.parametrize("name", RESTORATIONS)
def test_a_picture_and_a_volume_are_those_of_the_files(settings, tmp_path, name):
    picture, stack = grey((30, 44)), grey((20, 24, 3), np.float32).astype(np.float32) / 7
    hole = np.zeros((30, 44), np.uint8)
    hole[10:20, 5:25] = 255
    write_picture(tmp_path / "in" / "a.png", picture)
    write_picture(tmp_path / "holes" / "a.png", hole)
    write_nifti(tmp_path / "in" / "b.nii.gz", stack)
    write_nifti(tmp_path / "holes" / "b.nii.gz", np.broadcast_to(hole[:20, :24, None], stack.shape).copy())
    more = {"dataset_dir": str(tmp_path / "in"), **({"hole": str(tmp_path / "holes")} if name == INPAINT else {})}
    out = to_files(name, settings[name], tmp_path / "out", **more)
    bundle = opened(name, settings[name])
    assert bundle.inputs == (("image", "hole") if name == INPAINT else ("image",))
    holes = (
        {"hole": hole.T[None]},
        {"hole": MetaTensor(hole[:20, :24, None].repeat(3, -1)[None], affine=oblique_affine())},
    )
    one, two = ({}, {}) if name != INPAINT else holes
    restored = bundle.generate(picture.T[None], **one)
    stored = pixels(out / f"a_{RESTORATIONS[name]}.png")
    np.testing.assert_array_equal(np.clip(np.rint(restored[0].numpy().T), 0, 255), stored)
    volume = bundle.generate(MetaTensor(stack[None], affine=oblique_affine()), **two)
    written = nib.load(out / f"b_{RESTORATIONS[name]}.nii.gz")
    np.testing.assert_array_equal(volume[0].float().numpy(), np.asanyarray(written.dataobj))
    np.testing.assert_allclose(volume.affine.numpy(), written.affine, atol=1e-6)


def test_several_samples_come_with_their_mean_and_deviation(settings):
    bundle = opened(DENOISE, settings[DENOISE])
    (case,) = bundle.run([{"image": grey()[None]}], num_samples=3)
    assert case["pred"].shape == case["mean"].shape == case["std"].shape
    assert float(case["std"].max()) > 0
    assert torch.equal(case["pred"], bundle.generate(grey()[None])[..., None])


@pytest.mark.parametrize("name", GENERATED)
def test_images_from_noise_are_those_of_the_files(settings, tmp_path, name):
    given = {**settings[name], "batch_size": 3}
    out = to_files(name, given, tmp_path / "out", num_samples=4, seed=5)
    images = opened(name, given).generate(count=4, seed=5)
    files = sorted(path for path in out.rglob("*_0*.png"))
    stored = np.stack([pixels(path) for path in files])
    drawn = images[:, 0].transpose(1, 2) if name == "med_vdm_cxr" else images[:, 0]
    np.testing.assert_array_equal(np.rint(255 * drawn.numpy()), stored)


def test_one_class_can_be_drawn(settings):
    bundle = opened("dm_brain_tumor_mri", settings["dm_brain_tumor_mri"])
    every, one = bundle.generate(count=2), bundle.generate(count=2, class_name="meningioma")
    assert every.shape == (8, 1, 16, 16)
    assert torch.equal(every[2:4], one)


def test_what_cannot_be_meant_is_said(settings, tmp_path):
    restoring, drawing = opened(INPAINT, settings[INPAINT]), opened("med_vdm_cxr", settings["med_vdm_cxr"])
    with pytest.raises(ValueError, match="hole is missing"):
        restoring.generate(grey()[None])
    with pytest.raises(ValueError, match=r"image: \(1, X, Y, Z\) or \(1, X, Y\) was expected, got \(30, 44\)"):
        restoring.generate(grey(), hole=grey()[None])
    with pytest.raises(ValueError, match="generates from image and hole"):
        restoring.generate(grey()[None], hole=grey()[None], count=2)
    with pytest.raises(ValueError, match="from noise alone"):
        drawing.generate(grey()[None])
    with pytest.raises(KeyError, match="'num_inference_step'; is it 'num_inference_steps'"):
        drawing.generate(count=1, num_inference_step=3)
    with pytest.raises(KeyError, match="no setting 'sed'; is it 'seed'"):
        open_bundle(BUNDLE, sed=3)
    with pytest.raises(ValueError, match="weights and network_def#precision: open_bundle takes that"):
        drawing.generate(count=1, **{"weights": "other.pt", "network_def#precision": "bf16"})
    for wrong in ("mask.nii.gz", nib.Nifti1Image(VOLUME, np.eye(4)), 3):
        with pytest.raises(TypeError, match=r"image: an array or tensor was expected, got .*LoadImage reads"):
            restoring.generate(wrong, hole=grey()[None])
    for cases in ({"image": grey()[None]}, [grey()[None]]):
        with pytest.raises(TypeError, match="cases: a list of dictionaries of image and hole was expected"):
            restoring.run(cases)
    with pytest.raises(FileNotFoundError, match=r"No weights at .*none\.pt"):
        open_bundle(BUNDLE, run_dir=tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match=r"No weights at .*none\.pt"):
        open_bundle(BUNDLE, weights=str(tmp_path / "none.pt"))
    with pytest.raises(FileNotFoundError, match=r"is no bundle: it has no configs/inference\.json"):
        open_bundle(tmp_path)
    for config in ("train.json", "paper.json"):
        with pytest.raises(ValueError, match=rf"'{config}': a config to generate with was expected"):
            open_bundle(BUNDLE, config)


_SCRIPT = """
import numpy as np, os, sys
from conditional_diffusion.bundle import open_bundle
picture = (np.arange(30 * 44) % 251).reshape(1, 30, 44)
images = []
for folder in sys.argv[1:3]:
    bundle = open_bundle(folder, num_inference_steps=1, fit="whole")
    images.append(bundle.generate(picture).numpy())
    assert sys.modules["scripts"].__path__[0].startswith(os.path.realpath(folder)), sys.modules["scripts"].__path__
assert images[0].shape == images[1].shape == (1, 30, 44), [image.shape for image in images]
assert "common" not in sys.modules and os.listdir() == []
"""


@pytest.mark.slow
def test_an_installed_package_opens_two_unpacked_zips_from_an_empty_folder(installed, tmp_path):  # noqa: F811
    for name in (DENOISE, SUPERRES):
        zipfile.ZipFile(package_bundle(REPOSITORY / "bundles" / name, tmp_path)).extractall(tmp_path / "unpacked")
    (tmp_path / "empty").mkdir()
    folders = [tmp_path / "unpacked" / name for name in (DENOISE, SUPERRES)]
    run = forks.code(_SCRIPT, folders, tmp_path / "empty", path=[installed])
    assert run.returncode == 0, run.stderr
