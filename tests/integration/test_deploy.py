"""MONAI Deploy App SDK 4.0.0: a study of DICOM becomes the DICOM that ``monai.bundle run`` writes."""

from __future__ import annotations

import subprocess

import monai.bundle
import numpy as np
import pytest

from common.data.image_file import read_record
from common.data.reader import read_image
from tests.bundles.restoration_runs import grey, write_dicom
from tests.data.test_dicom_volumes import lopsided_mask, segmentation
from tests.fixtures import REPOSITORY, oblique_affine
from tests.integration.environments import environment_of, python_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]


APP = REPOSITORY / "docs" / "examples" / "deploy" / "app.py"
DENOISE, MASKS = "med_cdiff_xray_denoise", "med_ddpm_3d"


def study_of(bundle, folder):
    folder.mkdir()
    if bundle == MASKS:
        segmentation(folder / "mask.dcm", lopsided_mask(), oblique_affine())
    else:
        for number in range(2):
            write_dicom(folder / f"{number}.dcm", grey((40, 48), seed=number).astype(np.uint16) * 16)
    return folder


def application(bundle, study, out, app=APP):
    """Run ``app``; its status and what it said."""
    python = python_of("deploy")
    environment = {**environment_of(python), "BUNDLE_PATH": str(REPOSITORY / "bundles" / bundle)}
    command = [python, app, "--input", study, "--output", out]
    run = subprocess.run(command, env=environment, check=False, timeout=1800, cwd=out.parent, capture_output=True)
    return run.returncode, (run.stdout + run.stderr).decode()


def command(bundle, study, out, **settings):
    """Run the bundle in this process."""
    config = str(REPOSITORY / "bundles" / bundle / "configs" / "inference.json")
    monai.bundle.run(config_file=config, logging_file=False, dataset_dir=str(study), output_dir=str(out), **settings)


@pytest.mark.parametrize(("bundle", "settings"), [(DENOISE, {}), (MASKS, {"output_format": "dicom"})])
def test_an_application_writes_what_the_command_writes(tmp_path, bundle, settings):
    study = study_of(bundle, tmp_path / "study")
    status, said = application(bundle, study, tmp_path / "app")
    assert status == 0, said
    command(bundle, study, tmp_path / "run", **settings)
    records = sorted(path.name for path in (tmp_path / "run").glob("*.json"))
    assert len(records) == len(list(study.iterdir()))
    for name in records:
        found, wanted = (read_record(tmp_path / place / name) for place in ("app", "run"))
        assert found == wanted
        images = [read_image(tmp_path / place / found["outputs"]["pred"]) for place in ("app", "run")]
        np.testing.assert_array_equal(images[0].values, images[1].values)
        np.testing.assert_allclose(images[0].affine, images[1].affine, atol=1e-4)


def with_settings(folder, **settings):
    """A copy of the application whose X-ray bundle has these settings."""
    text, plain = APP.read_text(), f'"{DENOISE}": {{}}'
    assert plain in text
    app = folder / "app.py"
    app.write_text(text.replace(plain, f'"{DENOISE}": {settings}'))
    return app


def test_an_application_runs_on_the_runtime_of_its_settings(tmp_path):
    study = study_of(DENOISE, tmp_path / "study")
    app = with_settings(tmp_path, runtime="onnxruntime", export_dir=str(tmp_path / "exported"))
    status, said = application(DENOISE, study, tmp_path / "app", app)
    assert status == 0, said
    command(DENOISE, study, tmp_path / "run", precision="fp32")
    for name in ("0_denoised", "1_denoised"):
        record = read_record(tmp_path / "app" / f"{name}.json")
        assert record["runtime"] == "onnxruntime"
        assert record["ran_on"]["runtime"].startswith("onnxruntime 1")
        images = [read_image(tmp_path / place / record["outputs"]["pred"]).values for place in ("app", "run")]
        assert np.abs(images[0] - images[1]).max() <= 0.01 * np.ptp(images[1])


def test_an_application_refuses_before_it_writes(tmp_path):
    study = study_of(DENOISE, tmp_path / "study")
    (study / "bad.dcm").write_bytes(b"no image")
    wrong = with_settings(tmp_path, runtime="abacus")
    for app, refusal in ((wrong, "runtime must be one of"), (APP, "bad.dcm")):
        status, said = application(DENOISE, study, tmp_path / "app", app)
        assert status != 0
        assert refusal in said
        assert not list((tmp_path / "app").glob("*.dcm"))
