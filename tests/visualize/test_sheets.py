"""Sheets of 2D images."""

import pytest
import torch
from matplotlib.image import imread

from common.visualize.sheets import image_sheet


def test_a_sheet_shows_every_image_in_its_column(tmp_path):
    dark, bright = torch.full((1, 16, 16), -1.0), torch.full((1, 16, 16), 1.0)
    path = image_sheet({"condition": [dark, dark], "generated": [bright, bright]}, tmp_path / "sheet.png")
    pixels = imread(path)[..., 0]
    middle = pixels.shape[1] // 2
    assert pixels[:, :middle][60:].mean() < 0.05
    assert pixels[:, middle:][60:].mean() > 0.8


def test_bad_columns_are_refused(tmp_path):
    image = torch.zeros(1, 8, 8)
    for columns in ({}, {"a": []}, {"a": [image], "b": [image, image]}):
        with pytest.raises(ValueError, match="every column"):
            image_sheet(columns, tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="2D"):
        image_sheet({"a": [image[None]]}, tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
