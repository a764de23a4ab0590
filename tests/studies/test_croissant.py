"""The Croissant description of a synthetic set: valid, and it says what made the images and under which terms."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.studies.croissant import write_croissant
from common.studies.synthetic import MANIFEST, image_name, write_manifest, write_synthetic
from common.utils.files import sha256_of
from tests.bundles.classify_runs import BRAIN, RECORD
from tests.fixtures import REPOSITORY


@pytest.fixture
def drawn(tmp_path):
    made = {**RECORD, "bundle": BRAIN, "version": "0.1.0", "weights": "model.pt", "weights_sha256": "ab" * 32}
    paths = [image_name(name, number) for name in ("glioma", "pituitary") for number in range(2)]
    for path in paths:
        name, number = path.split("/")[0], int(path[-9:-4])
        about = {"class": name, "number": number, "set_seed": 7}
        write_synthetic(tmp_path / path, np.zeros((4, 4), np.uint8), {**made, **about})
    write_manifest(tmp_path, paths)
    return tmp_path


def test_it_says_that_the_images_are_synthetic_and_what_made_them(drawn):
    bundle = REPOSITORY / "bundles" / BRAIN
    content = json.loads(write_croissant(drawn, bundle).read_text())
    assert content["license"] == (bundle / "docs" / "data_license.txt").read_text()
    assert content["keywords"] == ["synthetic", "generated", "glioma", "pituitary"]
    assert f"weights model.pt (SHA-256 {'ab' * 32}), seed of the set 7," in content["rai:dataCollection"]
    manifest = content["distribution"][0]
    assert (manifest["contentUrl"], manifest["sha256"]) == (MANIFEST, sha256_of(drawn / MANIFEST))
    (drawn / MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match=r"run generate\.json to its end"):
        write_croissant(drawn, bundle)


def test_mlcroissant_finds_nothing_to_complain_of_and_reads_the_rows(drawn):
    croissant = pytest.importorskip("mlcroissant")
    path = write_croissant(drawn, REPOSITORY / "bundles" / BRAIN)
    dataset = croissant.Dataset(jsonld=str(path))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    rows = list(dataset.records("manifest"))
    assert [row["manifest/path"].decode() for row in rows] == [
        image_name(name, number) for name in ("glioma", "pituitary") for number in range(2)
    ]
    assert all(row["manifest/synthetic"] for row in rows)
