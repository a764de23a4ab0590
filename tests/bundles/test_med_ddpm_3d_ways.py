"""The ways of running: from the repository, from the bundle, from anywhere, from Python, and from the packaged zip."""

from __future__ import annotations

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import monai.bundle
import pytest
from monai.bundle import ConfigParser

from common.bundle.package import package_bundle
from common.utils.files import sha256_of
from tests.bundles.inference_runs import TINY_NETWORK, save_tiny_weights
from tests.bundles.ways import run_everywhere, start
from tests.fixtures import BUNDLE, two_part_mask, write_nifti

CONFIG = "configs/inference.json"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository's runtime part whose network is tiny, with its weights and a mask in their places."""
    top = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("__pycache__", "*.pt", "output", "train_output", "*.nii.gz")
    shutil.copytree(BUNDLE.parents[1] / "common", top / "common", ignore=ignored)
    bundle = top / "bundles" / "med_ddpm_3d"
    shutil.copytree(BUNDLE, bundle, symlinks=True, ignore=ignored)
    linked = ("med_cdiff_xray_denoise", "configs")  # where one of its links leads
    shutil.copytree(BUNDLE.parent.joinpath(*linked), top.joinpath("bundles", *linked), symlinks=True)
    config = ConfigParser.load_config_file(BUNDLE / CONFIG)
    config["network_def"].update(TINY_NETWORK)
    config["num_inference_steps"] = 2
    (bundle / CONFIG).write_text(json.dumps(config))
    save_tiny_weights(bundle / "models" / "model.pt")
    masks = config["dataset_dir"].rsplit("/", 1)[1].rstrip("'")
    write_nifti(bundle / masks / "mask_000.nii.gz", two_part_mask())
    return top


@pytest.fixture(scope="module")
def downloaded(repository, tmp_path_factory):
    """The zip of that bundle, fetched by ``monai.bundle download`` into an empty folder."""
    served, folder = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("empty")
    package_bundle(repository / "bundles" / "med_ddpm_3d", served)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/med_ddpm_3d.zip"
    try:
        arguments = ["download", "--name", "med_ddpm_3d", "--url", url, "--bundle_dir", str(folder)]
        done = start(arguments, folder).wait()
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "med_ddpm_3d"


def assert_generated(out, bundle):
    record = json.loads((out / "mask_000_mr.json").read_text())
    assert record["weights_sha256"] == sha256_of(bundle / "models" / "model.pt")
    assert sorted(p.name for p in out.iterdir()) == [
        "mask_000_mr.json",
        "mask_000_mr.nii.gz",
        "mask_000_mr_preview.png",
    ]


@pytest.mark.slow
def test_one_command_works_from_everywhere_and_from_the_zip(repository, downloaded, tmp_path):
    bundle = repository / "bundles" / "med_ddpm_3d"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ways = {
        "repository": (repository, f"bundles/med_ddpm_3d/{CONFIG}", bundle),
        "bundle": (bundle, CONFIG, bundle),
        "elsewhere": (elsewhere, bundle / CONFIG, bundle),
        "zip": (elsewhere, downloaded / CONFIG, downloaded),
    }
    run_everywhere(ways, tmp_path / "out", assert_generated)
    assert not list(elsewhere.iterdir()), "nothing is written to the working folder"


def test_the_zip_holds_no_link_to_this_repository(downloaded):
    assert not (downloaded / "scripts").is_symlink()
    assert (downloaded / "scripts" / "networks" / "unet.py").is_file()


def test_create_workflow_runs_from_python(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = repository / "bundles" / "med_ddpm_3d"
    overrides = {"output_dir": str(tmp_path / "out"), "inferer#progress": False}
    workflow = monai.bundle.create_workflow(
        config_file=str(bundle / CONFIG), workflow_type="inference", logging_file=False, **overrides
    )
    assert workflow.check_properties() == []
    assert workflow.bundle_root == str(bundle.resolve())
    workflow.run()
    assert_generated(tmp_path / "out", bundle)


def test_load_returns_the_network_with_its_weights(repository, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    bundle = repository / "bundles" / "med_ddpm_3d"
    network = monai.bundle.load("med_ddpm_3d", bundle_dir=str(bundle.parent), workflow_type="inference")
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in weights.items()}
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
