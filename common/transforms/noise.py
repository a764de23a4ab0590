"""A check of the noise in an image: whether it is independent from pixel to pixel, as a denoiser was trained on."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from torch import Tensor

from .checks import name_of

_SIDE = 8  # of a block, three halvings
_WINDOW = 512  # pixels of the middle that are looked at
_FEWEST = 64  # blocks that say something
_QUANTILE, _NORMAL = 0.35, 0.4538  # of the size of differences, and of that of normal numbers; edges lie above it
_FLOOR, _FLOOR_3 = 0.03, 0.04  # standard deviation of noise that matters, as a share of the image's range
_NEXT, _SECOND = 0.135, 0.09  # see docs/studies/med_cdiff_xray_denoise.md, "Correlated noise"

logger = logging.getLogger(__name__)


def noise_width(image: Tensor) -> int:
    """
    About how many pixels wide the grains of an image's noise are.

    White noise has as much of diagonal differences between single pixels as between blocks of 2 x 2 or 4 x 4 (each an
    orthonormal Haar wavelet); noise that was enlarged has next to none below its own grain. The size of differences is
    a low quantile, which edges and anatomy hardly touch; blocks of one value (a border, padding) are left out. Where
    the grid of the enlargement lies is unknown, so every place of the blocks is tried.

    Args:
        image: (H, W), float, in a range of 1.

    Returns:
        1 for white noise, and where there is little noise or too little image; 2, 3 or 4 for noise that was enlarged so
        many times.

    Example:
        >>> white = 0.5 + 0.1 * torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
        >>> noise_width(white), noise_width(white.repeat_interleave(2, 0).repeat_interleave(2, 1))
        (1, 2)
    """
    low = [max(0, (side - _WINDOW) // 2) for side in image.shape]
    middle = image[low[0] : low[0] + _WINDOW, low[1] : low[1] + _WINDOW]
    places = itertools.product(range(_SIDE // 2), repeat=2)
    return max((_width_at(middle[row:, column:]) for row, column in places), key=(1, 3, 2, 4).index)


def _width_at(image: Tensor) -> int:
    rows, columns = (side // _SIDE * _SIDE for side in image.shape)
    if rows * columns < _FEWEST * _SIDE**2:
        return 1
    blocks = image[:rows, :columns].unfold(0, _SIDE, _SIDE).unfold(1, _SIDE, _SIDE).flatten(0, 1)
    blocks = blocks[blocks.amax((1, 2)) > blocks.amin((1, 2))]
    if len(blocks) < _FEWEST:
        return 1
    sizes = []
    while blocks.shape[-1] > 1:
        a, b = blocks[:, ::2, ::2], blocks[:, ::2, 1::2]
        c, d = blocks[:, 1::2, ::2], blocks[:, 1::2, 1::2]
        sizes.append(float(torch.quantile(((a - b - c + d) / 2).abs().flatten(), _QUANTILE)) / _NORMAL)
        blocks = (a + b + c + d) / 2
    one, two, four = sizes
    if two >= _FLOOR and one < _NEXT * two:
        return 2
    if two >= _FLOOR_3 and one < _SECOND * four:
        return 3
    return 4 if four >= _FLOOR and two < _NEXT * four else 1


class CheckWhiteNoised(MapTransform):
    """
    Pass images on as they are, with a warning where their noise is wider than a pixel.

    A denoiser that has learned white noise takes wider grains for anatomy: it leaves them, and its deviation map is too
    confident.

    Args:
        keys: images, (1, X, Y) or (1, X, Y, Z), in [-1, 1]; of a volume the middle slice is looked at.

    Example:
        >>> CheckWhiteNoised("image")({"image": torch.zeros(1, 8, 8)})["image"].shape
        torch.Size([1, 8, 8])
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self._noted: set[str] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        for key in self.key_iterator(dict(data)):
            image = convert_to_tensor(data[key], track_meta=False).float()[0]
            image = image if image.ndim == 2 else image[..., image.shape[-1] // 2]
            name, width = name_of(data[key], str(key)), noise_width(image / 2)
            if width > 1 and name not in self._noted:  # once a file, though a run may read it twice
                self._noted.add(name)
                sides = " x ".join(str(round(side / width)) for side in image.shape)
                logger.warning(
                    f"{name}: its noise is about {width} pixels wide, as after an enlargement; the network removes "
                    "noise that is independent from pixel to pixel, and may leave this one, with too small deviations: "
                    f"bring the image to about {sides} pixels first."
                )
        return dict(data)
