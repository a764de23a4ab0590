"""How the intensities of compared images are brought to one range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..data.image_file import ImageFile

SCALINGS = ("auto", "percentiles", "dtype", "none")
PERCENTILES = (0.5, 99.5)


def grey_of(image: ImageFile, luminance: bool) -> np.ndarray:
    """One channel of values, (X, Y, Z); that of colour pictures is Pillow's luminance."""
    values = image.values
    if (values == values[:1]).all():
        return values[0]
    if not luminance:
        raise ValueError(f"{image.path} is a colour picture; --grey true measures its luminance.")
    colours = np.moveaxis(values, 0, -1).astype(np.uint8).reshape(len(values[0]), -1, 3)
    return np.asarray(Image.fromarray(colours).convert("L")).reshape(values.shape[1:])


def scaled(
    array: np.ndarray, scaling: str, limits: tuple[float, float] | None = None, file: str | Path = "image"
) -> np.ndarray:
    """
    Intensities brought to [-1, 1].

    Args:
        array: real numbers.
        scaling: "percentiles", "dtype" or "none"; see ``ImageFolder``.
        limits: smallest and largest value that the file's type can hold, for "dtype"; None where it says nothing.
        file: for the messages.

    Returns:
        The same shape, float32, contiguous.

    Raises:
        ValueError: for NaN or infinity, no contrast between the percentiles, floats under "dtype", values outside
            [-1, 1] under "none".
    """
    values = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{file} holds NaN or infinity.")
    if scaling == "dtype":
        if limits is None:
            raise ValueError(f"{file} holds no integers, so its type gives no range; use --scaling percentiles.")
        low, high = limits
    elif scaling == "percentiles":
        low, high = (float(v) for v in np.percentile(values, PERCENTILES))
        if not high > low:
            raise ValueError(
                f"{file} has no contrast: percentiles {PERCENTILES[0]} and {PERCENTILES[1]} are both {low:g}. "
                "A fixed rule (--scaling dtype or none) can measure it."
            )
    else:
        low, high = -1.0, 1.0
        if values.min() < -1 or values.max() > 1:
            raise ValueError(
                f"{file} has values from {values.min():g} to {values.max():g}; --scaling none expects [-1, 1]."
            )
    return np.clip((values - low) * (2 / (high - low)) - 1, -1, 1)
