"""A bundle knows its folder, also for those who ask the workflow's parser themselves."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigWorkflow

from tests.fixtures import REPOSITORY

FOLDERS = sorted(path for path in (REPOSITORY / "bundles").iterdir() if (path / "configs").is_dir())


@pytest.mark.parametrize("config", ["train", "inference"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_after_initialize_the_parser_needs_no_workflow_to_find_the_bundle(folder, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ConfigWorkflow([str(folder / "configs" / f"{config}.json")], workflow_type="train", logging_file=False)
    run.initialize()
    assert run.parser.get_parsed_content("bundle_root") == str(folder)
