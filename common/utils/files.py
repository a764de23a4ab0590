"""Files that appear under their final name only when they are complete, and their hashes."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

NAME_BYTES = 255
"""Of a file's name, at most, on the usual file systems."""


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

    Raises:
        OSError: names ``path`` where the system refuses the write, as on a full disk, and names no file or the
            temporary one.
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
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def stand_in(path: str | Path) -> str | None:
    """
    What lies in the place of a file that cannot be read, where it can be told and helps: nothing at all, a pointer of
    Git LFS, a web page; None for all else.

    Example:
        >>> stand_in("/dev/null")
        'the file is empty'
    """
    with contextlib.suppress(OSError), open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
        if not start:
            return "the file is empty"
        if start.startswith(b"version https://git-lfs"):
            return "a pointer of Git LFS lies in its place: git lfs pull fetches the file"
        if start.startswith((b"<!doctype html", b"<html")):
            return "a web page lies in its place, as after a download that was refused"
    return None


def write_text(path: str | Path, text: str) -> Path:
    """Write a file in UTF-8, whole; returns its path."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, content: Any, indent: int = 4, **options: Any) -> Path:
    """Write JSON, whole; ``options`` are those of ``json.dumps``. Returns the path."""
    return write_text(path, json.dumps(content, indent=indent, **options) + "\n")


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], ending: str = "\r\n") -> Path:
    """Write a table, whole, its lines ending so; names of files that are not UTF-8 byte by byte. Returns the path."""
    with (
        written_whole(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file, lineterminator=ending).writerows([columns, *rows])
    return Path(path)


def read_table(path: str | Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a table and its rows with their lines, as ``read_csv`` reads them; a ValueError for no table."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin theirs with a mark
            table = csv.DictReader(file, skipinitialspace=True)
            found = table.fieldnames = [name.strip() for name in table.fieldnames or []]
            if twice := sorted({name for name in found if name and found.count(name) > 1}):
                raise ValueError(f"{path}: one column each was expected, {twice} stand there more than once.")
            return found, [(table.line_num, {k: v.strip() if k and v else v for k, v in row.items()}) for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: a table of commas in UTF-8 was expected ({error}).") from error


def read_csv(path: str | Path, columns: Sequence[str] = (), of: str = "a table") -> list[dict[str, str]]:
    """
    The rows of a table in UTF-8, as spreadsheets write it too; spaces beside commas do not count.

    Args:
        path: of the file.
        columns: that must be there, in every row.
        of: what the table should be, for the message.

    Raises:
        ValueError: for a column that is missing or there twice, a row that ends before one, or a file that is no such
            table; names it.
    """
    found, rows = read_table(path)
    absent = [name for name in columns if name not in found]
    if absent:
        raise ValueError(
            f"{path} has no column {absent}: {of} was expected; its columns, which end in commas, are {found}."
        )
    short = [line for line, row in rows if any(row[name] is None for name in columns)]
    if short:
        raise ValueError(f"{path}: line {short[0]} has fewer columns than the first ({len(short)} such lines).")
    return [row for _, row in rows]


@contextlib.contextmanager
def written_whole_folder(path: str | Path) -> Iterator[Path]:
    """
    As ``written_whole``, for a folder of files, which takes the place of one of its name.

    Args:
        path: final name; its parent is made where it is missing.

    Yields:
        An empty folder, hidden, to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = _hidden(path)
    temporary.mkdir()
    try:
        with _locked_folder(temporary):
            yield temporary
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked_folder(path: Path, wait: bool = True) -> Iterator[bool]:
    """Whether a folder could be locked for the time of the block."""
    if fcntl is None:  # Windows opens no folders
        yield False
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _lock(descriptor, wait)
    finally:
        os.close(descriptor)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.{_end_of(path)}")


def _end_of(path: Path) -> str:
    """The name of a file, or as much of its end as leaves room for what goes before it."""
    return os.fsdecode(os.fsencode(path.name)[-(NAME_BYTES - 18) :])


def _reserve(path: Path) -> tuple[Path, BinaryIO]:
    """An empty file of a random name beside ``path``, locked while this process has it open."""
    while True:
        temporary = _hidden(path)
        held = temporary.open("xb")
        _lock(held, wait=True)
        if os.fstat(held.fileno()).st_nlink:  # else another process removed it before the lock
            return temporary, held
        held.close()


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of ``path``: temporary files and folders that no process holds locked."""
    leftover = re.compile(rf"\.[0-9a-f]+\.{re.escape(_end_of(path))}")
    for name in filter(leftover.fullmatch, os.listdir(path.parent)):
        if path.with_name(name).is_dir():
            with contextlib.suppress(OSError), _locked_folder(path.with_name(name), wait=False) as free:
                if free:
                    shutil.rmtree(path.with_name(name))
            continue
        with contextlib.suppress(OSError), path.with_name(name).open("r+b") as file:
            if _lock(file, wait=False):
                path.with_name(name).unlink()


def _lock(file: BinaryIO | int, wait: bool) -> bool:
    """Whether ``file`` could be locked; False where the file system or the platform has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (OSError, AttributeError):
        return False
    return True


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal; of a folder, that of those of its files, in order, whatever they are called."""
    if os.path.isdir(path):
        inside = sorted(sha256_of(one) for one in Path(path).iterdir() if one.is_file() and one.name[0] != ".")
        return hashlib.sha256("".join(inside).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
