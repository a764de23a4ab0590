"""Networks that restore an image in one pass, where a sampler is expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor

from ..diffusion.seeds import case_seeds, network_divisor, sample_seed, with_metadata
from ..utils.images import pad_to_multiple


@dataclass(eq=False)
class DirectSampler(Inferer):
    """
    Call a network once an image, in the place of a ``DiffusionSampler`` (in configs, of its step rule too).

    Args:
        out_channels: of the image.
        seed: mixed into the seed of each case.
        latent: the network draws latent variables, by the ``generators`` that it is called with; else the image
            depends on the condition alone, and the seed is but recorded.
        num_samples: images drawn for each condition; 1 for a network without latent variables.
        progress: as of a ``DiffusionSampler``, for configs that set it there; one pass shows none.

    Raises:
        ValueError: for several samples of a network without latent variables, or less than one.

    >>> DirectSampler()(torch.full((1, 1, 8, 8), 3.0), torch.nn.Identity()).max().item()
    1.0
    """

    __slots__ = ("last_seeds",)  # of the last call; apart from vars(), which records hold

    out_channels: int = 1
    seed: int = 0
    latent: bool = False
    num_samples: int = 1
    progress: InitVar[bool] = False
    output: str = field(init=False, default="samples")

    def __post_init__(self, progress: bool) -> None:
        self.last_seeds: list[int] = []
        if self.num_samples < 1 or (self.num_samples > 1 and not self.latent):
            why = "." if self.latent else ": the network draws nothing, so that all would be the same."
            raise ValueError(f"num_samples must be 1{' or more' * self.latent} here, got {self.num_samples}{why}")

    def __call__(  # type: ignore[override]
        self, inputs: Tensor, network: Callable[..., Tensor], seeds: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """
        Args:
            inputs: the condition, (N, C, *spatial), on the device to run on; sides of any length.
            network: called with ``inputs``, and with ``generators`` where ``latent``; in eval mode during the call.
            seeds: one integer a case instead of those that ``seed`` and the condition give.

        Returns:
            (N, num_samples x out_channels, *spatial), float32, limited to [-1, 1]; with the metadata of ``inputs``, if
            it has any.
        """
        plain = convert_to_tensor(inputs).float()
        chosen = self.last_seeds = case_seeds(self.seed, plain, given=seeds)
        padded, crop = pad_to_multiple(plain, network_divisor(network))
        images = []
        with eval_mode(network):  # type: ignore[arg-type]
            for index in range(self.num_samples):
                drawn = [torch.Generator().manual_seed(sample_seed(seed, index)) for seed in chosen]
                images.append(network(padded, generators=drawn) if self.latent else network(padded))
        return with_metadata(torch.cat(images, dim=1)[crop].float().clamp(-1, 1), inputs, chosen)
