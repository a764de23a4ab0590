from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

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


@pytest.mark.parametrize(
    ("picture", "channels", "message"),
    [
        (
            np.stack([grey(), grey() // 2, grey()], -1),
            1,
            "a grey image was expected, got colour .channels differ",
        ),
        (grey(), 3, "a colour image was expected, got grey"),
        (np.repeat(grey()[..., None], 3, -1), 3, "a colour image was expected, got grey"),
    ],
)
def test_the_other_kind_is_refused_by_name(tmp_path, picture, channels, message):
    path = write_picture(tmp_path / "x.png", picture)
    with pytest.raises(ValueError, match=f"x.png: {message}"):
        LoadImaged("image", spatial_dims=2, channels=channels, luminance=False)({"image": str(path)})
    with pytest.raises(ValueError, match="1 or 3 channels"):
        LoadImaged("image", channels=2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_keeps_its_three_channels(tmp_path, mode):
    Image.new("RGB", (4, 3), (9, 8, 7)).convert(mode).save(tmp_path / "x.png")
    read = LoadImaged("image", spatial_dims=2, channels=3)({"image": str(tmp_path / "x.png")})["image"]
    assert read.shape[0] == 3
    if mode != "P":
        assert read[:, 0, 0].tolist() == [9, 8, 7]
