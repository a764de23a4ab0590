"""The packaged bundle: what belongs to it, without links, caches and strangers, and the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile

import pytest
import torch
from monai.bundle import download

from common.bundle.package import _page, bundle_files, main, package_bundle
from common.bundle.release import release
from tests.fixtures import BUNDLE, REPOSITORY

BUNDLES = sorted(path for path in (REPOSITORY / "bundles").iterdir() if (path / "configs").is_dir())


@pytest.fixture
def bundle(tmp_path):
    """A copy of a bundle beside a copy of ``common`` and of the configs that it links to, without weights."""
    root = tmp_path / "bundles" / BUNDLE.name
    ignored = shutil.ignore_patterns("*.pt", "output", "train_output", "__pycache__")
    shutil.copytree(BUNDLE, root, symlinks=True, ignore=ignored)
    for folder in {path.resolve().parent for path in (BUNDLE / "configs").iterdir() if path.is_symlink()}:
        shutil.copytree(folder, tmp_path / folder.relative_to(REPOSITORY.resolve()))
    shutil.copytree(REPOSITORY / "common", tmp_path / "common", ignore=ignored)
    return root


def packed(bundle, out):
    """Names and contents of the zip, without its base folder."""
    with zipfile.ZipFile(package_bundle(bundle, out)) as archive:
        assert all(name.startswith(f"{bundle.name}/") for name in archive.namelist())
        assert not [entry for entry in archive.infolist() if entry.external_attr >> 16 & 0o170000 == 0o120000]
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def test_the_zip_holds_the_bundle_with_its_code_and_nothing_else(bundle, tmp_path):
    before = packed(bundle, tmp_path / "before")
    expected = {
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.json",
        "docs/README.md",
        "models/shape_model.npz",
    }
    assert {*expected, "sample_data/mask_000.nii.gz", "scripts/networks/unet.py"} <= set(before)
    strangers = ["output/a.png", "synthetic_strict/a.png", "notes.md", "models/.12.model.pt", "models/passwords.txt"]
    strangers += ["scripts/__pycache__/unet.cpython-311.pyc", "configs/inference.json.orig", "docs/.hidden.md"]
    for name in strangers:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(b"")
    assert packed(bundle, tmp_path / "after") == before


@pytest.mark.parametrize("root", BUNDLES, ids=lambda path: path.name)
def test_the_files_of_the_repository_belong_and_the_links_of_pages_lead_to_them(root):
    files = bundle_files(root)
    names = {path.as_posix() for path in files}
    listed = subprocess.run(["git", "ls-files", "."], cwd=root, capture_output=True, text=True)
    assert set(listed.stdout.split()) - {"scripts"} <= names
    for page in (path for path in files if path.suffix == ".md"):
        text = _page((root / page).read_text(), page, root, files)
        assert not re.search(rf"python -m common|from common|[^`]bundles/{root.name}", text)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            assert "://" in target or os.path.normpath(page.parent / target) in names, f"{page} links to {target}"


def test_pages_name_their_own_code_and_the_pages_of_the_project(bundle, tmp_path):
    page = (
        "`python -m common.bundle.package --bundle bundles/med_ddpm_3d`, in common use, see\n"
        "[how](../../../docs/how-to/evaluate.md#choose), [licence](../LICENSE), [below](#limits), [MONAI](https://monai.io)"
    )
    (bundle / "docs" / "README.md").write_text(page)
    assert packed(bundle, tmp_path)["docs/README.md"].decode() == (
        "`python -m scripts.bundle.package --bundle .`, in common use, see\n"
        "how (`docs/how-to/evaluate.md` of the project), [licence](../LICENSE), [below](#limits), [MONAI](https://monai.io)"
    )


def test_links_to_the_code_and_to_shared_configs_are_followed_and_no_others(bundle, tmp_path):
    other = bundle.parent / "other" / "configs" / "shared.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    (bundle / "configs" / "shared.json").symlink_to("../../other/configs/shared.json")
    assert packed(bundle, tmp_path / "a")["configs/shared.json"] == b"{}"
    secret = tmp_path / "secret.pt"
    secret.write_bytes(b"secret")
    (bundle / "models" / "model.pt").symlink_to(secret)
    with pytest.raises(ValueError, match=r"models/model\.pt is a link to .*secret\.pt"):
        package_bundle(bundle, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    (bundle / "models" / "model.pt").unlink()
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "patients.json").write_text("{}")
    (bundle / "configs" / "more").symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match=r"configs/more/patients\.json is a link"):
        package_bundle(bundle, tmp_path / "b")


def test_the_same_files_give_the_same_bytes(bundle, tmp_path, capsys):
    first = package_bundle(bundle, tmp_path / "a").read_bytes()
    os.utime(bundle / "LICENSE", (1, 1))
    main(["--bundle", str(bundle), "--out", str(tmp_path / "b")])
    assert (tmp_path / "b" / "med_ddpm_3d.zip").read_bytes() == first
    assert "sha256 " in capsys.readouterr().out


def test_a_release_has_the_names_and_the_index_of_the_model_zoo(bundle, tmp_path):
    out = tmp_path / "dist"
    out.mkdir()
    (out / "model_info.json").write_text('{"old_v1.0.0": {"checksum": "1", "source": "old_v1.0.0.zip"}}')
    index = json.loads(release([bundle], out, "https://zoo.example/files/").read_text())
    version = json.loads((bundle / "configs" / "metadata.json").read_text())["version"]
    name = f"med_ddpm_3d_v{version}"
    assert {path.name for path in out.iterdir()} == {f"{name}.zip", "model_info.json"}
    assert set(index) == {"old_v1.0.0", name}
    assert index[name]["source"] == f"https://zoo.example/files/{name}.zip"
    content = (out / f"{name}.zip").read_bytes()
    assert index[name]["checksum"] == hashlib.sha1(content).hexdigest()
    assert index[name]["sha256"] == hashlib.sha256(content).hexdigest()
    download(name="med_ddpm_3d", url=(out / f"{name}.zip").as_uri(), bundle_dir=str(tmp_path / "got"), progress=False)
    assert (tmp_path / "got" / "med_ddpm_3d" / "scripts" / "networks" / "unet.py").is_file()


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"configs/metadata.json is missing"):
        package_bundle(tmp_path, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_weights_are_small_and_hold_tensors_only():
    for path in sorted((REPOSITORY / "bundles").glob("*/models/*.pt")):
        assert path.stat().st_size <= 25e6, path
        state = torch.load(path, weights_only=True)
        assert all(torch.is_tensor(value) and torch.isfinite(value.float()).all() for value in state.values()), path
