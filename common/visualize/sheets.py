"""2D images side by side, a row a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from .preview import save_figure


def image_sheet(columns: Mapping[str, Sequence[Any]], path: str | Path, window: tuple[float, float] = (-1, 1)) -> Path:
    """
    Images of the same cases in columns, such as condition, generated and real.

    Args:
        columns: title -> images, (C, X, Y) each in MONAI's order of axes; the first channel is shown.
        path: PNG to write.
        window: values shown black and white.

    Returns:
        ``path``.

    Raises:
        ValueError: when the columns differ in length, are empty, or hold something other than 2D images.
    """
    lengths = {title: len(images) for title, images in columns.items()}
    if not lengths or len(set(lengths.values())) != 1 or not next(iter(lengths.values())):
        raise ValueError(f"As many images in every column, at least one, were expected, got {lengths}.")
    arrays = [[_array(image) for image in images] for images in columns.values()]
    rows, across = len(arrays[0]), len(arrays)
    figure = Figure(figsize=(2.0 * across, 2.0 * rows + 0.3), dpi=100, facecolor="black", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)  # type: ignore[union-attr,call-arg]
    for index, axis in enumerate(figure.subplots(rows, across, squeeze=False).flat):
        row, column = divmod(index, across)
        axis.imshow(arrays[column][row].T, cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
        axis.axis("off")
        if row == 0:
            axis.set_title(list(columns)[column], color="white", fontsize=9)
    return save_figure(figure, path)


def _array(image: Any) -> np.ndarray:
    array = image.detach().cpu().float().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.ndim != 3:
        raise ValueError(f"2D images (C, X, Y) were expected, got shape {array.shape}.")
    return array[0]
