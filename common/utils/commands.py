"""Command lines: mistakes end in one line, and ``fire`` hands over names of files as they were typed."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from . import message_of

_MISTAKES = (ImportError, ValueError, KeyError, OSError, RuntimeError)
_PATH = re.compile(r"str( \| (Path|None))*")  # an annotation, as text


def with_last_line(main: Callable[..., int | None]) -> Callable[..., int]:
    """
    A command line's function that returns the status to exit with: 2 after a mistake, whose message it prints as one
    line, else what ``main`` returns, or 0 for None.

    Example:
        >>> with_last_line(lambda: None)()
        0
    """

    @functools.wraps(main)
    def run(*arguments: Any, **named: Any) -> int:
        try:
            status = main(*arguments, **named) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # "| head" has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except _MISTAKES as error:
            print(f"error: {' '.join(message_of(error).split())}", file=sys.stderr)
            return 2

    return run


def run_commands(
    commands: Callable[..., Any] | Mapping[str, Callable[..., Any]],
    name: str,
    command: Sequence[str] | None = None,
    more: Collection[str] = (),
    silent: bool = False,
) -> int:
    """
    Run the function that a command line asks for; a mistake ends in its message, on one line.

    Args:
        commands: a function, or several by the names of their commands.
        name: of the program, for fire's help.
        command: words of the command line; None for those of the process.
        more: see ``with_paths_as_texts``.
        silent: print nothing of what the function returns.

    Returns:
        The status to exit with: 2 after a mistake, else what the function returns if that is a number, or 0.

    Example:
        >>> run_commands(lambda folder="x": 3, "show", [], silent=True)
        3
    """
    import fire

    for function in commands.values() if isinstance(commands, Mapping) else (commands,):
        with_paths_as_texts(function, more)
    shown: dict[str, Any] = {"serialize": lambda result: None} if silent else {}

    def main() -> int:
        status = fire.Fire(commands, command=None if command is None else list(command), name=name, **shown)
        return status if isinstance(status, int) else 0

    return with_last_line(main)()


def with_paths_as_texts(command: Callable[..., Any], more: Collection[str] = ()) -> Callable[..., Any]:
    """
    Have ``fire`` hand over names of files and folders as they were typed.

    By itself it takes ``1e3`` for a number and ``a,b`` for two values, so that such folders are not found.

    Args:
        command: whose parameters that are annotated as texts or paths are meant.
        more: names of further ones, such as those that go to ``**kwargs``.

    Example:
        >>> import fire
        >>> def show(folder: str, number: int = 0) -> None: print(repr(folder), number)
        >>> fire.Fire(with_paths_as_texts(show), ["--folder", "1e3", "--number", "2"])
        '1e3' 2
    """
    from fire.decorators import SetParseFns

    parameters = inspect.signature(command).parameters.values()
    named = [one.name for one in parameters if _PATH.fullmatch(inspect.formatannotation(one.annotation).strip("'"))]
    parsed = SetParseFns(**dict.fromkeys([*named, *more], _text))
    result: Callable[..., Any] = parsed(command)
    return result


def _text(typed: str) -> str | None:
    return None if typed == "None" else typed
