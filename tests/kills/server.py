"""
Kill a job at chosen moments and run it again: ``python -m tests.kills.server JOB DIR MOMENTS``.

One process imports everything once; each attempt is a fork of it, whose audit hook ends it, as SIGKILL would, at the
n-th event that touches a file under its folder: an open for writing, a rename (``os.replace``), a removal, a folder
made. A further fork then runs the job anew to its end. Random moments are ends after a time. Prints a line of JSON for
each moment: what differs from the job that was never killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
_LOGS = (".log",)
_TIMES = ("run", "date", "seconds", "time")
KILLED = 137


def in_fork(work: Callable[[], Any], seconds: float | None = None) -> int:
    """Exit status of a fork that does ``work``; killed after so many seconds."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                os.dup2(nothing.fileno(), 1)
                errors = io.StringIO()
                with contextlib.redirect_stderr(errors):
                    work()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def killing(folder: Path, number: int, counted: Path | None = None) -> None:
    """From now on, end this process at the ``number``-th event under ``folder``; count events into a file instead."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in _WATCHED or not isinstance(args[0], (str, os.PathLike)):
            return
        if event == "open" and not (isinstance(args[1], str) and set(args[1]) & set("wax+")):
            return
        if not os.fspath(args[0]).startswith(str(folder)) or os.fspath(args[0]) == str(counted):
            return
        seen += 1
        if counted is not None:
            os.pwrite(descriptor, f"{seen:8d}".encode(), 0)
        elif seen == number:
            os._exit(KILLED)

    descriptor = os.open(counted, os.O_CREAT | os.O_WRONLY) if counted is not None else -1
    sys.addaudithook(hook)


def state_of(folder: Path) -> dict[str, str]:
    """Hash of each file of a job; what holds times (logs, event files) and checkpoints count by their names alone."""
    result = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.suffix in _LOGS or path.name.startswith("events.out"):
            continue
        result[name] = "" if "checkpoint" in path.name else hashlib.sha256(_content(path)).hexdigest()
    return result


def _content(path: Path) -> bytes:
    """What has to be the same: bytes, without the times of a run."""
    if path.suffix == ".pt":
        import torch

        state = torch.load(path, weights_only=True, map_location="cpu")
        return b"".join(k.encode() + v.numpy().tobytes() for k, v in sorted(state.items()))
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(path.read_text())), sort_keys=True).encode()
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: _timeless(v) for k, v in value.items() if k not in ("run", "date", "seconds", "time", "weights_sha256")
        }
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Names of files that are missing, too many, or other."""
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def main(job: str, where: str, moments: str) -> None:
    """
    Args:
        job: a name of ``jobs.JOBS``.
        where: an empty folder.
        moments: "every", or numbers and times such as "3,17,0.4s", or "some N" for N events, drawn.
    """
    from .jobs import JOBS

    root = Path(where)
    prepare, run = JOBS[job]
    in_fork(lambda: prepare(root / "input"))
    warm, whole, counts = root / "warm", root / "whole", root / "events"
    if moments == "every":
        assert in_fork(lambda: run(root / "input", warm)) == 0, f"{job} fails by itself"
    started = time.monotonic()
    assert in_fork(lambda: (killing(whole, 0, counts), run(root / "input", whole))) == 0
    took, events, wanted = time.monotonic() - started, int(counts.read_text()), state_of(whole)
    if moments == "every":
        twice = differences(state_of(warm), wanted)
        assert twice == [], f"{job} is not the same twice: {twice}"
    for moment in _moments(moments, events, took):
        out = root / "killed"
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(moment, int):
            status = in_fork(lambda: (killing(out, moment), run(root / "input", out)))  # noqa: B023
        else:
            status = in_fork(lambda: run(root / "input", out), moment)  # noqa: B023
        again = in_fork(lambda: run(root / "input", out))  # noqa: B023
        result = {"moment": moment, "first": status, "again": again, "differ": differences(state_of(out), wanted)}
        print(json.dumps(result), flush=True)


def _moments(text: str, events: int, took: float) -> list[int | float]:
    import random

    drawn = random.Random(0)
    if text == "every":
        return [*range(1, events + 1), *(drawn.uniform(0, took) for _ in range(20))]
    if text.startswith("some "):
        number = int(text.split()[1])
        return sorted(drawn.sample(range(1, events + 1), min(number, events)))
    return [float(one[:-1]) if one.endswith("s") else int(one) for one in text.split(",")]


if __name__ == "__main__":
    main(*sys.argv[1:])
