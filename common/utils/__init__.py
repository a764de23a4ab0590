"""What every room uses: packages that import their modules when asked, and what an error says without its wrapping."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

_WRAPPED = ("Failed to instantiate component", "Failed to evaluate", "applying transform")
_SAID = (ValueError, OSError, RuntimeError, MemoryError, ImportError)  # whose messages are sentences


def exported(package: str, names: Mapping[str, Sequence[str]]) -> tuple[Any, Any, list[str]]:
    """
    ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports its modules when their names are asked for.

    Args:
        package: its ``__name__``.
        names: public names by the module that defines them.
    """
    module_of = {name: module for module, found in names.items() for name in found}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return get, lambda: sorted(module_of), sorted(module_of)


def root_cause(error: BaseException) -> BaseException:
    """
    The error that MONAI's configs and transforms wrap in theirs, which say only where it was raised.

    Example:
        >>> root_cause(ValueError("a.png: damaged."))
        ValueError('a.png: damaged.')
    """
    while isinstance(error, RuntimeError) and error.__cause__ is not None and str(error).startswith(_WRAPPED):
        error = error.__cause__
    return error


def message_of(error: BaseException) -> str:
    """
    What the root cause of an error says, beginning with the path where it knows one; with its type where a message
    alone would not be understood.

    Example:
        >>> message_of(KeyError("inferer")), message_of(FileNotFoundError(2, "No such file or directory", "a.png"))
        ("KeyError: 'inferer'", 'a.png: No such file or directory.')
    """
    cause = root_cause(error)
    if isinstance(cause, OSError) and cause.filename is not None:
        return f"{cause.filename}: {cause.strerror}."
    text = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else str(cause)
    if text.startswith("Caught ") and "Traceback" in text:  # in a worker of a DataLoader: the text of its traceback
        first = re.split(r"\n\nThe above exception was", text)[0]
        return re.sub(r"^[\w.]+: ", "", re.split(r"\n(?=[\w.]+(?:: |$))", first)[-1].strip())
    if (isinstance(cause, _SAID) and text) or (isinstance(cause, KeyError) and " " in text):
        return text.strip()
    return f"{type(cause).__name__}: {cause}"
