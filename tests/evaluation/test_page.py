"""The page of a comparison: complete in itself, networks apart, slices upright."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from common.evaluation.entries import METRICS
from common.evaluation.folders import ImageFolder
from common.evaluation.page import page, picture, tables
from common.evaluation.verdict import sentences
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
    assert len(addresses) == 7, "three images a set, and the histogram"
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


def test_the_page_opens_with_words_and_shows_plots_and_extremes(tmp_path):
    real, fake = _folder(tmp_path / "real", 6), _folder(tmp_path / "fake", 6)
    content = _content()
    content["metrics"]["kid[a]"] = {"value": 0.2, "interval95": [0.1, 0.3], "n": 6, "metric": "kid"}
    vectors = torch.arange(12.0).reshape(6, 2)
    far = vectors.clone()
    far[2] += 100
    text = page(content, real, fake, features={"a": (far, vectors)})
    assert text.index("In words") < text.index("On pixels")
    assert "its interval leaves out 0" in text
    assert text.count('class="plot"') == 2
    best, worst = text.split("<h3>Nearest</h3>")[1].split("<h3>Farthest</h3>")
    assert re.findall(r"<figcaption>(v\d): ", worst)[0] == "v2"
    assert "real, v5" in worst
    assert "v2: " not in best
    paired = {"value": 1.0, "interval95": None, "n": 6, "metric": "psnr", "per_case": [5, 9, 1, None, 7, 8]}
    content["metrics"] = {"psnr": paired}
    best, worst = page(content, real, fake).split("<h3>Best</h3>")[1].split("<h3>Worst</h3>")
    assert re.findall(r"<figcaption>(v\d): ", best) == ["v1", "v5"]
    assert re.findall(r"<figcaption>(v\d): ", worst) == ["v2", "v0"]


@pytest.mark.parametrize(
    ("label", "entry", "said"),
    [
        (
            "kid[a]",
            {"metric": "kid", "value": 0.01, "interval95": [-0.1, 0.1]},
            "show no difference between the two sets",
        ),
        (
            "machine_2afc[a]",
            {"metric": "machine_2afc", "value": 0.7, "interval95": [0.6, 0.8]},
            "70 %.* better than by",
        ),
        ("machine_2afc[a]", {"metric": "machine_2afc", "value": 0.6, "interval95": [0.4, 0.8]}, "not surely better"),
        ("precision[a]", {"metric": "precision", "value": 0.25, "interval95": None}, "25 % of the generated"),
        ("acutance_ratio", {"metric": "acutance", "value": 1.2, "interval95": [1.1, 1.3]}, "20 % more sharpness"),
        ("grain_ratio", {"metric": "grain", "value": 0.9, "interval95": [0.8, 1.1]}, "about the change from pixel"),
        ("fid[a]", {"metric": "fid", "value": 3.0, "interval95": [2, 4]}, "no verdict by themselves"),
        ("kid[a]", {"metric": "kid", "value": None}, "no verdict by themselves"),
    ],
)
def test_findings_in_words(label, entry, said):
    sides = {"real": {"n": 40}, "fake": {"n": 40}}
    (sentence,) = sentences({"metrics": {label: entry}, "context": sides})
    assert re.search(said, sentence)
    few = sentences({"metrics": {label: entry}, "context": {**sides, "fake": {"n": 5}}})
    assert "only 5 images" in few[-1]


def test_variety_in_words():
    def of(own, real):
        entries = {
            name: {"metric": "ms_ssim", "value": sum(i) / 2, "interval95": i}
            for name, i in (("ms_ssim", own), ("ms_ssim_real", real))
        }
        return sentences({"metrics": entries, "context": {side: {"n": 40} for side in ("real", "fake")}})[0]

    assert "less variety" in of([0.5, 0.6], [0.2, 0.3])
    assert "differ more" in of([0.1, 0.15], [0.2, 0.3])
    assert "as varied" in of([0.1, 0.25], [0.2, 0.3])
