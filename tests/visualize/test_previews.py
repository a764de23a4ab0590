"""Previews and sheets as configs ask for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.image import imread
from monai.data import MetaTensor
from PIL import Image

from common.visualize.previews import SamplePreviews, SampleSheet, SavePreviewd
from tests.fixtures import image_of, oblique_affine, two_part_mask


def test_writes_the_stem_of_the_file_and_leaves_nothing_else(tmp_path):
    mask = two_part_mask()
    affine, meta = torch.from_numpy(oblique_affine()), {"filename_or_obj": "/somewhere/case_1.nii.gz"}
    pred = MetaTensor(torch.from_numpy(image_of(mask))[None], affine=affine, meta=meta)
    data = {"pred": pred, "image": MetaTensor(torch.from_numpy(mask)[None], affine=affine)}
    result = SavePreviewd("pred", "image", tmp_path / "new", labels={"a": 1, "b": 2})(data)
    assert result["pred"] is pred
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["case_1_preview.png"]
    assert imread(tmp_path / "new" / "case_1_preview.png").ndim == 3


def test_previews_are_written_for_each_evaluation(tmp_path: Path):
    images: list[tuple[str, tuple[int, ...], int]] = []
    writer = SimpleNamespace(
        add_image=lambda tag, image, step, dataformats: images.append((tag, image.shape, step)), flush=lambda: None
    )
    volume = torch.rand(1, 8, 9, 10)
    engine = Engine(lambda engine, batch: [{"pred": volume, "label": volume}])
    handler = SamplePreviews(tmp_path, writer, name="epoch_{epoch:04d}")
    handler.attach(engine)
    engine.run([0, 1], max_epochs=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["epoch_0001.png", "epoch_0002.png"]
    assert [step for _, _, step in images] == [1, 2]
    assert images[0][1] == images[1][1], "the second sheet holds the cases of its own evaluation only"
    assert engine.last_event_name == Events.COMPLETED


def image() -> torch.Tensor:
    """(1, 6, 4): x to the right, y down; black top left."""
    return torch.arange(24).reshape(1, 6, 4).float() / 23


@pytest.mark.parametrize(("keys", "cases", "size"), [(("pred",), 5, (3, 2)), (("pred", "image"), 3, (2, 3))])
def test_a_sheet_is_square_or_has_a_case_a_row(tmp_path, keys, cases, size):
    engine = Engine(lambda engine, batch: [{"pred": image(), "image": image()}] * cases)
    SampleSheet(tmp_path, keys, provenance={"bundle": "b", "seed": 3, "steps": 7}).attach(engine)
    engine.run([0])
    with Image.open(tmp_path / "contact_sheet.png") as file:
        assert file.size == (size[0] * 7 - 1, size[1] * 5 - 1)
        assert file.info["Description"] == "synthetic b seed 3 steps 7"
        first = np.asarray(file)[:4, :6]
    np.testing.assert_array_equal(first.T, np.rint(image()[0].numpy() * 255).astype(np.uint8))


def test_a_sheet_by_class_has_a_row_a_class_and_colours(tmp_path):
    def step(engine, batch):
        engine.state.batch = [{"class": name} for name in batch]
        return [{"pred": torch.full((3, 4, 6), 0.2 * (name == "b")).index_fill(0, red, 1)} for name in batch]

    red, engine = torch.tensor(0), Engine(step)
    SampleSheet(tmp_path, max_cases=2, by_class=True).attach(engine)
    engine.run([["a", "b"], ["a", "a"]])
    with Image.open(tmp_path / "contact_sheet.png") as file:
        margin = file.width - (2 * 7 - 1)
        assert margin > 5, "for the names of the classes"
        assert file.height == 2 * 5 - 1
        pixels = np.asarray(file)[:, margin:]
        assert np.asarray(file)[:, :margin].any()
    assert pixels[0, 12].tolist() == [255, 0, 0]
    assert pixels[5, 0].tolist() == [255, 51, 51]
    assert not pixels[5:, 7:].any()
