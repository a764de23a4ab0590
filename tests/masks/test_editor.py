"""Edits of label maps: what moves, what stays, and what is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.masks.__main__ import edit
from common.masks.editor import ChangedRegiond, InsertLesiond, MoveLabelsd, RemoveLabelsd, ScaleLabelsd
from common.masks.files import write_mask
from tests.fixtures import oblique_affine, write_nifti


def head(core=True):
    """A cube of 1 with a lesion of 2 around a core of 3."""
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[2:18, 2:18, 2:18] = 1
    mask[5:9, 5:9, 5:9] = 2
    if core:
        mask[6:8, 6:8, 6:8] = 3
    return mask


def edited(transform, mask, affine=None):
    image = MetaTensor(torch.as_tensor(mask)[None], affine=torch.as_tensor(np.eye(4) if affine is None else affine))
    return transform({"mask": image})["mask"][0].numpy()


def test_a_lesion_moves_as_one_piece_and_its_parent_fills_the_gap():
    moved = edited(MoveLabelsd("mask", [2, 3], by=(6, 0, 3), parent=1), head())
    np.testing.assert_array_equal(
        moved,
        np.where(
            np.roll(head() > 1, (6, 0, 3), (0, 1, 2)), np.roll(head(), (6, 0, 3), (0, 1, 2)), np.minimum(head(), 1)
        ),
    )


def test_millimetres_follow_the_affine_of_the_file():
    affine = np.diag([-2.0, 0.5, 1.0, 1.0])  # the first axis runs to the left
    moved = edited(MoveLabelsd("mask", [2], by=(4, 1, 0), parent=1), head(core=False), affine)
    before, after = (np.argwhere(m == 2).mean(axis=0) for m in (head(core=False), moved))
    np.testing.assert_allclose(after - before, [-2, 2, 0])


def test_what_would_leave_the_parent_is_cut_off_with_a_notice(caplog):
    moved = edited(MoveLabelsd("mask", [2, 3], by=(-5, 0, 0), parent=1), head())
    assert (moved == 2).any()
    assert (moved[:2] == 0).all()
    assert "cut off" in caplog.text


def test_nothing_left_is_refused():
    with pytest.raises(ValueError, match="nothing of the labels"):
        edited(MoveLabelsd("mask", [2, 3], by=(40, 0, 0), parent=1), head())
    with pytest.raises(ValueError, match=r"labels \[4\] are to be edited"):
        edited(RemoveLabelsd("mask", [4], parent=1), head())
    with pytest.raises(ValueError, match="other than the parent"):
        RemoveLabelsd("mask", [1], parent=1)


def test_scaling_keeps_the_centre_and_changes_the_volume_by_the_cube():
    mask = head(core=False)
    larger = edited(ScaleLabelsd("mask", [2], factor=2, parent=1), mask)
    assert 0.8 < (larger == 2).sum() / (8 * (mask == 2).sum()) < 1.2
    np.testing.assert_allclose(*(np.argwhere(m == 2).mean(axis=0) for m in (mask, larger)), atol=0.6)
    assert ((larger > 0) == (mask > 0)).all()


def test_removal_leaves_the_parent_alone():
    np.testing.assert_array_equal(edited(RemoveLabelsd("mask", [2, 3], parent=1), head()), np.minimum(head(), 1))


@pytest.mark.parametrize("seed", range(3))
def test_an_inserted_lesion_lies_within_its_parent(seed):
    affine = oblique_affine() if seed else np.eye(4)
    result = edited(InsertLesiond("mask", label=4, parent=1, radius=3, seed=seed), head(), affine)
    new = result == 4
    assert new.any()
    assert (head()[new] == 1).all()
    np.testing.assert_array_equal(result[~new], head()[~new])


def test_a_lesion_is_inserted_where_the_file_has_that_place():
    affine = oblique_affine()
    centre = nib.affines.apply_affine(affine, (12, 12, 11))
    result = edited(InsertLesiond("mask", label=4, parent=1, radius=2.5, centre=centre), head(), affine)
    np.testing.assert_allclose(np.argwhere(result == 4).mean(axis=0), (12, 12, 11), atol=1)


def test_the_changed_region_has_its_margin_in_millimetres():
    case = {"mask": MetaTensor(torch.zeros(1, 9, 9, 9), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])))}
    case["before"] = case["mask"].clone()
    case["before"][0, 4, 4, 4] = 1
    region = ChangedRegiond("mask", margin=2)(case)["hole"][0].numpy()
    assert [int(np.ptp(where)) for where in np.nonzero(region)] == [2, 4, 4]
    soft = ChangedRegiond("mask", margin=2, blend=2)(case)["hole"][0].numpy()
    np.testing.assert_allclose(soft[4, 4, 1:8], [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0], rtol=1e-6)
    assert ((soft > 0) == (region > 0)).all()
    with pytest.raises(ValueError, match="between 0 and the margin of 2 were expected, got 3"):
        ChangedRegiond("mask", margin=2, blend=3)
    with pytest.raises(ValueError, match="nothing of it has changed"):
        ChangedRegiond("mask")({"mask": case["mask"], "before": case["mask"]})


def test_files_are_edited_all_or_none(tmp_path):
    affine = oblique_affine()
    good = write_nifti(tmp_path / "in" / "a.nii.gz", head(), affine)
    bad = write_nifti(tmp_path / "in" / "b.nii.gz", np.minimum(head(), 1), affine)
    edits = [RemoveLabelsd("mask", [3], parent=2)]
    with pytest.raises(ValueError, match=r"b\.nii\.gz: the labels \[3\]"):
        edit([str(good), str(bad)], tmp_path / "out", edits)
    assert not (tmp_path / "out").exists()
    (path,) = edit([str(good)], tmp_path / "out", edits)
    result = nib.load(path)
    np.testing.assert_allclose(result.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(result.dataobj), np.minimum(head(), 2))
    with pytest.raises(FileExistsError):
        edit([str(good)], tmp_path / "out", edits)


def test_what_eight_bits_cannot_hold_is_not_written(tmp_path):
    for value in (257, -1, 0.5):
        with pytest.raises(ValueError, match=r"a\.nii\.gz: values that uint8 holds were expected"):
            write_mask(tmp_path / "a.nii.gz", np.full((2, 2, 2), value), np.eye(4))
    assert list(tmp_path.iterdir()) == []
