"""Start training from the weights of a network that saw fewer conditions."""

from __future__ import annotations

import logging
import os

import torch
from torch import Tensor, nn

from .state_dict import load_strictly, read_checkpoint, state_dict_of

_FIRST, _REFINER = "conv_in.conv.weight", "refiner.conv_in.conv.weight"


def load_initial(network: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """
    Load weights to train on from; condition channels that the file's network lacked get zeros, so that both agree.

    The channels of the file are taken to be the first ones of ``network``: the noisy image, then its conditions. An
    inpainting network, whose last condition is the hole, starts so from one for denoising or super-resolution.

    Args:
        network: the network to fill, in place; channels are added to a ``ConditionalDiffusionUNet`` only.
        path: a plain state dict, of ``network`` or of the same network with fewer input channels.

    Returns:
        ``network``.

    Raises:
        FileNotFoundError: when ``path`` is no file.
        ValueError: when it cannot be read, or differs from ``network`` in more than its input channels.
    """
    state = state_dict_of(read_checkpoint(path), path)
    wanted = network.state_dict()
    folded = getattr(network, "patch_size", 1) ** getattr(network, "spatial_dims", 1)
    known = missing = 0
    if _FIRST in state and _FIRST in wanted:
        known = state[_FIRST].shape[1]
        missing = wanted[_FIRST].shape[1] - known
    if missing > 0 and missing % folded == 0 and known % folded == 0:
        state[_FIRST] = _with_zeros(state[_FIRST], known, missing)
        if _REFINER in state:
            state[_REFINER] = _with_zeros(state[_REFINER], known // folded, missing // folded)
    load_strictly(network, state, str(path))
    if missing > 0:
        logging.getLogger(__name__).info("%s has %d conditions fewer: zeros.", path, missing // folded)
    return network


def _with_zeros(weight: Tensor, position: int, channels: int) -> Tensor:
    """A convolution's ``weight`` for ``channels`` more input channels, without effect, from ``position`` on."""
    zeros = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    return torch.cat([weight[:, :position], zeros, weight[:, position:]], dim=1)
