"""Running a bundle inside MONAI Label's process: its own code, and nothing but numbers from a request."""

from __future__ import annotations

import importlib
import math
import sys
import threading
from pathlib import Path
from typing import Any

import monai.bundle
from fastapi import HTTPException
from monailabel.utils.others.class_utils import unload_module

_LOCK = threading.Lock()
_MISTAKES = (ValueError, KeyError, FileNotFoundError, ImportError, MemoryError)


def run_bundle(root: Path, config: str, **settings: Any) -> None:
    """
    Run a config of a bundle as ``python -m monai.bundle run`` does.

    Args:
        root: folder of the bundle.
        config: file in its ``configs``.
        settings: values of the config. Texts that begin with "$" would be run as code: pass none from a request.

    Raises:
        HTTPException: 400 with the message of the bundle for an input that cannot be used.
    """
    with _LOCK:  # the module "scripts" is each bundle's own, and the seed is the process's
        unload_module("scripts")
        before = list(sys.path)  # MONAI adds to it as well
        sys.path.insert(0, str(root))
        try:
            monai.bundle.run(config_file=str(root / "configs" / config), logging_file=False, **settings)
        except Exception as error:
            utils = importlib.import_module("scripts.utils")
            if isinstance(utils.root_cause(error), _MISTAKES):
                raise HTTPException(400, utils.message_of(error)) from error
            raise
        finally:
            sys.path[:] = before


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


def only_file(value: Any, what: str) -> str:
    """The absolute path of a file or folder that a request names; absolute, so that it is never taken for code."""
    path = Path(str(value)).resolve()
    if value is None or not path.exists():
        raise HTTPException(400, f"{what} was expected, got {value!r}.")
    return str(path)
