from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from monai.data import MetaTensor
from PIL import Image

from common.visualize.panels import Panel, image_panel, slice_panels
from common.visualize.pictures import COLOURS, preview_figure, sheet, thumbnail, tiled
from common.visualize.scroll import slice_scroll
from common.visualize.sheets import captioned, contact_sheet, mask_sheet
from tests.fixtures import image_of, oblique_affine, two_part_mask, write_nifti


def _tensor(array, affine, name=None):
    meta = {"filename_or_obj": name} if name else {}
    return MetaTensor(torch.as_tensor(array, dtype=torch.float32), affine=torch.as_tensor(affine), meta=meta)


def _millimetres(figure, ax, picture, colour):
    """Bounding box (left, right, top, bottom) in the axes' millimetres of the pixels of a colour."""
    rows, columns = np.nonzero(np.abs(picture - np.array(to_rgb(colour))).max(axis=-1) < 0.1)
    places = ax.transData.inverted().transform(np.stack([columns, picture.shape[0] - 1 - rows], axis=1))
    (left, right), (top, bottom) = ax.get_xlim(), ax.get_ylim()[::-1]
    here = places[(places[:, 0] > left) & (places[:, 0] < right) & (places[:, 1] > top) & (places[:, 1] < bottom)]
    return [*here[:, 0][[here[:, 0].argmin(), here[:, 0].argmax()]], here[:, 1].min(), here[:, 1].max()]


def _drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def test_contour_runs_around_the_mask_in_millimetres():
    mask = np.zeros((1, 20, 30, 12))
    mask[0, 4:8, 18:27, 3:9] = 1
    figure = preview_figure(np.zeros((1, 20, 30, 12)), mask, affine=np.diag([1.0, 2.0, 3.0, 1.0]))
    picture = _drawn(figure)
    # From the viewer's left and top: 20 - 8 = 12 and so on, each times the spacing.
    expected = [(12, 16, 6, 24), (12, 16, 9, 27), (6, 24, 9, 27)]
    for ax, box in zip(figure.axes[3:6], expected):
        np.testing.assert_allclose(_millimetres(figure, ax, picture, COLOURS[0]), box, atol=1.2)
    for ax in figure.axes[:3]:
        assert len(ax.collections) == 0


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_radiological_convention_whatever_the_axes_of_the_file(flips):
    volume = np.zeros((10, 12, 14))
    volume[7:, 8:, 10:] = 1  # right, front, top
    stored = volume[:: flips[0], :: flips[1], :: flips[2]].transpose(2, 0, 1)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, column in enumerate((1, 2, 0)):
        affine[axis, column] = flips[axis]
    mask = (stored > 0)[None]
    for plane, ax in enumerate(preview_figure(stored[None], mask, affine=affine).axes[:3]):
        pixels = ax.images[0].get_array()
        assert pixels.shape == ((12, 10), (14, 10), (14, 12))[plane]
        assert pixels[0, 0] == 1
        assert pixels[-1, 0] == pixels[0, -1] == pixels[-1, -1] == 0
    assert [panel.size for panel in slice_panels(stored, affine=affine)[0]] == [(10, 12), (10, 14), (12, 14)]


def test_voxels_are_drawn_with_their_sizes():
    figure = preview_figure(np.random.default_rng(0).random((1, 17, 22, 13)), affine=oblique_affine())
    _drawn(figure)
    for ax, (width, height) in zip(figure.axes, ((17 * 0.8, 22 * 1.2), (17 * 0.8, 13 * 2.5), (22 * 1.2, 13 * 2.5))):
        box = ax.get_window_extent()
        assert box.width / box.height == pytest.approx(width / height, rel=0.02)


def test_row_a_channel_and_no_contours_without_mask():
    assert len(preview_figure(np.zeros((4, 8, 9, 10))).axes) == 12
    with_mask = preview_figure(np.zeros((4, 8, 9, 10)), np.ones((1, 8, 9, 10)))
    assert len(with_mask.axes) == 24


