"""What libraries say of a file while they read it, as notices that begin with its path."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

logger = logging.getLogger(__name__)
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


class _Hear(logging.Filter):
    """Keep what is said while somebody listens, instead of printing it without the file's name."""

    def filter(self, record: logging.LogRecord) -> bool:
        texts = _heard.get()
        if texts is None:
            return True
        texts.append(" ".join(record.getMessage().split()))
        return False


for _name in ("nibabel.global", "pydicom"):
    logging.getLogger(_name).addFilter(_Hear())


@contextlib.contextmanager
def noted(path: str | Path | None = None) -> Iterator[None]:
    """
    Messages of nibabel and pydicom within the block become one notice each, after it.

    Args:
        path: of the file that is read, which begins each notice; None: they are dropped, since the file is read again.
    """
    texts: list[str] = []
    before = _heard.set(texts)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pydicom\b")  # it logs what it warns of
            yield
    finally:
        _heard.reset(before)
    for text in dict.fromkeys(texts if path is not None else ()):
        logger.warning("%s: %s", path, text)
