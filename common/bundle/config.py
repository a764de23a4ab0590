"""One definition for several configs: a config takes an item of another config of its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser


def from_config(
    item: str,
    given: Mapping[str, Any],
    **arguments: Any,
) -> Any:
    """
    Build an item of another config of a bundle, so that train.json need not repeat what inference.json says.

    MONAI's macro ``%file::id`` takes paths relative to the working folder and fails from any other.

    Args:
        item: file in the bundle's ``configs`` folder and id of the item in it, e.g. "inference.json::network_def".
        given: top-level values that replace those of the file: ``bundle_root``, and what differs, e.g. ``labels``.
        arguments: of the item itself that differ, e.g. ``use_checkpointing=True``; one by one, so that an overlay's
            ``network_def#use_checkpointing`` means the same in both configs.

    Returns:
        The item, instantiated or evaluated.

    Raises:
        FileNotFoundError: when there is no such file.
        KeyError: when the file has no such item, or ``given`` no ``bundle_root``.
    """
    file, _, id = item.partition("::")
    path = Path(given["bundle_root"], "configs", file)
    if not path.is_file():
        raise FileNotFoundError(f"No config {path}.")
    parser = ConfigParser(ConfigParser.load_config_file(path))
    parser.update(dict(given))
    parser.update({f"{id}::{name}": value for name, value in arguments.items()})
    if id not in parser:
        raise KeyError(f"{path} has no item {id!r}.")
    return parser.get_parsed_content(id)
