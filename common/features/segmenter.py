"""Reading a whole volume with a segmentation network, whatever its size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.nets import UNet
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from ..networks.convolution import with_small_volumes
from ..networks.weights import load_weights
from ..utils.files import sha256_of
from ..utils.images import pad_to_multiple


class WholeVolumeInferer(Inferer):
    """
    Call a network on whole volumes: edges repeated up to a multiple of ``divisor``, and the result cropped back.

    MONAI's ``SlidingWindowInferer`` pads only up to its window, not to a multiple, and a U-Net of three strides
    needs sides that are multiples of 8. The repeated voxels lie outside the result and outside every metric.

    Args:
        divisor: every side that the network sees is a multiple of it, at least 1.

    Raises:
        ValueError: when ``divisor`` is below 1.

    >>> WholeVolumeInferer(divisor=8)(torch.zeros(1, 1, 9, 12, 10), build_segmenter()).shape
    torch.Size([1, 3, 9, 12, 10])
    """

    def __init__(self, divisor: int = 1) -> None:
        super().__init__()
        if divisor < 1:
            raise ValueError(f"divisor must be at least 1, got {divisor}.")
        self.divisor = divisor

    def __call__(self, inputs: Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """
        Args:
            inputs: (N, C, *spatial), two or three spatial dimensions.
            network: keeps the size of what it is given.

        Returns:
            The network's output, (N, C', *spatial), plain tensor.
        """
        padded, window = pad_to_multiple(convert_to_tensor(inputs), self.divisor, None)
        return network(padded, *args, **kwargs)[window]


def build_segmenter(
    num_labels: int = 2,
    spatial_dims: int = 3,
    channels: Sequence[int] = (16, 32, 64, 128),
    strides: Sequence[int | Sequence[int]] | None = None,
    in_channels: int = 1,
) -> UNet:
    """
    The small U-Net that a bundle's segmenter config trains.

    Args:
        num_labels: the network has an output channel for the background and one a label.
        spatial_dims: 2 or 3.
        channels: a level.
        strides: from level to level; 2 by default. Thick slices take (2, 2, 1).
        in_channels: of the volumes, such as modalities.
    """
    steps = (2,) * (len(channels) - 1) if strides is None else tuple(strides)
    return with_small_volumes(
        UNet(spatial_dims, in_channels, 1 + num_labels, channels, steps, num_res_units=2, norm="instance")  # type: ignore
    )


class Segmenter:
    """
    A segmentation network with its weights, ready to read volumes.

    Args:
        network: a plain network, e.g. MONAI's ``UNet``.
        weights: its plain state dict.
        divisor: sides that the network sees are multiples of it.
        device: to compute on.
        labels: names that the network was trained to read, in the order of its channels; None where unknown.
        made_by: config that trains it, for the error that says that there are no weights.

    Raises:
        FileNotFoundError: when there are no weights.
        ValueError: when their file is damaged or belongs to another network.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".pt") as file:
    ...     torch.save(build_segmenter().state_dict(), file.name)
    ...     len(Segmenter(build_segmenter(), file.name).describe()["sha256"])
    64
    """

    def __init__(
        self,
        network: nn.Module,
        weights: str | Path,
        divisor: int = 8,
        device: str | torch.device = "cpu",
        labels: Sequence[str] | None = None,
        made_by: str = "configs/train_segmenter.json",
    ) -> None:
        self.weights = Path(weights)
        if not self.weights.is_file():
            raise FileNotFoundError(f"No segmenter at {weights}: train it with {made_by}.")
        self.network = load_weights(network, self.weights).to(device).eval()
        self.device = torch.device(device)
        self.divisor = divisor
        self.labels = None if labels is None else list(labels)

    def describe(self) -> dict[str, Any]:
        """File name and sha256 of the weights, and the labels where they are known."""
        about = {"weights": self.weights.name, "sha256": sha256_of(self.weights)}
        return about if self.labels is None else {**about, "labels": self.labels}
