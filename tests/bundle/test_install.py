"""``pip install .``: every room with its data, under the name conditional_diffusion, usable from an empty folder."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.fixtures import REPOSITORY

_USE = "import conditional_diffusion.networks.unet, sys; sys.exit('common' in sys.modules)"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The folder of an installation without its dependencies, which the environment has."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-metrics.txt"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "common", source / "common", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-compile"]
    subprocess.run([*command, "--target", target, source], check=True)
    return target


def test_every_file_of_common_is_installed(installed):
    wanted = {path.relative_to(REPOSITORY / "common") for path in (REPOSITORY / "common").rglob("*.*")}
    wanted = {path for path in wanted if path.suffix != ".pyc"}
    package = installed / "conditional_diffusion"
    assert {path.relative_to(package) for path in package.rglob("*.*")} == wanted
    assert not (installed / "common").exists()


def test_it_is_imported_from_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    subprocess.run([sys.executable, "-c", _USE], cwd=tmp_path, env=environment, check=True)


def test_the_requirements_are_those_of_the_files(installed):
    (metadata,) = importlib.metadata.distributions(name="conditional-diffusion-bundles", path=[str(installed)])
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == {r for r in metadata.requires if "extra" not in r}
    assert metadata.metadata.get_all("Provides-Extra") == ["dicom", "metrics", "runtimes"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert metadata.version == project["version"]
