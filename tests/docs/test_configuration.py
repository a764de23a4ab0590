"""What docs/reference/configuration.md names is in the configs."""

from __future__ import annotations

import re

import pytest
from monai.bundle import ConfigParser

from tests.fixtures import REPOSITORY

BUNDLES = REPOSITORY / "bundles"
TEXT = (REPOSITORY / "docs" / "reference" / "configuration.md").read_text()
SECTIONS = {
    name: section
    for heading, section in re.findall(r"^# ((?:med|dm)_.*?)\n(.*?)(?=^# |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    for name in heading.split(", ")
}


def configs(bundle):
    files = (BUNDLES / bundle / "configs").glob("*.json")
    return {path.name: ConfigParser.load_config_file(path) for path in files}


def test_every_bundle_has_a_section():
    assert set(SECTIONS) == {path.name for path in BUNDLES.iterdir() if path.is_dir()}


@pytest.mark.parametrize("bundle", SECTIONS)
def test_keys_and_overlays_are_there(bundle):
    family = [name for name in SECTIONS if SECTIONS[name] == SECTIONS[bundle]]
    given = [pair for name in family for pair in configs(name).items()]
    known = {key.split("#")[0] for _, content in given for key in content} | {file for file, _ in given}
    tables, _, _ = SECTIONS[bundle].partition("## Network switches")
    first_cells = re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE)
    named = [name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(named) > 10
    assert [name for name in named if name.split("#")[0] not in known] == []
