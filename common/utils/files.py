"""Files that appear under their final name only when they are complete, and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """
    A temporary name in the same folder, renamed to ``path`` when the block ends well and removed when it does not.

    The content is on the disk (``fsync``) before it takes its name. A killed process leaves a file
    ``.<hexadecimal>.<name>`` behind, which the next write of the same ``path`` removes.

    Args:
        path: final name; its folder is made where it is missing.

    Yields:
        The temporary name to write to: hidden, and with the ending of ``path``, since writers go by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary, held = _reserve(path)
    try:
        with held:
            yield temporary
            os.fsync(held.fileno())
            if fcntl is not None:
                os.replace(temporary, path)  # under the lock: nobody takes it for a leftover in between
        if fcntl is None:
            os.replace(temporary, path)  # Windows renames no open file
    finally:
        temporary.unlink(missing_ok=True)


def _reserve(path: Path) -> tuple[Path, BinaryIO]:
    """An empty file of a random name beside ``path``, locked while this process has it open."""
    while True:
        temporary = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
        held = temporary.open("xb")
        _lock(held, wait=True)
        if os.fstat(held.fileno()).st_nlink:  # else another process removed it before the lock
            return temporary, held
        held.close()


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of ``path``: temporary files that no process holds locked."""
    leftover = re.compile(rf"\.[0-9a-f]+\.{re.escape(path.name)}")
    for name in filter(leftover.fullmatch, os.listdir(path.parent)):
        with contextlib.suppress(OSError), path.with_name(name).open("r+b") as file:
            if _lock(file, wait=False):
                path.with_name(name).unlink()


def _lock(file: BinaryIO, wait: bool) -> bool:
    """Whether ``file`` could be locked; False where the file system or the platform has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (OSError, AttributeError):
        return False
    return True


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