def test_channels_of_a_condition_are_labels_and_another_grid_is_brought_over():
    mask = two_part_mask()
    channels = np.stack([np.where(mask == value, 1.0, -1.0) for value in (1, 2)])
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = mask.shape[0] - 1
    volume = _tensor(mask[None], np.eye(4))
    masks = [volume, _tensor(channels, np.eye(4)), _tensor(channels[:, ::-1].copy(), flipped)]
    pictures = [_drawn(preview_figure(volume, mask, labels={"a": 1, "b": 2})) for mask in masks]
    for other in pictures[1:]:  # one grey level: the contours are drawn from resampled masks
        np.testing.assert_allclose(other, pictures[0], atol=1.01 / 255)


def test_small_label_is_looked_for():
    mask = np.ones((1, 20, 20, 20))
    mask[0, 2:4, 2:4, 2:4] = 2
    figure = preview_figure(np.arange(8000.0).reshape(1, 20, 20, 20), mask)
    assert all(len(ax.collections) == 2 for ax in figure.axes[3:6])
    with pytest.raises(ValueError, match="3D"):
        preview_figure(np.zeros((1, 1, 1, 8, 8)))


def test_contact_sheet_takes_files_and_arrays_of_differing_size(tmp_path):
    files = [write_nifti(tmp_path / f"{i}.nii.gz", image_of(two_part_mask((17 + i, 22, 13)))) for i in range(2)]
    arrays = [np.arange(729.0).reshape(1, 9, 9, 9)] * 2
    path = contact_sheet({"generated": files, "real": arrays}, tmp_path / "sheet.png")
    assert imread(path).shape[1] == 1080


def test_a_sheet_shows_every_image_in_its_column(tmp_path):
    dark, bright = torch.full((1, 16, 16), -1.0), torch.full((1, 16, 16), 1.0)
    path = contact_sheet({"condition": [dark, dark], "generated": [bright, bright]}, tmp_path / "sheet.png")
    pixels = imread(path)[..., 0]
    middle = pixels.shape[1] // 2
    assert pixels[:, :middle][60:].mean() < 0.05
    assert pixels[:, middle:][60:].mean() > 0.8


