"""
The model zoo's own check of every bundle, complete: none is on its lists of bundles that are excused.

It is no part of a package: clone Project-MONAI/model-zoo, name the folder, and have the metadata schema at hand::

    MODEL_ZOO_REPOSITORY=model-zoo python -m pytest tests/contracts -m exhaustive
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.bundle.configs import item_parser
from common.bundle.package import package_bundle
from tests.fixtures import REPOSITORY

ZOO = Path(os.environ.get("MODEL_ZOO_REPOSITORY", "."))
SCHEMA = REPOSITORY.parent / "shared" / "schema" / "meta_schema_20240725.json"
BUNDLES = sorted(path for path in (REPOSITORY / "bundles").iterdir() if (path / "configs").is_dir())
VERIFIED = ("directory is", "version and changelog are", "metadata format is", "properties are", "data shape is")
PASSED = [*(f"{what} verified correctly." for what in VERIFIED), "export weights into TorchScript module successfully."]


@pytest.mark.exhaustive
@pytest.mark.skipif(not (ZOO / "ci" / "verify_bundle.py").is_file(), reason="MODEL_ZOO_REPOSITORY names no clone of it")
@pytest.mark.skipif(not SCHEMA.is_file(), reason="the metadata schema is not at hand")
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_zoos_own_check_passes(tmp_path, bundle):
    shutil.copytree(ZOO / "ci", tmp_path / "ci")
    folder = tmp_path / "models" / bundle.name
    shutil.unpack_archive(package_bundle(bundle, tmp_path), folder.parent)
    (folder.parent / "model_info.json").write_text("{}")
    (folder / "eval").mkdir()
    shutil.copy(SCHEMA, folder / "eval" / "schema.json")
    weights = folder / "models" / "model.pt"
    if not weights.is_file():  # none is shipped: everything else is checked with random ones
        assert said_by(tmp_path, bundle.name, 1).endswith("ValueError: necessary file models/model.pt is not existing.")
        weights.parent.mkdir(exist_ok=True)
        parser, network = item_parser("inference.json::network_def", {"bundle_root": str(bundle)})
        torch.save(parser.get_parsed_content(network).state_dict(), weights)
    said = said_by(tmp_path, bundle.name, 0)
    assert [line for line in PASSED if line not in said.splitlines()] == []


def said_by(folder, name, status):
    """What the check prints for a bundle; it has to end with ``status``."""
    command = [sys.executable, "-W", "ignore", "ci/verify_bundle.py", "-b", name, "-p", "models"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stdout + run.stderr
    return (run.stdout + run.stderr).strip()
