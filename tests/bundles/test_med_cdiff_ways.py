"""The ways of running the Med-cDiff bundles: repository, bundle, anywhere, the packaged zip, and Python."""

from __future__ import annotations

import json
import shutil
import zipfile

import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.bundle.configs import open_bundle
from common.bundle.package import package_bundle
from common.utils.files import sha256_of
from tests.bundles.inference_runs import TINY_NETWORK
from tests.bundles.restoration_runs import BUNDLES, DENOISE, INPAINT, SUPERRES, folder_of, pixels, tiny_state
from tests.bundles.ways import run_everywhere

CONFIG = "configs/inference.json"
BASELINE = "regression.json"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository's runtime part whose networks are tiny, with their weights in place."""
    top = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("__pycache__", "*.pt", "output", "train_output")
    shutil.copytree(folder_of(DENOISE).parents[1] / "common", top / "common", ignore=ignored)
    shared = ("med_ddpm_3d", "configs")  # where links of the others lead
    shutil.copytree(folder_of(shared[0]) / shared[1], top.joinpath("bundles", *shared))
    for name in BUNDLES:
        bundle = top / "bundles" / name
        shutil.copytree(folder_of(name), bundle, symlinks=True, ignore=ignored)
        config = ConfigParser.load_config_file(bundle / CONFIG)
        config["network_def"].update(TINY_NETWORK)
        config["num_inference_steps"] = 2
        (bundle / CONFIG).write_text(json.dumps(config))
        (bundle / "models").mkdir(exist_ok=True)
        torch.save(tiny_state(name), bundle / "models" / "model.pt")
        torch.save(tiny_state(name, BASELINE), bundle / "models" / "regression.pt")
    return top


def assert_restored(out, bundle):
    stem = f"phantom_{BUNDLES[bundle.name]}"
    assert sorted(path.name for path in out.iterdir()) == [f"{stem}.json", f"{stem}.png"]
    record = json.loads((out / f"{stem}.json").read_text())
    weights = "model.pt" if record["step_rule"] == "DPMSolverPP2M" else "regression.pt"
    assert record["weights_sha256"] == sha256_of(bundle / "models" / weights)
    before, after = pixels(bundle / "sample_data" / "phantom.png"), pixels(out / f"{stem}.png")
    assert after.shape == before.shape == (128, 128)
    if bundle.name == INPAINT:
        known = pixels(bundle / "sample_data" / "holes" / "phantom.png") == 0
        np.testing.assert_array_equal(after[known], before[known])


@pytest.mark.slow
def test_one_command_works_from_everywhere_and_from_the_zip(repository, tmp_path):
    bundles = repository / "bundles"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(package_bundle(bundles / INPAINT, tmp_path / "dist")).extractall(tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked" / INPAINT
    assert not (unpacked / "scripts").is_symlink()
    ways = {
        "repository": (repository, f"bundles/{SUPERRES}/{CONFIG}", bundles / SUPERRES),
        "bundle": (bundles / DENOISE, CONFIG, bundles / DENOISE),
        "the zip, from elsewhere": (elsewhere, unpacked / CONFIG, unpacked),
    }
    overlaid = {
        f"{name}, baseline": (folder, f"['{config}','{str(config).replace('inference.json', BASELINE)}']", bundle)
        for name, (folder, config, bundle) in ways.items()
    }
    run_everywhere({**ways, **overlaid}, tmp_path / "out", assert_restored)
    assert not list(elsewhere.iterdir()), "nothing is written to the working folder"


@pytest.mark.parametrize("name", BUNDLES)
def test_python_runs_and_opens_a_baseline(repository, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    bundle = repository / "bundles" / name
    files = [str(bundle / "configs" / file) for file in ("inference.json", BASELINE)]
    output = {"output_dir": str(tmp_path / "out")}
    workflow = monai.bundle.create_workflow(config_file=files, workflow_type="inference", logging_file=False, **output)
    assert workflow.check_properties() == []
    workflow.run()
    assert_restored(tmp_path / "out", bundle)
    opened = open_bundle(bundle, "inference.json", BASELINE)
    hole = {"hole": torch.zeros(1, 16, 16).index_fill(1, torch.tensor([4, 5]), 1.0)} if name == INPAINT else {}
    image = torch.rand(1, 16, 16)
    assert opened.generate(image, **hole).shape == image.shape


@pytest.mark.parametrize("name", BUNDLES)
def test_python_runs_and_loads_it(repository, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    bundle = repository / "bundles" / name
    overrides = {"output_dir": str(tmp_path / "out"), "sampler#progress": False}
    workflow = monai.bundle.create_workflow(
        config_file=str(bundle / CONFIG), workflow_type="inference", logging_file=False, **overrides
    )
    assert workflow.check_properties() == []
    workflow.run()
    assert_restored(tmp_path / "out", bundle)
    network = monai.bundle.load(name, bundle_dir=str(bundle.parent), workflow_type="inference")
    assert all(torch.equal(value, tiny_state(name)[key]) for key, value in network.state_dict().items())
