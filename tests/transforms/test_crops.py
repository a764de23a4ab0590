"""A crop to a fixed size, and the labels that it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import ResizeWithPadOrCropd as MonaiResizeWithPadOrCropd

from common.transforms.crops import ResizeWithPadOrCropd
from tests.transforms.test_checks import volume

SIZE = (8, 8, 8)


def labelled(*places, shape=(16, 16, 16)):
    """A label map with the labels 1, 2, ... in ``places``."""
    mask = np.zeros(shape, np.float32)
    for value, place in enumerate(places, 1):
        mask[place] = value
    return {"image": volume(mask + 1), "label": volume(mask)}


def crop(case):
    return ResizeWithPadOrCropd(["image", "label"], SIZE, labels=["label"])(case)


def test_it_is_monais_crop_and_says_nothing_where_nothing_is_lost(caplog):
    for case in (labelled(np.s_[6:9, 6:9, 6:9]), labelled(np.s_[0:3, 1:2, 9:11], shape=(6, 6, 20))):
        expected = MonaiResizeWithPadOrCropd(["image", "label"], SIZE)(case)
        for key, found in crop(case).items():
            np.testing.assert_array_equal(found, expected[key])
    assert not caplog.text


def test_a_label_that_is_cut_is_named_with_the_part_that_is_left(caplog):
    crop(labelled(np.s_[6:9, 6:9, 6:9], np.s_[2:6, 8, 8]))
    assert (
        "case.nii.gz: only the middle 8 x 8 x 8 voxels are used, with this part of labels: {2: '50 %'}" in caplog.text
    )


def test_a_label_that_is_lost_is_refused_by_file():
    with pytest.raises(ValueError, match=r"case.nii.gz: the labels \[2\] lie outside the middle 8 x 8 x 8 voxels"):
        crop(labelled(np.s_[6:9, 6:9, 6:9], np.s_[0, 0, 0]))
