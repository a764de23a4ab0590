"""Read weights from a file and load them strictly, naming the first keys that differ."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

_SHOWN = 3


def load_weights(network: nn.Module, path: str | os.PathLike[str], key: str | None = None) -> nn.Module:
    """
    Load a state dict from ``path`` into ``network``, every key and shape as expected.

    Args:
        network: the network to fill, in place; its device is kept.
        path: a plain state dict, or a training checkpoint, a dict whose entry ``key`` is one.
        key: the entry of a training checkpoint, e.g. "ema" or "network"; None for a plain state dict.

    Returns:
        ``network``.

    Raises:
        FileNotFoundError: when ``path`` is no file.
        ValueError: when it cannot be read, holds no such entry, or belongs to another network.
    """
    load_strictly(network, state_dict_of(read_checkpoint(path), path, key), str(path))
    return network


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """
    What ``torch.save`` wrote to ``path``, on the CPU; tensors and plain containers only (``weights_only=True``).

    Raises:
        FileNotFoundError: when ``path`` is no file.
        ValueError: when it is damaged, or holds objects other than tensors and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        others = sorted(file.name for file in path.parent.glob("*.pt"))
        raise FileNotFoundError(f"No weights at {path}." + (f" Beside it: {', '.join(others)}." if others else ""))
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise a dozen types, from EOFError to UnpicklingError
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"{path} cannot be read as PyTorch weights (tensors only): {reason}") from error


def state_dict_of(content: Any, path: str | os.PathLike[str], key: str | None = None) -> dict[str, torch.Tensor]:
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
    strangers = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        entries = [name for name in strangers if isinstance(content[name], Mapping)]
        hint = f" It looks like a training checkpoint: name its entry with key=, one of {entries}." if entries else ""
        raise ValueError(f"{path} is no plain state dict: {strangers[:_SHOWN]} are not tensors.{hint}")
    return dict(content)


def load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """
    Copy ``state`` into ``network``, or say which keys do not fit; on error the network is left as it was.

    Args:
        network: the network to fill.
        state: its state dict.
        source: where ``state`` comes from, for the message.

    Raises:
        ValueError: naming the first missing, unexpected and differently shaped keys.
    """
    message = difference(network, state)
    if message:
        parts = network if isinstance(network, nn.Sequential) else [network]
        raise ValueError(f"{source} does not fit {' + '.join(type(part).__name__ for part in parts)}: {message}.")
    network.load_state_dict(dict(state))


def difference(network: nn.Module, state: Mapping[str, torch.Tensor]) -> str:
    """The first missing, unexpected and differently shaped keys of ``state``, in words; empty when it fits."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return "; ".join(f"{len(names)} keys {what} ({_first(names)})" for what, names in parts.items() if names)


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def save_weights(state: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> Path:
    """
    Write a plain state dict under its final name only once it is complete.

    Args:
        state: names and tensors.
        path: the file; its folder is made if needed.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(dict(state), file)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    """The process's file mode mask: files made by ``mkstemp`` are private, weights need not be."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
