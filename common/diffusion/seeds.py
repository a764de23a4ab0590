"""What makes a batch of cases sampled together equal the same cases sampled one by one: seeds, noise, padding."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from monai.data import MetaTensor
from monai.utils import convert_to_tensor
from torch import Tensor

_SEEDS = 2**32  # PyTorch's CPU generator reads no more than 32 bits


def case_seeds(
    seed: int,
    condition: Tensor,
    class_labels: Tensor | None = None,
    given: Sequence[int] | Tensor | None = None,
    expect_equal: bool = False,
) -> list[int]:
    """
    A seed for each case that depends on ``seed`` and on the case's own condition and class, not on batch or order.

    Args:
        seed: any integer.
        condition: (N, C, *spatial).
        class_labels: (N,) integer or None.
        given: N seeds that are taken instead; None for none.
        expect_equal: whether equal conditions in a batch are as they should be, such as empty slices.

    Returns:
        N integers in [0, 2^32). Equal conditions get equal seeds, with a warning where they share a batch.

    Raises:
        ValueError: for another number of ``given`` seeds.
    """
    if given is not None:
        return check_seeds(given, len(condition))
    seeds = []
    for index, case in enumerate(condition.detach().cpu().to(torch.float32)):
        digest = hashlib.sha256(f"{seed} {tuple(case.shape)}".encode())
        digest.update(case.contiguous().numpy().tobytes())
        if class_labels is not None:
            digest.update(str(int(class_labels[index])).encode())
        seeds.append(int.from_bytes(digest.digest()[:4], "big"))
    if len(set(seeds)) < len(seeds) and not expect_equal:
        warnings.warn(
            "Cases with the same condition get the same volume; give `seeds` to make them differ.", stacklevel=2
        )
    return seeds


def sample_seed(seed: int, index: int) -> int:
    """The seed of a case's sample number ``index``: ``seed`` itself for the first, a mix of both for the others."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:4], "big")


def check_seeds(seeds: Sequence[int] | Tensor, cases: int) -> list[int]:
    """``seeds`` as a list of ``cases`` integers; a ValueError when there are more or fewer."""
    listed = [int(seed) % _SEEDS for seed in torch.as_tensor(seeds).flatten().tolist()]
    if len(listed) != cases:
        raise ValueError(f"seeds must have one entry a case: {cases} cases, {len(listed)} seeds.")
    return listed


def flat_classes(class_labels: Any, like: Tensor) -> Tensor | None:
    """(N,) class labels of the N cases of ``like``, from a tensor or a list; a ValueError for another number."""
    if class_labels is None:
        return None
    classes = convert_to_tensor(class_labels, wrap_sequence=True).to(like.device).long().flatten()
    if len(classes) != len(like):
        raise ValueError(f"{len(like)} cases need as many class_labels, got {len(classes)}.")
    return classes


def noise_source(seeds: Sequence[int], like: Tensor) -> Callable[[], Tensor]:
    """
    A function that draws standard normal noise of the shape, device and dtype of ``like``, (N, C, *spatial).

    Each case draws from a CPU generator of its own, so its noise depends on its seed alone, not on the device.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw() -> Tensor:
        return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)

    return draw


def network_divisor(network: Any) -> int:
    """What every side of the input must be a multiple of: the network's ``divisor``, also behind DDP, or else 1."""
    return int(getattr(unwrapped(network, "divisor"), "divisor", 1))


def unwrapped(network: Any, attribute: str) -> Any:
    """The network within DDP and ``torch.compile`` that has ``attribute``; None when there is none."""
    while network is not None and not hasattr(network, attribute):
        network = getattr(network, "module", None) or getattr(network, "_orig_mod", None)
    return network


def with_metadata(image: Tensor, source: Tensor, seeds: Sequence[int]) -> Tensor:
    """``image`` with the metadata and applied transforms of ``source``, and each case's seed as ``meta["seed"]``."""
    if not isinstance(source, MetaTensor):
        return image
    result = MetaTensor(image, meta=dict(source.meta), applied_operations=deepcopy(source.applied_operations))
    result.is_batch = source.is_batch
    if source.is_batch:
        result.meta["seed"] = torch.tensor(list(seeds))
    elif len(seeds) == 1:
        result.meta["seed"] = seeds[0]
    return result
