"""``python -m common``: each argument that a config defines has a type that its default has, and a meaning."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from common.bundle import arguments as listed
from tests.fixtures import REPOSITORY

CONFIGS = [path for bundle in listed.bundles(REPOSITORY) for path in listed.configs(bundle) if not path.is_symlink()]
TYPES = {
    "true or false": bool,
    "whole number": int,
    "number": (int, float),
    "numbers": list,
    "texts": list,
    "transforms": list,
    "labels": dict,
    "options": dict,
}


def content_of(path):
    return json.loads(path.read_text())


def is_plain(value):
    """Whether a user may set it: data, not an expression, a reference or an item to be built."""
    if isinstance(value, dict):
        return all(map(is_plain, value.values())) and "_target_" not in value and bool(value)
    if isinstance(value, list):
        return bool(value) and all(map(is_plain, value))
    return not (isinstance(value, str) and value.startswith(("$", "@")))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_every_config_and_plain_key_has_a_line(path):
    assert listed.meaning(path)
    known = {argument.name for argument in listed.arguments(path)}
    items = {"postprocessing", "total_steps", "titles", "imports"}  # set by overlays, not by users
    plain = [key for key, value in content_of(path).items() if is_plain(value) and "#" not in key]
    assert [key for key in plain if key not in known and key not in items] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_defaults_are_of_the_types_that_are_named(path):
    content = content_of(path)
    for argument in listed.arguments(path):
        value = content.get(argument.name)
        if value is not None and not (isinstance(value, str) and value.startswith(("$", "@"))):
            kind = TYPES.get(argument.kind, str)
            assert isinstance(value, kind), argument
            assert kind is bool or not isinstance(value, bool), argument


def test_no_line_is_left_over():
    keys = {key.split("#")[0] for path in CONFIGS for key in content_of(path)}
    said = listed.glossary()
    assert [name for name in (*said["arguments"], *said["nested"]) if name.split("#")[0] not in keys] == []
    assert set(said["configs"]) == {path.name for path in CONFIGS}


def run(*arguments):
    command = [sys.executable, "-m", "common", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_overview_listing_and_mistakes():
    overview = run().stdout
    assert "bundles/med_ddpm_3d" in overview
    assert "python -m common.evaluation" in overview
    listing = run("med_vdm_cxr", "train.json").stdout
    assert "--learning_rate  number, default 0.0008" in listing
    assert "paper.json" not in listing
    assert "inference.json" in run("bundles/dm_leukemia_smear").stdout
    assert "default 1000" in run("dm_leukemia_smear", "inference.json").stdout  # per_class of its study.json
    wrong = run("med_ddpm")
    assert wrong.returncode == 2
    assert "med_ddpm_3d" in wrong.stderr
    assert "train.json" in run("med_ddpm_3d", "trian.json").stderr


@pytest.mark.parametrize("words", [["common", "med_ddpm_3d"], ["common.evaluation", "metrics"]])
def test_a_reader_may_stop_early(words):
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.close()
        assert (listing.stderr.read(), listing.wait()) == (b"", 0)
