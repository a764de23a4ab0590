"""Volumes of several modalities of which one alone is shown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

BLACK = -1.0


def only_channel(images: Tensor, channel: int, dim: int = 1) -> Tensor:
    """
    Images with all channels black but one.

    Args:
        images: any shape, in [-1, 1].
        channel: that is kept.
        dim: axis of the channels; 1 for a batch, 0 for one image.

    Returns:
        The same shape, the other channels ``BLACK``.

    >>> only_channel(torch.zeros(1, 3, 1), 1).flatten().tolist()
    [-1.0, 0.0, -1.0]
    """
    result = torch.full_like(images, BLACK)
    result.select(dim, channel).copy_(images.select(dim, channel))
    return result


class RandOnlyChanneld(RandomizableTransform, MapTransform):
    """
    Show one channel of chance and make the others black, so that a network learns to read from each alone as well.

    Args:
        keys: images (C, *spatial) in [-1, 1] with the same channels.
        prob: of an image being changed.

    >>> case = RandOnlyChanneld("image", prob=1.0).set_random_state(0)({"image": torch.zeros(2, 1)})
    >>> sorted(case["image"].flatten().tolist())
    [-1.0, 0.0]
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with the images."""
        result = dict(data)
        self.randomize(None)
        share = self.R.random()  # drawn in any case, so that what follows does not depend on the change
        if self._do_transform:
            for key in self.key_iterator(result):
                result[key] = only_channel(result[key], int(share * len(result[key])), dim=0)
        return result
