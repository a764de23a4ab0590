from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.masks.__main__ import main
from common.masks.shape_model import ShapeModel
from tests.fixtures import BUNDLE, two_part_mask

LABELS = {"front": 1, "back": 2}


def centred_dice(a, b):
    """Mean Dice over the labels of two label maps whose foregrounds' centres of mass are laid over each other."""
    points = []
    for mask in (a, b):
        inside = np.argwhere(mask)
        centred = inside - np.rint(inside.mean(axis=0)).astype(int)
        points.append({(*point, value) for point, value in zip(centred.tolist(), mask[mask > 0].tolist())})
    parts = [
        [{p for p in held if p[3] == value} for held in points]
        for value in sorted({p[3] for p in points[0] | points[1]})
    ]
    return float(np.mean([2 * len(one & other) / (len(one) + len(other)) for one, other in parts]))


@pytest.fixture(scope="module")
def masks():
    return [two_part_mask((19 + seed % 3, 24, 19), seed=seed) for seed in range(10)]


@pytest.fixture(scope="module")
def model(masks):
    return ShapeModel.fit(masks, [(1, 1, 1)] * len(masks), LABELS)


def test_mean_shape_is_closer_to_the_masks_than_they_are_to_each_other(model, masks):
    mean = model.decode(np.zeros(len(model.deviations)))
    to_mean = np.mean([centred_dice(mean, mask) for mask in masks])
    assert to_mean > 0.05 + np.mean([centred_dice(a, b) for i, a in enumerate(masks) for b in masks[:i]])


def test_modes_are_orthonormal_and_explain_what_was_asked(model):
    flat = model.modes.reshape(len(model.modes), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-8)
    assert model.info["variance"] >= 0.95
    assert (np.diff(model.deviations) <= 0).all()


def test_samples_are_whole_repeatable_different_and_off_the_border(model, masks):
    samples = [model.sample(seed) for seed in range(4)]
    np.testing.assert_array_equal(samples[0], model.sample(0))
    assert centred_dice(samples[0], samples[1]) < 1
    for sample in samples:
        assert sample.dtype == np.uint8
        assert set(np.unique(sample)) == {0, 1, 2}
        assert not np.pad(np.zeros(np.array(sample.shape) - 6), 3, constant_values=1)[sample > 0].any()
        assert [ndimage.label(sample == value)[1] for value in (1, 2)] == [1, 1]
        assert max(centred_dice(sample, mask) for mask in masks) < 1


def test_spacing_is_physical(masks):
    thin = [np.repeat(mask, 2, axis=2) for mask in masks]
    model = ShapeModel.fit(thin, [(1, 1, 0.5)] * len(thin), LABELS)
    mean = model.decode(np.zeros(len(model.deviations)))
    one_mm = ShapeModel.fit(masks, [(1, 1, 1)] * len(masks), LABELS).decode(np.zeros(len(model.deviations)))
    assert mean.shape[2] == 38
    assert abs((mean > 0).sum() * 0.5 / (one_mm > 0).sum() - 1) < 0.1
    np.testing.assert_allclose(model.spacing, [1, 1, 0.5])


def test_island_is_ignored(masks):
    stray = [mask.copy() for mask in masks]
    stray[0][0, 0, 0] = 1
    spacings = [(1, 1, 1)] * len(masks)
    np.testing.assert_array_equal(
        ShapeModel.fit(stray, spacings, LABELS).mean, ShapeModel.fit(masks, spacings, LABELS).mean
    )


def test_saved_model_gives_nearly_the_same_shapes(model, tmp_path):
    loaded = ShapeModel.load(model.save(tmp_path / "model.npz"))
    assert loaded.labels == LABELS
    assert centred_dice(loaded.sample(3), model.sample(3)) > 0.98
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_bad_files_and_masks_are_named(masks, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"bad\.npz is no shape model"):
        ShapeModel.load(tmp_path / "bad.npz")
    with pytest.raises(FileNotFoundError, match=r"gone\.npz"):
        ShapeModel.load(tmp_path / "gone.npz")
    with pytest.raises(ValueError, match=r"Mask 1: .*7"):
        ShapeModel.fit([masks[0], masks[1] * 7, masks[2]], [(1, 1, 1)] * 3, LABELS)
    with pytest.raises(ValueError, match="at least 3"):
        ShapeModel.fit(masks[:2], [(1, 1, 1)] * 2, LABELS)


def test_shipped_model_draws_the_shipped_mask_again(tmp_path):
    nib = pytest.importorskip("nibabel")
    main(["sample", "--model", str(BUNDLE / "models" / "shape_model.npz"), "--out", str(tmp_path)])
    drawn, shipped = (nib.load(folder / "mask_000.nii.gz") for folder in (tmp_path, BUNDLE / "sample_data"))
    assert drawn.get_data_dtype() == np.uint8
    np.testing.assert_allclose(drawn.affine, shipped.affine)
    assert centred_dice(np.asanyarray(drawn.dataobj), np.asanyarray(shipped.dataobj)) > 0.99
