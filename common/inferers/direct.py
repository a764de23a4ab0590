"""Networks that restore an image in one pass, where a sampler is expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor

from ..diffusion.seeds import case_seeds, with_metadata


@dataclass(eq=False)
class DirectSampler(Inferer):
    """
    Call a network once, in the place of a ``DiffusionSampler`` (in configs, of its step rule too).

    Args:
        out_channels: of the image.
        seed: recorded; the image depends on the condition alone.

    >>> import torch
    >>> DirectSampler()(torch.full((1, 1, 8, 8), 3.0), torch.nn.Identity()).max().item()
    1.0
    """

    out_channels: int = 1
    seed: int = 0
    num_samples: int = field(init=False, default=1)
    output: str = field(init=False, default="samples")

    def __call__(  # type: ignore[override]
        self, inputs: Tensor, network: Callable[..., Tensor], seeds: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """
        Args:
            inputs: the condition, (N, C, *spatial), on the device to run on.
            network: called with ``inputs`` alone; in eval mode during the call.
            seeds: of the cases, recorded.

        Returns:
            (N, out_channels, *spatial), float32, limited to [-1, 1]; with the metadata of ``inputs``, if it has any.
        """
        plain = convert_to_tensor(inputs).float()
        with eval_mode(network):  # type: ignore[arg-type]
            image = network(plain).float().clamp(-1, 1)
        return with_metadata(image, inputs, case_seeds(self.seed, plain) if seeds is None else list(map(int, seeds)))
