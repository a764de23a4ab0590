"""What an error says, without what MONAI and PyTorch wrap around it."""

from __future__ import annotations

import re

_WRAPPED = ("Failed to instantiate component", "Failed to evaluate", "applying transform")
_SAID = (ValueError, OSError, RuntimeError, MemoryError, ImportError)  # whose messages are sentences


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
