"""Sets of numbered masks and volumes: a run that was ended goes on as it would have, and mixes no settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.masks import __main__ as masks
from tests.fixtures import BUNDLE
from tests.masks.tissues import write_tissues

MODEL = BUNDLE / "models" / "shape_model.npz"
SMALL = {"size": 16, "spacing": 12.0}
# What draws a set, how it is called, its drawing function, and the settings of another set.
SETS = {
    "sample": (masks.sample, {"model": MODEL}, "ShapeModel.sample", {"mirror": True}),
    "phantom": (masks.phantom, SMALL, "head_phantom", {"lesion": False}),
    "prostate": (
        masks.prostate,
        {"size": [24, 24, 4], "spacing": [4.0, 4.0, 9.0]},
        "prostate_phantom",
        {"size": [26, 24, 4]},
    ),
    "heads": (masks.simulate, SMALL, "draw_head", {"tumour": False}),
    "masks of heads": (masks.simulate, SMALL | {"masks": True}, "draw_head", {"spacing": 11.0}),
}


def files_of(folder):
    """Name and bytes of every file."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", SETS)
def test_a_set_that_was_ended_goes_on_with_what_is_missing_or_cut(tmp_path, monkeypatch, kind):
    draw, given, drawn_by, other = SETS[kind]
    if draw is masks.simulate:
        given = given | {"tissues": write_tissues(tmp_path)}
    out = tmp_path / "set"
    paths = [Path(path) for path in draw(out=out, count=3, **given)]
    before = files_of(out)
    first = sorted(out.rglob("*_000*.nii.gz"))[-1]
    first.write_bytes(first.read_bytes()[:-40])
    for path in sorted(out.rglob("*_002*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()

    owner, name = (masks.ShapeModel, "sample") if "." in drawn_by else (masks, drawn_by)
    original, calls = getattr(owner, name), []
    monkeypatch.setattr(owner, name, lambda *args, **more: calls.append(args) or original(*args, **more))
    assert draw(out=out, count=3, **given) == [str(path) for path in paths]
    assert len(calls) == 2
    assert files_of(out) == before

    with pytest.raises(FileExistsError, match=rf"{paths[0].name} is there, made otherwise: choose another folder"):
        draw(out=out, count=4, **given | other)
    assert len(calls) == 2, "refused before any is drawn"
    assert files_of(out) == before
    draw(out=out, count=3, overwrite=True, **given | other)
    assert files_of(out) != before


def test_masks_of_another_hand_are_not_taken_for_drawn_ones(tmp_path):
    shutil.copy(BUNDLE / "sample_data" / "mask_000.nii.gz", tmp_path)
    with pytest.raises(FileExistsError, match=r"mask_000\.nii\.gz is there, made otherwise"):
        masks.sample(MODEL, tmp_path)
