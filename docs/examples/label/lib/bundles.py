"""Running a bundle inside MONAI Label's process: its own code, and nothing but numbers and choices from a request."""

from __future__ import annotations

import importlib
import json
import math
import sys
import threading
from pathlib import Path
from typing import Any

import monai.bundle
from fastapi import HTTPException
from monailabel.utils.others.class_utils import unload_module
from monailabel.utils.others.generic import name_to_device

_LOCK = threading.Lock()
_MISTAKES = (ValueError, KeyError, FileNotFoundError, ImportError, MemoryError)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a config or a record."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_config(root: Path, name: str) -> dict[str, Any]:
    """A config of a bundle, with the values that it takes over from the bundle's study.json in their places."""
    study = root / "configs" / "study.json"
    given = {f"$@from_study['{key}']": value for key, value in (read_json(study) if study.is_file() else {}).items()}
    config = read_json(root / "configs" / name)
    return {key: given.get(value, value) if isinstance(value, str) else value for key, value in config.items()}


def run_bundle(root: Path, *configs: str, **settings: Any) -> None:
    """
    Run configs of a bundle as ``python -m monai.bundle run`` does.

    Args:
        root: folder of the bundle.
        configs: files in its ``configs``, each over those before it.
        settings: values of the config. Texts that begin with "$" would be run as code: pass none from a request.

    Raises:
        HTTPException: 400 with the message of the bundle for an input that cannot be used.
    """
    with _LOCK:  # the module "scripts" is each bundle's own, and the seed is the process's
        unload_module("scripts")
        before = list(sys.path)  # MONAI adds to it as well
        sys.path.insert(0, str(root))
        try:
            files = [str(root / "configs" / config) for config in configs]
            monai.bundle.run(config_file=files, logging_file=False, **settings)
        except Exception as error:
            utils = importlib.import_module("scripts.utils")
            if isinstance(utils.root_cause(error), _MISTAKES):
                raise HTTPException(400, utils.message_of(error)) from error
            raise
        finally:
            sys.path[:] = before


def own_numbers(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The settings among ``names`` that a config has as a number."""
    return {name: config[name] for name in names if isinstance(config.get(name), (int, float))}


def numbers_of(request: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """
    Those settings of a request that a config has, as numbers of the config's types.

    Raises:
        HTTPException: 400 for what is no such number.
    """
    found = {}
    for name, default in defaults.items():
        value = request.get(name, default)
        try:
            number = type(default)(value)
            plain = not isinstance(value, bool) and math.isfinite(float(value)) and number == float(value)
        except (TypeError, ValueError, OverflowError):
            plain = False
        if not plain:
            raise HTTPException(400, f"{name}: a number such as {default} was expected, got {value!r}.")
        found[name] = number
    return found


def chosen_of(request: dict[str, Any], choices: dict[str, list[str]]) -> dict[str, str]:
    """
    Those settings of a request that are a choice, the first of each where it makes none.

    Raises:
        HTTPException: 400 for what is no such choice.
    """
    chosen = {}
    for name, known in choices.items():
        given = request.get(name, known)
        one = given[0] if isinstance(given, list) and given else given
        if not isinstance(one, str) or one not in known:
            raise HTTPException(400, f"{name}: one of {known} was expected, got {one!r}.")
        chosen[name] = one
    return chosen


def torch_device(name: str) -> str:
    """What a config is given for a device that MONAI Label lists."""
    return f"$torch.device({name_to_device(name)!r})"
