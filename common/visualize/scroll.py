"""A volume as a picture that moves through its slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw
from scipy import ndimage

from ..utils.files import written_whole
from .panels import stack_panels
from .pictures import COLOURS, as_bytes


def slice_scroll(volume: Any, path: str | Path, mask: Any = None, text: str = "", width: int = 320) -> Path:
    """
    Axial slices one after the other, from the feet up and back, plain and (right) under the outlines of the mask.

    Args:
        volume: see ``slice_panels``; the first channel is shown.
        path: ends in .webp or .gif, which plays in a browser, a mail and a talk.
        mask: see ``slice_panels``; None for the plain slices alone.
        text: written into each picture beside the number of the slice, such as "synthetic".
        width: of one slice in pixels.

    Raises:
        ValueError: for another ending, or a volume that is not 3D.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Image.open(
        ...     slice_scroll(np.random.rand(1, 8, 8, 3), f"{folder}/a.webp")
        ... ) as picture:
        ...     picture.n_frames
        4
    """
    kind = {".webp": "WEBP", ".gif": "GIF"}.get(Path(path).suffix)
    if kind is None:
        raise ValueError(f"{path}: a name that ends in .webp or .gif was expected.")
    panels = stack_panels(volume, mask)
    frames = []
    for number, panel in enumerate(panels, 1):
        size = (width, max(1, round(width * panel.size[1] / panel.size[0])))
        grey = Image.fromarray(as_bytes(panel)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
        sides = [grey] if mask is None else [grey, _outlined(grey, panel.labels)]
        frame = Image.new("RGB", (size[0] * len(sides), size[1]))
        for place, side in enumerate(sides):
            frame.paste(side, (place * size[0], 0))
        ImageDraw.Draw(frame).text(
            (4, 2), f"{text} {number}/{len(panels)}".strip(), "white", stroke_width=1, stroke_fill="black"
        )
        frames.append(frame)
    frames += frames[-2:0:-1]
    more: dict[str, Any] = {"quality": 80, "method": 4} if kind == "WEBP" else {}
    with written_whole(path) as temporary:
        frames[0].save(temporary, kind, save_all=True, append_images=frames[1:], duration=90, loop=0, **more)
    return Path(path)


def _outlined(grey: Image.Image, labels: np.ndarray | None) -> Image.Image:
    pixels = np.array(grey)
    if labels is not None:
        large = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(grey.size, Image.Resampling.NEAREST))
        for value in np.unique(large[large > 0]):
            inside = large == value
            colour = 255 * np.array(to_rgb(COLOURS[(int(value) - 1) % len(COLOURS)]))
            pixels[inside & ~ndimage.binary_erosion(inside, iterations=2)] = colour.astype(np.uint8)
    return Image.fromarray(pixels)
