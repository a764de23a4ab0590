"""The environments that ``make integration`` sets up, and servers that run in them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import REPOSITORY


def python_of(name: str) -> str:
    """The interpreter of an environment, or a skipped test: ``LABEL_PYTHON`` or ``.venv-label``, for instance."""
    found = os.environ.get(f"{name.upper()}_PYTHON", str(REPOSITORY / f".venv-{name}" / "bin" / "python"))
    if not Path(found).is_file():
        pytest.skip(f"no {found}: make integration sets it up")
    return str(Path(found).absolute())


def environment_of(python: str) -> dict[str, str]:
    """Variables for a process of an environment, in which torchvision can be imported, and ``python`` is that one."""
    own = {"OMP_NUM_THREADS": "1", "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    every = {**os.environ, **own}
    fits = subprocess.run([python, "-c", "import torchvision"], env=every, capture_output=True, text=True, check=False)
    if "torchvision::" in fits.stderr:
        every["PYTHONPATH"] = str(Path(__file__).parent / "torchvision_shim")
    return every


@contextlib.contextmanager
def served(command: list[Any], environment: dict[str, str], log: Path, seconds: int = 900) -> Iterator[str]:
    """Run a server, ``PORT`` in its command, from when it answers to the end of the block; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(port) if word == "PORT" else str(word) for word in command]
    with log.open("w") as out:
        process = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/info/") as answer:
                assert answer.status == 200
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(60)
