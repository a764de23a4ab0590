"""Batches for a sampler that is conditioned by class alone, or by nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class ClassPrepareBatch:
    """
    Turn a batch of numbered cases into what ``DiffusionSampler`` is called with: the shape, seeds and classes.

    Args:
        spatial_size: sides of the images.
        conditional: whether the network is told the class.
    """

    def __init__(self, spatial_size: Sequence[int], conditional: bool = True) -> None:
        self.spatial_size = tuple(spatial_size)
        self.conditional = conditional

    def __call__(
        self, batchdata: Mapping[str, Any], device: str | torch.device | None = None, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Returns zeros (N, 1, *spatial), the numbers (N,), no positional and the sampler's keyword arguments."""
        seeds = torch.as_tensor(batchdata["seed"])
        inputs = torch.zeros(len(seeds), 1, *self.spatial_size, device=device)
        keywords: dict[str, Any] = {"seeds": seeds}
        if self.conditional:
            keywords["class_labels"] = torch.as_tensor(batchdata["class_index"]).to(device)
        return inputs, torch.as_tensor(batchdata["number"]), (), keywords