def test_bad_columns_are_refused(tmp_path):
    image = torch.zeros(1, 8, 8)
    for columns in ({}, {"a": []}, {"a": [image], "b": [image, image]}):
        with pytest.raises(ValueError, match="every column"):
            contact_sheet(columns, tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="2D"):
        contact_sheet({"a": [image], "b": [image[None]]}, tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_panels_of_a_sheet_have_one_scale_and_frames_have_their_colour():
    small, large = Panel(np.ones((8, 8)), (8, 8)), Panel(np.ones((8, 8)), (16, 16), title="copy", frame="#D55E00")
    figure = sheet([[small, small], [large, large]], legend={"copy": "#D55E00"}, width=4)
    pixels = _drawn(figure)
    boxes = [ax.images[0].get_window_extent().width for ax in figure.axes]
    np.testing.assert_allclose(boxes, [boxes[0], boxes[0], 2 * boxes[0], 2 * boxes[0]], rtol=1e-6)
    assert (np.abs(pixels - np.array(to_rgb("#D55E00"))).max(-1) < 0.02).sum() > 500


def test_tiles_of_differing_size_do_not_touch():
    grey, tall = np.full((2, 3), 9, np.uint8), np.full((6, 1), 8, np.uint8)
    assert tiled([[grey, tall], [grey]], gap=2).tolist() == [
        *[[0] * 5 + [8]] * 2,
        *[[9] * 3 + [0] * 2 + [8]] * 2,
        *[[0] * 5 + [8]] * 2,
        *[[0] * 6] * 2,
        *[[9] * 3 + [0] * 3] * 2,
    ]


def test_a_thumbnail_keeps_proportions_and_colour_images_their_colours():
    panels = slice_panels(np.random.default_rng(0).random((8, 8, 4)), affine=np.diag([1, 1, 4, 1]))[0]
    with Image.open(io.BytesIO(thumbnail(panels, height=32))) as picture:
        assert picture.size == (3 * 16 + 2 * 4, 32)
    image = np.arange(18.0).reshape(3, 3, 2)
    np.testing.assert_array_equal(image_panel(image).pixels, image.transpose(2, 1, 0))
    np.testing.assert_array_equal(image_panel(image[:1], upright=True).pixels, image[0])


def test_a_row_has_its_name_and_a_stack_shows_the_slice_with_the_mask(tmp_path):
    stack, mask = np.zeros((1, 20, 20, 5), np.float32) - 1, np.zeros((1, 20, 20, 5), np.float32)
    stack[..., 4], mask[0, 5:15, 5:15, 4] = 1, 1
    plain = contact_sheet({"a": [stack]}, tmp_path / "plain.png", stacked=True)
    outlined = contact_sheet({"a": [stack]}, tmp_path / "mask.png", names=["case_7"], masks=[mask], stacked=True)
    middle, chosen = (imread(path)[..., :3].mean(-1) for path in (plain, outlined))
    assert (chosen > 0.95).mean() > (middle > 0.95).mean() + 0.3, "the bright slice, where the mask is"
    colours = imread(outlined)[..., :3]
    assert (np.abs(colours - to_rgb(COLOURS[0])).max(-1) < 0.1).sum() > 20, "its contour"
    narrow = contact_sheet({"a": [stack]}, tmp_path / "unnamed.png", masks=[mask], stacked=True)
    assert not np.array_equal(imread(narrow), imread(outlined)), "the name"


def test_captions_leave_the_pixels_as_they_are():
    row = [np.full((20, 30), value, np.uint8) for value in (50, 90)]
    found = captioned(
        [row, row], names=["glioma", "none"], heads=["given", "rebuilt"], title="what it is, in more words"
    )
    tiles = tiled([row, row])
    top, left = found.shape[0] - tiles.shape[0], next(k for k in range(60) if (found[-20:, k] == 50).all())
    np.testing.assert_array_equal(found[top:, left : left + tiles.shape[1]], tiles)
    assert top == 28
    assert found[:14].any(), "the title"
    assert found[14:28, left:].any(), "heads"
    assert found[top : top + 20, :left].any(), "names"
    np.testing.assert_array_equal(captioned([row]), tiled([row]))


def test_a_sheet_of_masks_has_a_row_a_mask(tmp_path):
    files = [write_nifti(tmp_path / f"m{index}.nii.gz", two_part_mask(seed=index), np.eye(4)) for index in range(2)]
    one, two = (imread(mask_sheet(files[:count], tmp_path / f"{count}.png")).shape for count in (1, 2))
    assert two[1] == one[1]
    assert 1.6 < two[0] / one[0] < 2.2


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_an_animation_scrolls_through_the_slices_from_the_feet(tmp_path, ending):
    volume, mask = np.zeros((1, 12, 10, 5), np.float32), np.zeros((1, 12, 10, 5), np.uint8)
    volume[..., 4], mask[0, 4:8, 3:7, 2] = 1, 1
    path = slice_scroll(MetaTensor(volume, affine=np.eye(4)), tmp_path / f"a.{ending}", mask, width=96)
    with Image.open(path) as file:
        assert (file.n_frames, file.size) == (2 * 5 - 2, (192, 80))
        frames = []
        for index in range(5):
            file.seek(index)
            frames.append(np.asarray(file.convert("RGB")).astype(float))
    assert frames[0][20:].mean() < 20
    assert frames[4][20:].mean() > 230, "the head last"
    assert np.ptp(frames[2][20:, 96:], axis=-1).max() > 60, "outlined in colour"
    assert np.ptp(frames[2][20:, :96], axis=-1).max() < 40
    with pytest.raises(ValueError, match=r"ends in \.webp or \.gif"):
        slice_scroll(volume, tmp_path / "a.mp4")
