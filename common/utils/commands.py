"""Arguments of command lines that ``fire`` reads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from typing import Any

_PATH = re.compile(r"str( \| (Path|None))*")  # an annotation, as text


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
