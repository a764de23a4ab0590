"""MONAI Deploy App SDK 4.0.0: a study of DICOM becomes the DICOM that ``monai.bundle run`` writes."""

from __future__ import annotations

import subprocess

import monai.bundle
import numpy as np
import pytest

from common.data.image_file import read_record
from common.data.reader import read_image
from tests.bundles.restoration_runs import grey, write_dicom
from tests.data.test_dicom_volumes import segmentation
from tests.fixtures import REPOSITORY, oblique_affine, two_part_mask
from tests.integration.environments import environment_of, python_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize(
    ("bundle", "settings"), [("med_cdiff_xray_denoise", {}), ("med_ddpm_3d", {"output_format": "dicom"})]
)
def test_an_application_writes_what_the_command_writes(tmp_path, bundle, settings):
    study = tmp_path / "study"
    study.mkdir()
    if bundle == "med_ddpm_3d":
        segmentation(study / "mask.dcm", two_part_mask(), oblique_affine())
    else:
        for number in range(2):
            write_dicom(study / f"{number}.dcm", grey((40, 48), seed=number).astype(np.uint16) * 16)
    python, root = python_of("deploy"), REPOSITORY / "bundles" / bundle
    command = [python, REPOSITORY / "docs" / "examples" / "deploy" / "app.py", "--input", study]
    environment = {**environment_of(python), "BUNDLE_PATH": str(root)}
    subprocess.run([*command, "--output", tmp_path / "app"], env=environment, check=True, timeout=1800, cwd=tmp_path)
    config = str(root / "configs" / "inference.json")
    folders = {"dataset_dir": str(study), "output_dir": str(tmp_path / "run")}
    monai.bundle.run(config_file=config, logging_file=False, **folders, **settings)
    records = sorted(path.name for path in (tmp_path / "run").glob("*.json"))
    assert len(records) == len(list(study.iterdir()))
    for name in records:
        found, wanted = (read_record(tmp_path / place / name) for place in ("app", "run"))
        assert found == wanted
        images = [read_image(tmp_path / place / found["outputs"]["pred"]) for place in ("app", "run")]
        np.testing.assert_array_equal(images[0].values, images[1].values)
        np.testing.assert_allclose(images[0].affine, images[1].affine, atol=1e-4)
