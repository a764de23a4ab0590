"""Simulated heads: what is in them, that the seed gives them, and what the four modalities show."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from common.masks.__main__ import simulate
from common.masks.heads import TissueMaps, draw_head
from common.masks.mr_signal import MODALITIES, scan
from tests.fixtures import write_nifti
from tests.masks.tissues import write_tissues


@pytest.fixture(scope="module")
def tissues(tmp_path_factory):
    return write_tissues(tmp_path_factory.mktemp("tissues"))


@pytest.fixture(scope="module")
def heads(tissues):
    return [draw_head(TissueMaps.load(tissues), 36, 5.5, seed) for seed in range(4)]


def test_a_tumour_lies_in_the_brain_and_shares_are_shares(heads):
    assert len({head.labels.tobytes() for head in heads}) == len(heads)
    for head in heads:
        assert head.brain[head.labels > 0].all()
        assert set(np.unique(head.mask)) <= {0, 1, 2, 3, 4}
        np.testing.assert_array_equal(head.mask > 0, head.brain)
        total = sum(head.shares.values())
        assert total[head.brain].min() > 0.3
        assert total.max() < 1.001
        assert not total[~head.brain].any()
    assert any((head.labels == 1).any() and (head.labels == 4).any() for head in heads), "a rim around necrosis"


def test_a_tumour_pushes_tissue_aside(tissues):
    healthy, ill = (draw_head(TissueMaps.load(tissues), 36, 5.5, 3, tumour) for tumour in (False, True))
    assert not healthy.labels.any()
    near = ndimage.binary_dilation(ill.labels > 0, iterations=3)  # as far as its borders are soft
    moved = np.abs(ill.shares["white"] - healthy.shares["white"])[~near & ill.brain & healthy.brain]
    assert moved.max() > 0.05


def test_the_seed_gives_the_volumes(heads):
    first, again, other = scan(heads[0], 0), scan(heads[0], 0), scan(heads[0], 1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.int16
    assert first.min() == 0
    assert (first[:, heads[0].brain] >= 1).all()
    assert not first[:, ~heads[0].brain].any()


def test_contrasts_are_those_of_the_modalities(heads):
    """Fluid is dark in T1 and FLAIR and bright in T2, oedema bright in T2 and FLAIR, the agent shows in T1CE alone."""
    for seed, head in enumerate(heads):
        t1, t1ce, t2, flair = scan(head, seed).astype(float)
        white, fluid = head.shares["white"] > 0.9, head.shares["fluid"] > 0.9
        oedema, rim = head.labels == 2, head.labels == 4
        assert t1[fluid].mean() < 0.7 * t1[white].mean()
        assert flair[fluid].mean() < 0.7 * flair[white].mean()
        assert t2[fluid].mean() > 1.5 * t2[white].mean()
        if oedema.sum() > 20:
            assert t2[oedema].mean() > 1.1 * t2[white].mean()
            assert flair[oedema].mean() > 1.1 * flair[white].mean()
        if rim.sum() > 20:
            assert t1ce[rim].mean() / t1ce[white].mean() > 1.2 * t1[rim].mean() / t1[white].mean()


def test_folders_are_as_brats_has_them_and_others_are_not_overwritten(tissues, tmp_path):
    (folder,) = simulate(tmp_path, size=16, spacing=12.0, seed=7, tissues=tissues)
    names = sorted(path.name for path in (tmp_path / "head_007").iterdir())
    assert names == sorted(f"head_007_{name}.nii.gz" for name in (*MODALITIES, "seg"))
    image = nib.load(tmp_path / "head_007" / "head_007_flair.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.header["descrip"].item().startswith(b"simulated: no patient (")
    for other in ({"spacing": 11.0}, {"tumour": False}, {"size": 17}):
        with pytest.raises(FileExistsError, match="head_007 is there, made otherwise"):
            simulate(tmp_path, **{"size": 16, "spacing": 12.0, "seed": 7, "tissues": tissues, **other})
    simulate(tmp_path, size=16, spacing=11.0, seed=7, tissues=tissues, overwrite=True)
    (tmp_path / "head_008").mkdir()
    with pytest.raises(FileExistsError, match="head_008"):
        simulate(tmp_path, size=16, spacing=12.0, seed=8, tissues=tissues)
    assert folder.endswith("head_007")


def test_missing_maps_and_small_sizes_are_named(tissues, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="at least 16 voxels"):
        draw_head(TissueMaps.load(tissues), 8)
    monkeypatch.setattr("common.masks.heads.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="nilearn==0"):
        TissueMaps.load(None)
    for index, name in enumerate(("gm", "wm", "t1")):
        write_nifti(tmp_path / f"{name}.nii.gz", np.ones((8, 8, 8 + index // 2), np.uint8))
    with pytest.raises(ValueError, match="on one grid"):
        TissueMaps.load(str(tmp_path))
