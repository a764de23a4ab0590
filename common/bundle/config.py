"""One definition for several configs: a config takes an item of another config of its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser


def from_config(
    file: str,
    id: str,
    given: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Any:
    """
    Build the item ``id`` of the config ``file``, so that train.json need not repeat what inference.json says.

    MONAI's ``%file#id`` macro takes paths relative to the working folder and fails from any other.

    Args:
        file: path of a JSON or YAML config.
        id: of the item, e.g. "network_def".
        given: top-level values that replace those of ``file``, e.g. the caller's ``bundle_root`` and ``labels``.
        arguments: of the item itself that differ, e.g. ``use_checkpointing=True``; one by one, so that an overlay's
            ``network_def#use_checkpointing`` means the same in both configs.

    Returns:
        The item, instantiated or evaluated.

    Raises:
        FileNotFoundError: when there is no such file.
        KeyError: when ``file`` has no item ``id``.
    """
    parser = ConfigParser(ConfigParser.load_config_file(file))
    parser.update(dict(given or {}))
    parser.update({f"{id}::{name}": value for name, value in arguments.items()})
    if id not in parser:
        raise KeyError(f"{file} has no item {id!r}.")
    return parser.get_parsed_content(id)
