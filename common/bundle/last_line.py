"""What a user of the command line sees after a mistake: one message, last and alone, instead of a traceback."""

from __future__ import annotations

import contextlib
import errno
import logging
import secrets
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser

from ..utils import message_of, root_cause

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the system names no file where an open one cannot grow
_LINES = 2  # of a message on the console, beside MONAI's notice that configs are code, and the place of the rest

logger = logging.getLogger(__name__)


class LastLine:
    """
    A ``sys.excepthook`` that prints the message of an error's root cause, last and alone.

    The traceback goes to "error.log" in the config's ``output_dir``, to a temporary file where that cannot be
    written, or to the console with ``--debug True``. An error with an ``exit_status`` ends the process with it, and is
    no failure: it has no traceback.

    Args:
        parser: of the config that runs.
        before: the hook that was there, for the console and for what is no ``Exception``.
    """

    def __init__(self, parser: ConfigParser, before: Callable[..., Any]) -> None:
        self.parser = parser
        self.before = before

    @classmethod
    def install(cls, parser: ConfigParser) -> None:
        """
        Put one in the place of ``sys.excepthook``, or give ``parser`` to the one that is there; the "error.log" of an
        earlier run goes.
        """
        if isinstance(sys.excepthook, cls):
            sys.excepthook.parser = parser
        else:
            sys.excepthook = cls(parser, sys.excepthook)
            in_threads = threading.excepthook  # TensorBoard's writer raises in the main thread what it met in its own
            threading.excepthook = lambda args: None if _is_full(args.exc_value) else in_threads(args)
        if (old := sys.excepthook._log()) is not None:
            with contextlib.suppress(OSError):
                old.unlink(missing_ok=True)

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print ``error``."""
        if not isinstance(error, Exception):
            self.before(kind, error, trace)
            return
        message, status = message_of(error), getattr(root_cause(error), "exit_status", None)
        if _is_full(root_cause(error)):
            message = f"{self._setting('output_dir', 'output_dir')}: {root_cause(error).strerror}."  # type: ignore[attr-defined]
        sys.stdout.flush()
        if status is None and self._setting("debug", False):
            self.before(kind, error, trace)
        elif status is None:
            log = self._write("".join(traceback.format_exception(kind, error, trace))) or "no file: none can be written"
            print(f"The traceback is in {log}; --debug True shows it here.", file=sys.stderr)
        if message.count("\n") >= _LINES:
            logger.error(message)
        print(shortened(message), file=sys.stderr, flush=True)
        if status is not None:
            raise SystemExit(status)

    def _setting(self, name: str, default: Any) -> Any:
        try:
            return self.parser.get_parsed_content(name) if name in self.parser else default
        except Exception:  # it is evaluated after an error, which may be its own
            return default

    def _log(self) -> Path | None:
        folder = self._setting("output_dir", None)
        return Path(folder).absolute() / "error.log" if isinstance(folder, (str, Path)) else None

    def _write(self, text: str) -> Path | None:
        for path in (self._log(), Path(tempfile.gettempdir()) / f"error_{secrets.token_hex(4)}.log"):
            if path is None:
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                with path.open("xb") as file:  # through no link
                    file.write(text.encode(errors="backslashreplace"))  # names need not be UTF-8
                return path.resolve()
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)  # not half of it
        return None


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL and error.filename is None


def shortened(message: str) -> str:
    """
    A message in two lines: of a list of files, all names, and the reason of the first.

    Example:
        >>> print(shortened("2 of 9 inputs cannot be used:\\n  in/a.png: damaged.\\n  in/b.png: damaged."))
        2 of 9 inputs cannot be used (a.png, b.png); every reason is in the log. The first:
        in/a.png: damaged.
    """
    first, *others = [line.strip() for line in message.splitlines()] or [""]
    if len(others) < _LINES:
        return "\n".join([first, *others])
    if first.endswith(":") and all(": " in line for line in others):
        names = ", ".join(Path(line.split(": ")[0]).name for line in others)
        return f"{first.rstrip(':')} ({names}); every reason is in the log. The first:\n{others[0]}"
    return f"{first}\n{others[0]} ({len(others) - 1} more lines are in the log.)"
