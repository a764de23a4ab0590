"""One bar over all images of a run, which samplers move on step by step."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

_T = TypeVar("_T")
_open: list[ImagesBar] = []


class ImagesBar:
    """
    A progress bar "image 3 of 10" with the time left, which ``steps_of`` moves on while it is open.

    Args:
        images: of the whole run.
        noun: what one is called.

    >>> bar = ImagesBar(images=2)
    >>> bar.begin(1)
    >>> list(steps_of([1, 2], total=4)), bar.done
    ([1, 2], 0.5)
    >>> bar.end(), bar.done
    (None, 1.0)
    >>> bar.close()
    """

    def __init__(self, images: int, noun: str = "image") -> None:
        self.noun = noun
        # in a log file, each redraw is a line
        pause = 0.5 if sys.stderr.isatty() else 60.0
        shape = "{desc} |{bar:30}| {percentage:3.0f} %, {remaining} left"
        first = f"{noun.capitalize()} 1 of {images}"
        self._bar = tqdm(total=images, desc=first, bar_format=shape, mininterval=pause, smoothing=0.1)
        self._batch = self._before = self._share = 0.0
        _open.append(self)

    @property
    def done(self) -> float:
        """Images that are done, the last one in part."""
        return float(self._bar.n)

    def begin(self, images: int) -> None:
        """Begin a batch of so many images."""
        self._batch, self._before, self._share = float(images), self.done, 1.0

    def end(self) -> None:
        """End it: all of its images are done."""
        self._write(self._before + self._batch)

    def advance(self, share: float) -> None:
        """Move on by a share of the batch, or of its ``portion``."""
        self._write(min(self.done + share * self._share * self._batch, self._before + self._batch))

    def close(self) -> None:
        """Leave the bar as it is, for good."""
        if self in _open:
            _open.remove(self)
            self._bar.close()

    def _write(self, done: float) -> None:
        number = min(int(done + 1e-6) + 1, self._bar.total)
        self._bar.set_description_str(f"{self.noun.capitalize()} {number} of {self._bar.total}", refresh=False)
        self._bar.update(done - self._bar.n)


def steps_of(steps: Iterable[_T], total: int, shown: bool = False) -> Iterator[_T]:
    """
    ``steps``, each of which moves the open bar on; without one, under a bar of its own where ``shown``.

    Args:
        steps: of one sampling of a batch.
        total: their number.
        shown: whether to show progress where no bar is open.
    """
    bar: Any = tqdm(total=total, desc="Sampling", disable=bool(_open) or not shown)
    with bar:
        for step in steps:
            yield step
            bar.update()
            for one in _open:
                one.advance(1 / total)


@contextlib.contextmanager
def portion(share: float) -> Iterator[None]:
    """Within it, samplers move the open bar on by this share of the batch in all."""
    for one in _open:
        one._share *= share
    try:
        yield
    finally:
        for one in _open:
            one._share /= share
