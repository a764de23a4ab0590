from __future__ import annotations

import logging

import numpy as np

from common.data.reader import LoadImaged
from tests.bundles.restoration_runs import grey, write_picture


def test_colour_becomes_grey_with_one_notice(tmp_path, caplog):
    colour = np.stack([grey(seed=seed) for seed in range(3)], -1)
    path = str(write_picture(tmp_path / "a.png", colour))
    load = LoadImaged("image")
    with caplog.at_level(logging.WARNING):
        first, _ = load({"image": path})["image"], load({"image": path})
    assert [record.message for record in caplog.records] == [
        f"{path} is in colour; grey was expected: its luminance is taken, and written in grey."
    ]
    expected = colour @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(first.numpy()[0, :, :, 0].T, expected, atol=0.5)
    write_picture(tmp_path / "b.png", np.repeat(grey()[..., None], 3, -1))
    exact = LoadImaged("image")({"image": str(tmp_path / "b.png")})["image"]
    np.testing.assert_array_equal(exact.numpy()[0, :, :, 0].T, grey())
