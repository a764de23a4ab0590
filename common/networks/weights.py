"""Weights as files: read without running code, loaded strictly with the first differing keys named, written whole."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..utils.files import stand_in, written_whole

_SHOWN = 3
# Of ``ConditionalDiffusionUNet``: the convolutions that read the input, first its image, then its conditions.
_FIRST, _REFINER = "conv_in.conv.weight", "refiner.conv_in.conv.weight"


class MissingWeights(FileNotFoundError):
    """
    There is no file of weights: on the command line the message says what to do, and no traceback goes with it.

    Example:
        >>> load_weights(nn.Identity(), "none.pt", made_by="train.json")
        Traceback (most recent call last):
        common.networks.weights.MissingWeights: No weights at none.pt. They are made by train.json.
    """

    exit_status = 1


def load_weights(
    network: nn.Module, path: str | os.PathLike[str], key: str | None = None, made_by: str | None = None
) -> nn.Module:
    """
    Load a state dict from ``path`` into ``network``, every key and shape as expected.

    Args:
        network: the network to fill, in place; its device is kept.
        path: a plain state dict, or a training checkpoint, a dict whose entry ``key`` is one.
        key: the entry of a training checkpoint, e.g. "ema" or "network"; None for a plain state dict.
        made_by: what makes the file, such as a command, for the message when there is none.

    Returns:
        ``network``.

    Raises:
        FileNotFoundError: when ``path`` is no file.
        ValueError: when it cannot be read, holds no such entry, or belongs to another network.
    """
    load_strictly(network, state_dict_of(read_checkpoint(path, made_by), path, key), str(path))
    return network


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


def read_checkpoint(
    path: str | os.PathLike[str], made_by: str | None = None, map_location: str | torch.device = "cpu"
) -> Any:
    """
    What ``torch.save`` wrote to ``path``; tensors and plain containers only (``weights_only=True``).

    Args:
        path: the file.
        made_by: see ``load_weights``.
        map_location: device of the tensors.

    Raises:
        FileNotFoundError: when ``path`` is no file.
        ValueError: when it is damaged, or holds objects other than tensors and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        others = sorted(file.name for file in path.parent.glob("*.pt") if file.is_file())
        hint = f" They are made by {made_by}." if made_by else ""
        hint += f" Beside it: {', '.join(others)}." if others else ""
        raise MissingWeights(f"No weights at {path}.{hint}")
    try:
        _check_whole(path)
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # damaged files raise a dozen types, from EOFError to UnpicklingError
        reason = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        if "weights_only" in reason or "Weights only" in reason:  # PyTorch goes on to say how to run its code
            reason = "not what torch.save writes of a state_dict()"
        reason = stand_in(path) or reason
        raise ValueError(
            f"{path} cannot be read as PyTorch weights (tensors only): damaged, or another kind of file ({reason})."
        ) from error


def _check_whole(path: Path) -> None:
    """Compare the checksums of a file of weights, which ``torch.load`` reads past."""
    if zipfile.is_zipfile(path):  # what torch.save wrote before PyTorch 1.6 has none
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the checksum of its entry {damaged} is wrong")


def state_dict_of(content: Any, path: str | os.PathLike[str], key: str | None = None) -> dict[str, Tensor]:
    """
    The state dict in ``content``: itself, or its entry ``key``.

    Raises:
        ValueError: when there is no such entry, or it is no mapping of names to tensors.
    """
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            found = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(f"{path} has no entry {key!r}; it holds {found}.")
        content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{path} holds no state dict but {type(content).__name__}{'' if key is None else f' at {key!r}'}."
        )
    strangers = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        entries = [name for name in strangers if isinstance(content[name], Mapping)]
        hint = f" It looks like a training checkpoint: name its entry with key=, one of {entries}." if entries else ""
        raise ValueError(f"{path} is no plain state dict: {strangers[:_SHOWN]} are not tensors.{hint}")
    return dict(content)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """
    Copy ``state`` into ``network``, or say which keys do not fit; on error the network is left as it was.

    Args:
        network: the network to fill.
        state: its state dict.
        source: where ``state`` comes from, for the message.

    Raises:
        ValueError: naming the first keys that are missing, unexpected, of another shape or type, or not finite.
    """
    message = difference(network, state)
    if message:
        parts = network if isinstance(network, nn.Sequential) else [network]
        raise ValueError(f"{source} does not fit {' + '.join(type(part).__name__ for part in parts)}: {message}.")
    network.load_state_dict(dict(state))


def difference(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The first keys of ``state`` that are missing, unexpected or of no use, in words; empty when it fits."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    fitting = {name: state[name] for name in expected if name in state}
    # counts may be stored as halves with the rest; weights are never whole or complex
    types = [n for n, v in fitting.items() if v.is_complex() or v.is_floating_point() < expected[n].is_floating_point()]
    broken = [name for name, v in fitting.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    parts |= {"of another type": types, "with NaN or infinite values": broken}
    return "; ".join(f"{len(names)} keys {what} ({_first(names)})" for what, names in parts.items() if names)


def save_weights(network: nn.Module | Mapping[str, Tensor], path: str | os.PathLike[str], half: bool = False) -> Path:
    """
    Write a plain state dict, under its final name only once it is complete.

    Args:
        network: the network, or names and tensors.
        path: the file; its folder is made if needed.
        half: matrices and kernels in half precision; normalisation and biases stay as they are.

    Returns:
        The path written.
    """
    given = network.state_dict() if isinstance(network, nn.Module) else network
    state = {name: value.detach().cpu() for name, value in given.items()}
    if half:
        state = {name: value.half() if value.ndim > 1 else value for name, value in state.items()}
    return write_torch(path, state)


def write_torch(path: str | os.PathLike[str], content: Any) -> Path:
    """Write what ``torch.save`` takes, whole; returns the path. An OSError names it, as for a full disk."""
    # Through an open file: given a name, PyTorch writes it into the file, whose bytes would differ from run to run.
    with written_whole(Path(path)) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # "unexpected pos", in the place of what the system said
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
    return Path(path)


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _with_zeros(weight: Tensor, position: int, channels: int) -> Tensor:
    """A convolution's ``weight`` for ``channels`` more input channels, without effect, from ``position`` on."""
    zeros = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    return torch.cat([weight[:, :position], zeros, weight[:, position:]], dim=1)
