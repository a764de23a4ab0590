"""The page of a comparison: complete in itself, networks apart, slices upright."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from common.evaluation.catalogue import METRICS
from common.evaluation.folders import ImageFolder
from common.evaluation.page import page, picture, tables
from tests.fixtures import write_nifti


def _content():
    entry = {"value": 0.5, "interval95": [0.25, 0.75], "n": 3, "metric": "fid"}
    return {
        "metrics": {
            "fid[a]": {**entry, "network": {"name": "a"}},
            "fid[b]": {**entry, "network": {"name": "b"}},
            "mmd[rbf]": {**entry, "metric": "mmd_rbf"},
        },
        "notices": ["files <1> & 2"],
        "context": {
            **{side: {"folder": f"{side}<b>", "n": 3, "sha256": "0"} for side in ("real", "fake")},
            "reading": {"scaling": "percentiles"},
            "networks": [{"name": "a", "sha256": "12"}],
            "paired": False,
        },
        "seconds": 1,
        "versions": {"torch": "2"},
    }


def _folder(path, count=3):
    for number in range(count):
        array = np.random.default_rng(number).normal(size=(10, 12, 8)).astype(np.float32)
        array[:5] += 3  # bright on the left of the patient: the right half of an axial slice
        write_nifti(path / f"v{number}.nii.gz", array, np.diag([1.0, 1.0, 2.0, 1.0]))
    return ImageFolder(path)


def test_the_page_is_complete_in_itself(tmp_path):
    real, fake = _folder(tmp_path / "real"), _folder(tmp_path / "fake")
    text = page(_content(), real, fake)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(addresses) == 6
    for address in addresses:
        assert address.startswith("data:image/png;base64,")
        sheet = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])), formats=["PNG"])
        assert np.asarray(sheet).std() > 10
    assert "://" not in text
    assert "files &lt;1&gt; &amp; 2" in text
    assert "fake&lt;b&gt;" in text
    assert METRICS["mmd_rbf"].definition in text
    assert METRICS["mse"].definition not in text


def test_values_of_two_networks_never_share_a_table():
    titles = {title: [row[0] for row in rows] for title, rows in tables(_content())}
    assert titles == {
        "In the features of a": ["fid[a]"],
        "In the features of b": ["fid[b]"],
        "On pixels": ["mmd[rbf]"],
    }


def test_slices_are_shown_upright_with_the_right_on_the_left(tmp_path):
    folder = _folder(tmp_path, 1)
    data = picture(folder, 0)
    sheet = np.asarray(Image.open(io.BytesIO(data), formats=["PNG"])).astype(float)
    scale = 112 / 16  # the tallest panel is 8 slices of 2 mm
    axial = sheet[:, : round(10 * scale)]
    inside = axial[axial.shape[0] // 2 - 20 : axial.shape[0] // 2 + 20]
    assert inside[:, -20:].mean() > inside[:, :20].mean() + 50
    assert sheet.shape[1] == pytest.approx((10 + 10 + 12) * scale + 8, abs=3)
