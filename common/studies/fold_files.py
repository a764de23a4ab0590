"""What a trained fold leaves in its study's folder: record, probabilities and weights that belong together."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..networks.weights import save_weights
from ..utils.files import sha256_of, written_whole

RECORD, FOUND, WEIGHTS = ".json", ".npz", ".pt"


def images_digest(cases: Sequence[Mapping[str, Any]]) -> str:
    """A short hash of loaded images and their classes, in their order."""
    parts = ((str(case["class"]), torch.as_tensor(case["image"])) for case in cases)
    return _digest(part for name, image in parts for part in (name.encode(), _bytes(image)))


def weights_digest(network: nn.Module) -> str:
    """A short hash of a network's weights and buffers."""
    return _digest(part for name, value in network.state_dict().items() for part in (name.encode(), _bytes(value)))


def described(value: Any) -> Any:
    """Class and parameters of an object, JSON-ready, with those of what it holds; random states are left out."""
    if value is None or isinstance(value, (str, int, float)):
        return str(value) if isinstance(value, Enum) else value
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): described(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, range)):
        return [described(entry) for entry in value]
    if isinstance(value, functools.partial):
        return [described(value.func), described(value.args), described(value.keywords)]
    if isinstance(value, type) or hasattr(value, "__code__"):
        return getattr(value, "__qualname__", type(value).__name__)
    if isinstance(value, np.random.RandomState) or not hasattr(value, "__dict__"):
        return type(value).__name__
    return [type(value).__name__, {key: described(entry) for key, entry in sorted(vars(value).items())}]


def remove_fold(stem: Path) -> None:
    """Take away what an earlier run left, the record first: without it nothing is taken for complete."""
    for suffix in (RECORD, FOUND, WEIGHTS):
        stem.with_suffix(suffix).unlink(missing_ok=True)


def write_fold(stem: Path, record: Mapping[str, Any], found: np.ndarray, network: nn.Module | None) -> dict[str, Any]:
    """
    Write one fold; its record comes last, so that where it stands the fold is complete.

    Args:
        stem: the files' common name, ``<architecture>/fold_<k>``.
        record: JSON-ready.
        found: (n, classes) probabilities of the test images.
        network: whose weights are kept; None for no weights.

    Returns:
        The record with the SHA-256 of the other files at "files".
    """
    if network is not None:
        save_weights(network, stem.with_suffix(WEIGHTS), half=True)
    with written_whole(stem.with_suffix(FOUND)) as path:
        np.savez_compressed(path, probabilities=found)
    kept = [FOUND] if network is None else [FOUND, WEIGHTS]
    record = {**record, "files": {suffix: sha256_of(stem.with_suffix(suffix)) for suffix in kept}}
    with written_whole(stem.with_suffix(RECORD)) as path:
        path.write_text(json.dumps(record, indent=2, default=str) + "\n")
    return record


def read_fold(stem: Path, identity: Mapping[str, Any], weights: bool) -> dict[str, Any] | None:
    """
    The record of a complete fold with its "probabilities", or None where it has to be trained.

    Args:
        stem: see ``write_fold``.
        identity: what its result depends on, JSON-ready.
        weights: whether its weights must be there.

    Raises:
        FileExistsError: when what is there depends on something else; names it.
    """
    path = stem.with_suffix(RECORD)
    if not path.is_file():
        return None
    check_fold(stem, identity)
    record = json.loads(path.read_text())
    needed = [FOUND, WEIGHTS] if weights else [FOUND]
    if not all(is_whole(stem, suffix, record) for suffix in needed):
        return None
    with np.load(stem.with_suffix(FOUND), allow_pickle=False) as arrays:
        return {**record, "probabilities": arrays["probabilities"]}


def check_fold(stem: Path, identity: Mapping[str, Any]) -> None:
    """
    Refuse to write over a fold whose result depends on something else.

    Args:
        stem: see ``write_fold``.
        identity: all or some of what the result depends on, JSON-ready.

    Raises:
        FileExistsError: names what differs.
    """
    path = stem.with_suffix(RECORD)
    if not path.is_file():
        return
    # Through JSON, as the stored one went: tuples become lists.
    wanted = json.loads(json.dumps(identity, default=str))
    found = json.loads(path.read_text()).get("identity", {})
    other = _difference({key: found.get(key) for key in wanted}, wanted)
    if other:
        raise FileExistsError(
            f"{path} is of an earlier run with other {other}: choose another output_dir, or --overwrite True."
        )


def is_whole(stem: Path, suffix: str, record: Mapping[str, Any]) -> bool:
    """Whether the file of this ending is the one that the record was written with."""
    path = stem.with_suffix(suffix)
    return path.is_file() and record.get("files", {}).get(suffix) == sha256_of(path)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Names of what differs, of a mapping within them the name there; empty where nothing does."""
    names: list[str] = []
    for key in sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key)):
        one, other = found.get(key), wanted.get(key)
        names.append(_difference(one, other) if isinstance(one, dict) and isinstance(other, dict) else key)
    return ", ".join(dict.fromkeys(names))


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def _bytes(values: torch.Tensor) -> bytes:
    return values.detach().cpu().contiguous().numpy().tobytes()
