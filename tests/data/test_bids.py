"""Generated volumes as a BIDS derivative: names, marks and records, and what the BIDS validator says of it."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from common.data.bids import main, write_bids
from tests.fixtures import write_nifti

RECORD = {"synthetic": True, "bundle": "med_ddpm_3d", "version": "0.1.0", "weights_sha256": "ab" * 32, "seed": 3}
VALIDATOR = shutil.which("bids-validator-deno")


@pytest.fixture
def output(tmp_path):
    """Two generated volumes with their records, a segmentation with none, and a record of something else."""
    folder = tmp_path / "output"
    folder.mkdir()
    for name in ("mask_000_mr", "site/case-1_mr", "label"):
        path = write_nifti(folder / f"{name}.nii.gz", np.ones((4, 5, 6), np.int16), np.eye(4))
        if name != "label":
            (folder / f"{name}.json").write_text(json.dumps({**RECORD, "outputs": {"pred": path.name}}))
    (folder / "metrics.json").write_text("[1]")
    return folder


def test_each_mask_is_a_subject_and_each_volume_says_that_it_is_synthetic(output, tmp_path, capsys):
    (tmp_path / "terms.txt").write_text("CC BY-SA 4.0")
    main([str(output), "--out", str(tmp_path / "bids"), "--licence", str(tmp_path / "terms.txt"), "--skull_stripped"])
    assert "2 volumes in " in capsys.readouterr().out
    root = tmp_path / "bids"
    stem = "sub-mask000/anat/sub-mask000_desc-synthetic_T1w"
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == {
        *("README", "LICENSE", "dataset_description.json", f"{stem}.nii.gz", f"{stem}.json"),
        *(f"{stem}{ending}".replace("mask000", "sitecase1") for ending in (".nii.gz", ".json")),
    }
    assert (root / f"{stem}.nii.gz").read_bytes() == (output / "mask_000_mr.nii.gz").read_bytes()
    sidecar = json.loads((root / f"{stem}.json").read_text())
    assert RECORD.items() <= sidecar.items()
    assert sidecar["SkullStripped"] is True
    about = json.loads((root / "dataset_description.json").read_text())
    assert (about["DatasetType"], about["GeneratedBy"][0]["Name"]) == ("derivative", "med_ddpm_3d")
    assert (root / "LICENSE").read_text() == "CC BY-SA 4.0"


@pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")
def test_the_bids_validator_finds_no_error(output, tmp_path):
    write_bids(output, tmp_path / "bids")
    command = [str(VALIDATOR), "--json", str(tmp_path / "bids")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, timeout=300).stdout)
    issues = found["issues"]["issues"]
    assert {issue["code"] for issue in issues if issue["severity"] == "error"} == set()


def test_labels_that_would_be_alike_are_refused(output, tmp_path):
    (output / "site" / "case_1_mr.json").write_text(json.dumps({**RECORD, "outputs": {"pred": "case_1_mr.nii.gz"}}))
    (output / "site" / "case_1_mr.nii.gz").touch()
    with pytest.raises(ValueError, match=r"case-1_mr\.nii\.gz and .*case_1_mr\.nii\.gz would both be sub-sitecase1"):
        write_bids(output, tmp_path / "bids")
    assert not (tmp_path / "bids").exists()


def test_names_without_a_postfix_and_records_of_others(output, tmp_path):
    for number in range(2):
        name = f"head_{number:03d}"
        (output / f"{name}.json").write_text(json.dumps({**RECORD, "outputs": {"pred": f"{name}.nii.gz"}}))
        (output / f"{name}.nii.gz").touch()
    (output / "elsewhere.json").write_text(json.dumps({**RECORD, "outputs": {"pred": "../secret.nii.gz"}}))
    (output.parent / "secret.nii.gz").touch()
    (output / "broken.json").write_text("{")
    written = {path.name.split("_")[0] for path in write_bids(output, output / "bids")}
    assert {"sub-head000", "sub-head001"} <= written
    assert not any("secret" in name or "elsewhere" in name for name in written)
    assert len(write_bids(output, output / "bids")) == len(written), "what it wrote is no source"
