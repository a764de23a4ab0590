"""Sampling of images larger than a network was trained at, and of stacks of slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion.seeds import case_seeds, network_divisor, with_metadata
from ..utils.progress import portion
from .direct import DirectSampler
from .sampler import DiffusionSampler


class TiledNetwork(nn.Module):
    """
    A network whose prediction for a large image is blended from overlapping tiles.

    Blending the prediction of every step, not finished samples, gives one image: samples of neighbouring tiles differ,
    and their mean would be blurred where they overlap.

    Args:
        module: called as ``module(x, timesteps=t)``, or ``module(x)`` where this network is.
        tile: (X, Y), each a multiple of the network's ``divisor``.
        overlap: of neighbouring tiles, share of a side, in [0, 1).
        batch_size: tiles at once.

    Raises:
        ValueError: when the network cannot take such tiles.

    >>> network = TiledNetwork(torch.nn.Identity(), tile=(8, 8))
    >>> network.module.forward = lambda x, timesteps: 2 * x
    >>> torch.allclose(network(torch.ones(1, 1, 12, 12), torch.tensor([3])), torch.full((1, 1, 12, 12), 2.0))
    True
    """

    def __init__(self, module: nn.Module, tile: tuple[int, int], overlap: float = 0.25, batch_size: int = 4) -> None:
        super().__init__()
        divisor = network_divisor(module)
        if any(side % divisor for side in tile):
            raise ValueError(f"The sides of a tile must be multiples of {divisor}, got {tile}.")
        self.module = module
        self.tile = tile
        self.overlap = overlap
        self.batch_size = batch_size
        self.train(module.training)  # what the sampler switches off and on again is the network's own mode

    def forward(self, x: Tensor, timesteps: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (N, C, X, Y), sides multiples of ``divisor``.
            timesteps: (N,), all the same; None for a network without time.

        Returns:
            (N, C', X, Y).
        """
        tile = tuple(min(side, most) for side, most in zip(x.shape[2:], self.tile))

        def predict(tiles: Tensor) -> Tensor:
            time = {} if timesteps is None else {"timesteps": timesteps[:1].expand(len(tiles))}
            return self.module(tiles, **time)

        if tile == tuple(x.shape[2:]):
            return predict(x)
        return SlidingWindowInferer(tile, self.batch_size, self.overlap, mode="gaussian")(x, predict)  # type: ignore


class SliceSampler(Inferer):
    """
    A ``DiffusionSampler`` for images of any size and stacks of slices, called as ``inferer(inputs, network)``.

    Sides are extended by their border pixels to multiples of the network's ``divisor`` and cut back afterwards.

    Args:
        sampler: draws the slices, each by its own seed; or a ``DirectSampler``.
        tile: (X, Y) or one number: larger slices are sampled by ``TiledNetwork``; None to give them to the network
            whole.
        overlap: of the tiles.
        batch_size: slices, or tiles, at once.
        only_where: a channel of the condition, such as that of a hole: slices where it is nowhere above 0 are not
            sampled and stay 0.

    Raises:
        ValueError: for an overlap or a batch size outside their range, or tiles of a network with latent variables.

    Source: the blending of predictions as in MultiDiffusion, Bar-Tal et al. 2023, eq. 5.

    >>> from ..diffusion.schedules import NoiseSchedule
    >>> inferer = SliceSampler(DiffusionSampler(NoiseSchedule(), num_inference_steps=2, progress=False))
    >>> inferer(torch.zeros(1, 1, 8, 9, 2), lambda x, timesteps: x[:, :1]).shape
    torch.Size([1, 1, 8, 9, 2])
    """

    def __init__(
        self,
        sampler: DiffusionSampler | DirectSampler,
        tile: int | tuple[int, int] | None = None,
        overlap: float = 0.25,
        batch_size: int = 4,
        only_where: int | None = None,
    ) -> None:
        super().__init__()
        if tile is not None:
            tile = (tile, tile) if isinstance(tile, int) else (int(tile[0]), int(tile[1]))
        if not 0 <= overlap < 1 or batch_size < 1:
            raise ValueError(
                f"overlap in [0, 1) and a batch_size of at least 1 were expected, got {overlap}, {batch_size}."
            )
        if tile is not None and getattr(sampler, "latent", False):
            raise ValueError("Latent variables are drawn for whole images: set fit to resize or whole instead of tile.")
        self.sampler = sampler
        self.tile: Any = tile
        self.overlap = overlap
        self.batch_size = batch_size
        self.only_where = only_where

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor]) -> Tensor:  # type: ignore[override]
        """
        Args:
            inputs: the condition, (N, C', X, Y) or (N, C', X, Y, Z) with Z slices.
            network: see ``DiffusionSampler``.

        Returns:
            (N, channels of the sampler, X, Y) or (..., Z), float32, with the metadata of ``inputs``.

        Raises:
            ValueError: for inputs of another shape.
        """
        if inputs.ndim not in (4, 5):
            raise ValueError(f"inputs must be (N, C, X, Y) or (N, C, X, Y, Z), got {tuple(inputs.shape)}.")
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        stack = plain[..., None] if plain.ndim == 4 else plain
        slices = stack.permute(0, 4, 1, 2, 3).flatten(0, 1)
        seeds = case_seeds(self.sampler.seed, slices, expect_equal=True)  # empty slices of a volume
        wanted = torch.arange(len(slices))
        if self.only_where is not None:
            wanted = wanted[(slices[:, self.only_where] > 0).flatten(1).any(1).cpu()]
        padded, size = _extended(slices.float(), network_divisor(network)), slices.shape[2:]
        if self.tile is not None:
            network = TiledNetwork(network, self.tile, self.overlap, self.batch_size)  # type: ignore[arg-type]
        copies = {"samples": self.sampler.num_samples, "mean_std": 2}.get(self.sampler.output, 1)
        image = padded.new_zeros(len(slices), copies * self.sampler.out_channels, *padded.shape[2:])
        for part in wanted.split(self.batch_size):
            with portion(len(part) / len(wanted)):
                image[part] = self.sampler(padded[part], network, seeds=[seeds[index] for index in part.tolist()])
        image = image[..., : size[0], : size[1]]
        image = image.unflatten(0, (len(plain), -1)).permute(0, 2, 3, 4, 1)
        first = [seeds[case * stack.shape[-1]] for case in range(len(plain))]
        return with_metadata(image.reshape(*image.shape[:4], *plain.shape[4:]).contiguous(), inputs, first)


def _extended(slices: Tensor, divisor: int) -> Tensor:
    """(N, C, X, Y) with the far borders repeated up to multiples of ``divisor``."""
    x, y = (-side % divisor for side in slices.shape[2:])
    return F.pad(slices, (0, y, 0, x), mode="replicate")
