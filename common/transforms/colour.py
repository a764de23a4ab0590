"""Grey and colour images, kept apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from PIL import Image

_AS_THEY_ARE = ("L", "LA", "RGB", "RGBA")


def grey_or_rgb(picture: Image.Image) -> Image.Image:
    """
    A picture whose channels are grey, or red, green and blue: the ``converter`` of MONAI's ``PILReader``, which without
    one reads the numbers of a palette's entries, and inks as if they were light.

    Raises:
        ValueError: for more than 8 bits, inks (CMYK) and other spaces.
    """
    if picture.mode in _AS_THEY_ARE:
        return picture
    if picture.mode == "1":
        return picture.convert("L")
    if picture.mode in ("P", "PA"):
        return picture.convert("RGBA" if picture.mode == "PA" or "transparency" in picture.info else "RGB")
    raise ValueError(f"an 8-bit grey or RGB picture was expected, got PIL's mode {picture.mode!r}.")


class AsChannelsd(MapTransform):
    """
    Bring the pictures of a grey or of a colour set to their number of channels, or refuse those of the other kind.

    Many grey images are stored with three equal channels, or with an alpha channel; that is no mixture. A grey picture
    among colour ones is one, and colour among grey ones too: a network would tell them apart by that alone.

    Args:
        keys: the images, (C, H, W), C = 1, 2 (grey and alpha), 3 or 4 (colour and alpha); ``grey_or_rgb`` makes sure
            of that.
        channels: 1 for grey, 3 for colour.

    Raises:
        ValueError: for other ``channels``; (when called) for a picture of the other kind, by file.
    """

    def __init__(self, keys: KeysCollection, channels: int = 1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels}.")
        self.channels = channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with (``channels``, H, W) under each of ``keys``."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._convert(result[key])
        return result

    def _convert(self, image: torch.Tensor) -> torch.Tensor:
        name = str(image.meta.get("filename_or_obj", "image")) if isinstance(image, MetaTensor) else "image"
        if len(image) in (2, 4):
            image = image[:-1]
        apart = float((image - image[:1]).abs().max())
        if self.channels == 1:
            if apart > 0:
                raise ValueError(f"{name}: a grey image was expected, got colour (channels differ by up to {apart:g}).")
            return image[:1]
        if len(image) != 3 or apart == 0:
            raise ValueError(f"{name}: a colour image was expected, got grey ({len(image)} channels without colour).")
        return image
