"""Sampling with a look at each result: what fails is drawn anew, a few times."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_tensor
from torch import Tensor

from ..diffusion.seeds import sample_seed, with_metadata
from .sampler import DiffusionSampler

_APART = 10_000  # further draws have numbers that no sample of a case has

logger = logging.getLogger(__name__)


class CheckedSampler(Inferer):
    """
    Draw as ``sampler`` does, check what is drawn, and draw a case anew from another seed where it fails.

    The first draw is that of ``sampler`` alone, so that a case that passes is bit-equal without the check; whether and
    how a case is drawn anew depends on its seed alone.

    Args:
        sampler: of one sample a case.
        check: called with images (N, C, *spatial) in [-1, 1], conditions (N, C', *spatial) and, where the sampler is
            told them, ``class_labels`` (N,); a mapping a case, whose "failed" names what failed. None for no check.
        reject: whether a case that fails is drawn anew.
        tries: draws of a case at most; of several that all fail, the one with the fewest failures is kept, with a
            warning.

    Raises:
        ValueError: for rejection without a check or of what no seed changes, no try, or a sampler of several samples.

    Example:
        >>> from ..diffusion.schedules import NoiseSchedule
        >>> sampler = DiffusionSampler(NoiseSchedule("cosine", 250), num_inference_steps=2, progress=False)
        >>> dark = lambda images, masks: [{"failed": ["mean"] * bool(image.mean() > 0)} for image in images]
        >>> drawn = CheckedSampler(sampler, dark, reject=True)(torch.zeros(1, 1, 8, 8), lambda x, timesteps: x[:, :1])
        >>> drawn.shape
        torch.Size([1, 1, 8, 8])
    """

    def __init__(
        self,
        sampler: DiffusionSampler,
        check: Callable[..., Sequence[dict[str, Any]]] | None = None,
        reject: bool = False,
        tries: int = 4,
    ) -> None:
        super().__init__()
        if tries < 1 or (reject and check is None) or (check is not None and sampler.num_samples > 1):
            raise ValueError("A check of single samples and at least one try were expected.")
        if reject and getattr(sampler, "latent", True) is False:
            raise ValueError(
                "--reject True draws anew from another seed, and this network draws the same for each: leave it out."
            )
        self.sampler, self.check, self.reject, self.tries = sampler, check, reject, tries

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """
        As ``DiffusionSampler``, with arguments by name; the result is a ``MetaTensor`` whose metadata has "quality",
        JSON of the check's result and "draws", a case each.
        """
        images = self.sampler(inputs, network, *args, **kwargs)
        if self.check is None:
            return images
        plain, seeds = convert_to_tensor(inputs), list(self.sampler.last_seeds)
        drawn = convert_to_tensor(images)
        if not isinstance(inputs, MetaTensor):
            inputs = MetaTensor(plain, affine=torch.eye(4).repeat(len(plain), 1, 1))
            inputs.is_batch = True
        own = [
            {key: value[[n]] for key, value in kwargs.items() if isinstance(value, Tensor)} for n in range(len(seeds))
        ]
        kept = [self._best(drawn[[n]], plain[[n]], seeds[n], network, **own[n]) for n in range(len(seeds))]
        result: Any = with_metadata(torch.cat([image for image, _, _ in kept]), inputs, [seed for _, seed, _ in kept])
        texts = [json.dumps(found) for _, _, found in kept]
        result.meta["quality"] = texts if result.is_batch else texts[0]
        return result

    def _best(
        self, image: Tensor, mask: Tensor, first: int, network: Any, **kwargs: Any
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Image, seed and findings of the case; the first draw that passes, or else the best."""
        assert self.check is not None
        told = {key: value for key, value in kwargs.items() if key == "class_labels"}
        tried = []
        for number in range(self.tries if self.reject else 1):
            seed = first if number == 0 else sample_seed(first, _APART + number)
            drawn = (
                image if number == 0 else convert_to_tensor(self.sampler(mask, network, **{**kwargs, "seeds": [seed]}))
            )
            found = dict(self.check(drawn, mask, **told)[0])
            tried.append((drawn, seed, found))
            if not found["failed"]:
                break
        best = min(tried, key=lambda one: len(one[2]["failed"]))
        if best[2]["failed"]:
            what = f"fails in {', '.join(best[2]['failed'])}" + f" after {len(tried)} draws" * (len(tried) > 1)
            logger.warning(f"An image {what}: its record and manifest.csv say how.")
        return best[0], best[1], {**best[2], "failed": " ".join(best[2]["failed"]), "draws": len(tried)}
