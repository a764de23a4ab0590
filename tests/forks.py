"""
Programs started as users start them, without the five seconds in which MONAI is imported: forks of this process.

A fork forgets what is of this project, takes a folder, arguments and an environment of its own, and shows warnings and
errors as a fresh Python does. Some tests still start real processes, so that nothing rests on forks alone.
"""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.fixtures import REPOSITORY

_streams: list[Any] = []  # of the process before the fork: one that is forgotten closes standard output with it
OURS = ("common", "conditional_diffusion", "scripts")


class Ended(NamedTuple):
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Fork:
    """
    A running fork of this process.

    Args:
        work: what it does; a number that it returns, or ``sys.exit``, is its status.
        folder: its working folder.
        arguments: ``sys.argv``.
        path: folders on the path before the installed packages; the working folder comes first, as with ``python -m``.
        environment: changes of it; None takes a variable away.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        folder: str | Path,
        arguments: Sequence[Any] = ("python",),
        path: Sequence[str | Path] = (),
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                _begin_anew(self._files, Path(folder), [*map(str, arguments)], [*map(str, path)], environment or {})
                status = _status_of(work)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException as error:
                os.write(2, repr(error).encode())
            finally:
                os._exit(status)

    def wait(self, seconds: float = 300) -> Ended:
        """What it said, after its end; it is killed, and ``TimeoutError`` raised, when it takes longer."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"{os.waitpid(self.pid, 0)}: not at its end after {seconds} s: {self._texts()}")
            time.sleep(0.02)
        return Ended(os.waitstatus_to_exitcode(status), *self._texts())

    def _texts(self) -> list[str]:
        for file in self._files:
            file.seek(0)
        return [file.read() for file in self._files]


def module(name: str, arguments: Sequence[Any], folder: str | Path, **environment: str | None) -> Fork:
    """``python -m name arguments`` in ``folder``, with nothing of this repository on the path."""
    work = lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)  # noqa: E731
    return Fork(work, folder, [name, *arguments], environment=environment)


def code(text: str, arguments: Sequence[Any], folder: str | Path, path: Sequence[str | Path] = ()) -> Ended:
    """``python -c text arguments`` in ``folder``, and its end."""
    return Fork(lambda: exec(text, {"__name__": "__main__"}), folder, ["-c", *arguments], path).wait()


def _begin_anew(
    files: Sequence[Any], folder: Path, arguments: list[str], path: list[str], environment: Mapping[str, str | None]
) -> None:
    _streams.extend([sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__])
    old = {id(sys.stdout): 1, id(sys.__stdout__): 1, id(sys.stderr): 2, id(sys.__stderr__): 2}
    for number, file in enumerate(files, start=1):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    logging.root.handlers.clear()
    for logger in logging.root.manager.loggerDict.values():
        for handler in getattr(logger, "handlers", ()):
            if type(handler) is logging.StreamHandler:
                handler.stream = sys.stdout if old.get(id(handler.stream), 1) == 1 else sys.stderr
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.showwarning = warnings._showwarning_orig  # type: ignore[attr-defined]
    sys.excepthook = sys.__excepthook__
    torch.set_num_threads(1)
    os.chdir(folder)
    for name, value in environment.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    kept = [
        place
        for place in sys.path
        if (place and not Path(place).is_relative_to(REPOSITORY)) or "site-packages" in place
    ]
    sys.path[:] = [str(folder), *path, *kept]
    sys.argv[:] = arguments


def _status_of(work: Callable[[], Any]) -> int:
    """The status with which Python would end."""
    try:
        result = work()
        return result if isinstance(result, int) else 0
    except SystemExit as end:
        return _code_of(end)
    except BaseException as error:
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except SystemExit as end:
            return _code_of(end)
        return 1


def _code_of(end: SystemExit) -> int:
    if isinstance(end.code, str):
        print(end.code, file=sys.stderr)
        return 1
    return end.code or 0
