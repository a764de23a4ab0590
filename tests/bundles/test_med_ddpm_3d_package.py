"""The packaged bundle: complete, without links and caches, and the same bytes each time."""

from __future__ import annotations

import os
import shutil
import zipfile

import pytest
import torch

from common.bundle.package import main, package_bundle
from tests.fixtures import BUNDLE


@pytest.fixture
def bundle(tmp_path):
    root = tmp_path / "bundles" / BUNDLE.name
    ignored = shutil.ignore_patterns("*.pt", "output", "train_output", "__pycache__")
    shutil.copytree(BUNDLE, root, symlinks=True, ignore=ignored)
    shutil.copytree(BUNDLE.parents[1] / "common", tmp_path / "common", ignore=ignored)
    return root


def test_the_zip_holds_the_bundle_with_its_code(bundle, tmp_path):
    for folder in ("output", "synthetic_budget", "classify_by_group", "train_output"):
        (bundle / folder).mkdir()
        (bundle / folder / "left_from_a_run.png").write_bytes(b"")
    (bundle.parents[1] / "common" / "__pycache__").mkdir()
    (bundle.parents[1] / "common" / "__pycache__" / "unet.pyc").write_bytes(b"")
    archive = zipfile.ZipFile(package_bundle(bundle, tmp_path / "dist"))
    names = archive.namelist()
    assert all(name.startswith("med_ddpm_3d/") for name in names)
    expected = ("LICENSE", "configs/metadata.json", "configs/inference.json", "scripts/data/datalist.py")
    assert {f"med_ddpm_3d/{name}" for name in expected} <= set(names)
    assert "scripts/networks/unet.py" in " ".join(names)
    assert not [name for name in names if "left_from_a_run" in name or "pyc" in name]
    assert not [entry for entry in archive.infolist() if entry.external_attr >> 16 & 0o170000 == 0o120000]


def test_the_same_files_give_the_same_bytes(bundle, tmp_path, capsys):
    first = package_bundle(bundle, tmp_path / "a").read_bytes()
    os.utime(bundle / "LICENSE", (1, 1))
    main(["--bundle", str(bundle), "--out", str(tmp_path / "b")])
    assert (tmp_path / "b" / "med_ddpm_3d.zip").read_bytes() == first
    assert "sha256 " in capsys.readouterr().out


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"configs/metadata.json is missing"):
        package_bundle(tmp_path, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_weights_are_small_and_hold_tensors_only():
    for path in sorted((BUNDLE / "models").glob("*.pt")):
        assert path.stat().st_size <= 25e6, path
        state = torch.load(path, weights_only=True)
        assert all(torch.is_tensor(value) and torch.isfinite(value.float()).all() for value in state.values()), path
