"""Packages that are optional: imported with an error that says how to get them, and their versions."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

FOR_METRICS = "pip install -r requirements-metrics.txt"


def import_optional(module: str, what: str, how: str) -> Any:
    """
    A module of an optional package; MONAI's ``optional_import`` fails at the first use only, after long work.

    Args:
        module: its name.
        what: needs it, the beginning of a sentence.
        how: to get it, a command.

    Raises:
        ImportError: when the package is missing or cannot be imported.

    >>> import_optional("no_such.module", "Registration", "pip install no-such")
    Traceback (most recent call last):
    ImportError: Registration needs the optional package no_such: pip install no-such.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{what} needs the optional package {module.split('.')[0]}: {how}.") from error


def require(packages: Iterable[str], what: str, how: str) -> None:
    """An ImportError, as of ``import_optional``, when one of these packages is not installed; imports none."""
    if missing := [name for name in packages if version_of(name) is None]:
        raise ImportError(f"{what} needs {' and '.join(missing)}: {how}.")


@functools.cache
def version_of(package: str) -> str | None:
    """
    The version of an installed package; None where it is missing.

    >>> version_of("no-such-package") is None
    True
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None
