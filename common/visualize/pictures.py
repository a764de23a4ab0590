"""Pictures: slices of a volume with the contours of its labels, sheets of rows and columns, tiles, thumbnails."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import Orientation, ResampleToMatch
from monai.utils import convert_to_numpy, convert_to_tensor
from PIL import Image
from scipy import ndimage

from ..data.reader import read_image
from ..utils.files import written_whole

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
# Planes of a RAS volume (x to the right, y to the front, z up): the axis across, then the axes drawn to the right and
# down, both from their high end, so that the patient's right is on the viewer's left and the front or the top is up;
# the letters at the left, right, upper and lower edge.
_PLANES = (("axial", (2, 0, 1), "RLAP"), ("coronal", (1, 0, 2), "RLSI"), ("sagittal", (0, 1, 2), "APSI"))
_EDGES = ((0.04, 0.5), (0.96, 0.5), (0.5, 0.95), (0.5, 0.05))


class Panel(NamedTuple):
    """
    One picture on a sheet.

    Args:
        pixels: (rows, columns) or, in colour, (rows, columns, 3), from the top left.
        size: width and height, in mm or in pixels; all panels of a sheet are drawn at one scale.
        window: values shown black and white.
        labels: label map on the same pixels, whose contours are drawn; None for none.
        letters: at the left, right, upper and lower edge.
        title: written above.
        frame: colour of a frame and of the title; None for no frame and a white title.
        name: of the row, written at its left side.

    Example:
        >>> Panel(np.zeros((8, 16)), (16.0, 8.0)).window
        (0.0, 1.0)
    """

    pixels: np.ndarray
    size: tuple[float, float]
    window: tuple[float, float] = (0.0, 1.0)
    labels: np.ndarray | None = None
    letters: str = ""
    title: str = ""
    frame: str | None = None
    name: str = ""


def slice_panels(volume: Any, mask: Any = None, affine: np.ndarray | None = None) -> list[list[Panel]]:
    """
    Axial, coronal and sagittal slice through the middle of a volume, or through the labels of its mask.

    Args:
        volume: (C, X, Y, Z) or (X, Y, Z), any range, shown black and white at percentiles 0.5 and 99.5; or a file.
        mask: label map (1, X, Y, Z) or (X, Y, Z), or one channel a label, (C', X, Y, Z), above 0 inside; a
            ``MetaTensor`` on another grid than ``volume`` is brought to it; or a file. None for no contours.
        affine: voxel to RAS millimetres, (4, 4); by default that of ``volume``, or 1 mm.

    Returns:
        Three panels a channel, sizes in mm; oblique volumes along their own axes, the patient's right on the left.

    Raises:
        ValueError: when ``volume`` is not 3D.
    """
    image, labels = _with_labels(volume, mask, affine)
    centre = _centre(labels)
    return [
        [_slice(channel, labels, plane, centre[plane[1][0]], image.affine) for plane in _PLANES]
        for channel in np.nan_to_num(image.numpy())
    ]


def stack_panels(volume: Any, mask: Any = None, affine: np.ndarray | None = None) -> list[Panel]:
    """Every axial slice of the first channel, from the feet up; arguments as of ``slice_panels``."""
    image, labels = _with_labels(volume, mask, affine)
    channel = np.nan_to_num(image.numpy()[0])
    return [_slice(channel, labels, _PLANES[0], index, image.affine) for index in range(channel.shape[2])]


def _with_labels(volume: Any, mask: Any, affine: np.ndarray | None) -> tuple[MetaTensor, np.ndarray]:
    """Volume (C, X, Y, Z), RAS, and the label map (X, Y, Z) on its grid, 0 everywhere without a mask."""
    if isinstance(volume, (str, Path)):
        file = read_image(volume)
        volume, affine = file.values, file.affine
    if isinstance(mask, (str, Path)):
        file = read_image(mask)
        mask = MetaTensor(torch.as_tensor(file.values), affine=torch.as_tensor(file.affine))
    matrix = getattr(volume, "affine", np.eye(4)) if affine is None else affine
    image = _ras(volume, matrix)
    if mask is None:
        return image, np.zeros(image.shape[1:], dtype=np.int64)
    alike = mask.shape[-3:] == volume.shape[-3:]
    return image, _label_map(_ras(mask, getattr(mask, "affine", matrix if alike else np.eye(4))), image)


def _slice(channel: np.ndarray, labels: np.ndarray, plane: Any, index: int, affine: Any) -> Panel:
    """A slice of a RAS volume, in mm, black and white at percentiles 0.5 and 99.5 of the volume."""
    _, (axis, across, down), letters = plane
    spacing = affine_to_spacing(affine)
    low, high = np.percentile(channel, (0.5, 99.5))
    size = (float(labels.shape[across] * spacing[across]), float(labels.shape[down] * spacing[down]))
    pixels, contours = (np.flip(np.take(item, index, axis), (0, 1)).T for item in (channel, labels))
    return Panel(pixels, size, (float(low), float(high if high > low else low + 1)), contours, letters)


def image_panel(image: Any, window: tuple[float, float] = (-1, 1), upright: bool = False, mask: Any = None) -> Panel:
    """
    A 2D image, a unit a pixel.

    Args:
        image: (C, X, Y) in MONAI's order of axes; three channels are a colour image, otherwise the first is shown.
        window: values shown black and white.
        upright: the image is (C, rows, columns).
        mask: label map (1, X, Y), or one channel a label, above 0 inside, whose contours are drawn; None for none.

    Raises:
        ValueError: for another number of axes.
    """
    array = convert_to_numpy(image).astype(np.float32)
    if array.ndim != 3:
        raise ValueError(f"2D images (C, X, Y) were expected, got shape {array.shape}.")
    array = array if upright else array.swapaxes(1, 2)
    pixels = np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]
    labels = None if mask is None else _as_label_map(convert_to_numpy(mask))
    labels = labels if labels is None or upright else labels.T
    return Panel(pixels, (float(array.shape[2]), float(array.shape[1])), window, labels)


def sheet(
    rows: Sequence[Sequence[Panel]], title: str = "", legend: Mapping[str, str] | None = None, width: float = 9.0
) -> Figure:
    """
    Panels in rows and columns on black, all at one scale.

    Args:
        rows: as many panels in each.
        title: written above all.
        legend: text -> colour, written below the right half.
        width: of the figure in inches, at 120 pixels an inch.
    """
    sizes = [np.max([panel.size for panel in column], axis=0) for column in zip(*rows)]
    widths = [float(size[0]) for size in sizes]
    tallest = max(float(size[1]) for size in sizes) * width / sum(widths)
    captions = sum(0.15 * max(panel.title.count("\n") + bool(panel.title) for panel in row) for row in rows)
    height = len(rows) * tallest + captions + 0.25 * (title.count("\n") + bool(title)) + 0.2 * bool(legend) + 0.1
    below = 0.2 * bool(legend) / height
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0, rect=(0, below, 1, 1 - below))
    figure = Figure(figsize=(width, height), dpi=120, facecolor="black", layout=layout)
    axes = figure.subplots(len(rows), len(sizes), squeeze=False, width_ratios=widths)
    for row, panels in zip(axes, rows):
        for ax, panel, size in zip(row, panels, sizes):
            _draw(ax, panel, size)
    for index, (text, colour) in enumerate((legend or {}).items()):
        figure.text(0.5 + 0.5 * (index + 0.5) / len(legend or ()), 0.01, text, color=colour, fontsize=8, ha="center")
    figure.suptitle(title, color="white", fontsize=9)
    return figure


def preview_figure(
    volume: Any,
    mask: Any = None,
    affine: np.ndarray | None = None,
    labels: Mapping[str, int] | None = None,
    title: str = "",
) -> Figure:
    """
    Axial, coronal and sagittal slice through the mask, plain and (right) under the contours of the mask.

    Args:
        volume: as ``slice_panels`` takes it; a row a channel.
        mask: likewise; None for no contours.
        affine: likewise.
        labels: name -> value for the legend; a channel of a many-channel mask counts as value 1, 2, …
        title: written above.
    """
    rows = slice_panels(volume, mask, affine)
    plain = [[panel._replace(labels=None) for panel in row] for row in rows]
    values = sorted({int(v) for panel in rows[0] for v in np.unique(panel.labels) if v})  # type: ignore[arg-type]
    if values:
        plain = [left + right for left, right in zip(plain, rows)]
    plain[0] = [panel._replace(title=_PLANES[index % 3][0]) for index, panel in enumerate(plain[0])]
    names = {value: name for name, value in (labels or {}).items()}
    legend = {names.get(value, f"label {value}"): _colour(value) for value in values}
    return sheet(plain, title, legend, width=2.0 * len(plain[0]))


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG; it appears under ``path`` only when it is complete."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return Path(path)


def thumbnail(panels: Sequence[Panel], height: int = 112, most: int = 640) -> bytes:
    """
    Panels beside one another as a small PNG; a pixel of an image takes at least one of the picture.

    Args:
        panels: grey.
        height: least height of the picture in pixels.
        most: largest side in pixels.
    """
    steps = [extent / side for panel in panels for extent, side in zip(panel.size, panel.pixels.T.shape)]
    scale = max(height / max(panel.size[1] for panel in panels), 1 / min(steps))
    shown = []
    for panel in panels:
        size = (max(1, round(panel.size[0] * scale)), max(1, round(panel.size[1] * scale)))
        shown.append(np.asarray(Image.fromarray(as_bytes(panel)).resize(size, Image.Resampling.BICUBIC)))
    picture = Image.fromarray(tiled([shown], gap=4))
    picture.thumbnail((most, most))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_bytes(panel: Panel) -> np.ndarray:
    """The pixels of a panel, uint8, rounded, 0 where black and 255 where white."""
    low, high = panel.window
    return np.rint(255 * ((panel.pixels - low) / (high - low)).clip(0, 1)).astype(np.uint8)


def tiled(rows: Sequence[Sequence[np.ndarray]], gap: int = 1) -> np.ndarray:
    """
    Images on one sheet, pixel by pixel, with black lines between them.

    Args:
        rows: images (height, width) or (height, width, 3), uint8; a row may be shorter than the longest.
        gap: width of the lines.

    Returns:
        The sheet, uint8, of as many colours; smaller images lie in the middle of their place from top to bottom.
    """
    heights = [max(image.shape[0] for image in row) for row in rows]
    widths = [max(row[c].shape[1] for row in rows if c < len(row)) for c in range(max(map(len, rows)))]
    colours = rows[0][0].shape[2:]
    result = np.zeros(
        (sum(heights) + gap * (len(heights) - 1), sum(widths) + gap * (len(widths) - 1), *colours), np.uint8
    )
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top = sum(heights[:row]) + gap * row + (heights[row] - image.shape[0]) // 2
            left = sum(widths[:column]) + gap * column
            result[top : top + image.shape[0], left : left + image.shape[1]] = image
    return result


def _draw(ax: Any, panel: Panel, size: Sequence[float]) -> None:
    """Draw a panel in the middle of a place of ``size``."""
    (width, height), (low, high) = panel.size, panel.window
    pixels = ((panel.pixels - low) / (high - low)).clip(0, 1) if panel.pixels.ndim == 3 else panel.pixels
    ax.imshow(pixels, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0), interpolation="nearest")
    if panel.labels is not None:
        _draw_contours(ax, panel.labels, width, height)
    ax.set_xlim((width - size[0]) / 2, (width + size[0]) / 2)
    ax.set_ylim((height + size[1]) / 2, (height - size[1]) / 2)
    ax.set(xticks=[], yticks=[], facecolor="black")
    ax.set_ylabel(panel.name, color="white", fontsize=7)
    for spine in ax.spines.values():
        spine.set(color=panel.frame or "black", linewidth=2 if panel.frame else 0)
    ax.set_title(panel.title, color=panel.frame or "white", fontsize=8)
    style: dict[str, Any] = {"color": "white", "fontsize": 6, "ha": "center", "va": "center"}
    for letter, (x, y) in zip(panel.letters, _EDGES):
        outline = [withStroke(linewidth=1.5, foreground="black")]
        ax.text(x, y, letter, transform=ax.transAxes, path_effects=outline, **style)


def _draw_contours(ax: Any, labels: np.ndarray, width: float, height: float) -> None:
    # A frame of background closes the contours of labels that touch the border.
    x = (np.arange(-1, labels.shape[1] + 1) + 0.5) * width / labels.shape[1]
    y = (np.arange(-1, labels.shape[0] + 1) + 0.5) * height / labels.shape[0]
    for value in np.unique(labels[labels > 0]):
        inside = np.pad(labels == value, 1).astype(float)
        ax.contour(x, y, inside, levels=[0.5], colors=[_colour(int(value))], linewidths=1.0)


def _colour(value: int) -> str:
    return COLOURS[(value - 1) % len(COLOURS)]


def _ras(item: Any, affine: Any) -> MetaTensor:
    """(C, X, Y, Z) float32, with axes that point nearly to the right, the front and the top."""
    array = convert_to_tensor(item, dtype=torch.float32, device="cpu")
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4:
        raise ValueError(f"A preview needs a 3D volume (C, X, Y, Z), got shape {tuple(array.shape)}.")
    volume = MetaTensor(array, affine=convert_to_tensor(affine, dtype=torch.float64, device="cpu"))
    return Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(volume)  # type: ignore[return-value]


def _label_map(mask: MetaTensor, image: MetaTensor) -> np.ndarray:
    """(X, Y, Z) whole numbers on the grid of ``image``; later channels lie over earlier ones."""
    if mask.shape[1:] != image.shape[1:] or not torch.allclose(mask.affine, image.affine, rtol=0, atol=1e-3):
        mask = ResampleToMatch(mode="nearest", padding_mode="zeros")(mask, image)  # type: ignore[assignment]
    return _as_label_map(mask.numpy())


def _as_label_map(array: np.ndarray) -> np.ndarray:
    """(C, *spatial), a label map or one channel a label, as whole numbers (*spatial)."""
    if len(array) == 1:
        return np.maximum(np.rint(array[0]), 0).astype(np.int64)
    return np.max([(channel > 0) * (index + 1) for index, channel in enumerate(array)], axis=0)


def _centre(mask: np.ndarray) -> np.ndarray:
    """Voxel at the centre of the foreground, or of the smallest label that the three slices there would miss."""
    if not mask.any():
        return np.array(mask.shape) // 2
    centre = np.rint(ndimage.center_of_mass(mask > 0)).astype(int)
    shown = set().union(*(np.unique(np.take(mask, index, axis)) for axis, index in enumerate(centre)))
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    missed = [value for _, value in sorted(zip(counts, values)) if value not in shown]
    return np.rint(ndimage.center_of_mass(mask == missed[0])).astype(int) if missed else centre
