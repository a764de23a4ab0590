"""
Files with something wrong: seeded changes of bytes, and what may come of reading them.

Right is an error that begins with the path, or the image. Where the container carries a checksum (gzip, the chunks of a
PNG, the entries of a weight file), an accepted file has to give what the unchanged one gives: everything else is
*silently wrong*. An uncompressed NIfTI or DICOM file and a JPEG carry none; a changed number there is a legitimate
file, and an accepted one has to give what an independent reader gives.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SECONDS, BYTES = 20, 2 * 2**30
_EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01")
_RAW = ("object has no attribute", "NoneType", "not subscriptable", "Traceback", "list index out of range")


def changed(content: bytes, rng: np.random.Generator, header: int = 0) -> tuple[str, bytes]:
    """
    One change of a file.

    Args:
        content: of the file.
        rng: source of the draws.
        header: the first so many bytes are where fields are set to extreme values.

    Returns:
        What was done, and the changed content.
    """
    data, size = bytearray(content), len(content)
    kind = rng.choice(["bit", "bits", "cut", "insert", "delete", "field", "zeros", "swap", "repeat", "other"])
    at = int(rng.integers(size))
    if kind == "bit":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "bits":
        for where in rng.integers(size, size=int(rng.integers(2, 30))):
            data[int(where)] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = rng.bytes(int(rng.integers(1, 64)))
    elif kind == "delete":
        del data[at : at + int(rng.integers(1, 64))]
    elif kind == "field":
        at, width = int(rng.integers(max(1, min(header or size, size)))), int(rng.choice([1, 2, 4, 8]))
        data[at : at + width] = (_EXTREMES[int(rng.integers(len(_EXTREMES)))] * width)[: max(0, size - at)]
    elif kind == "zeros":
        length = min(int(rng.integers(1, 512)), size - at)
        data[at : at + length] = bytes(length)
    elif kind == "swap":
        other, length = int(rng.integers(size)), int(rng.integers(1, 64))
        a, b = data[at : at + length], data[other : other + length]
        data[at : at + len(b)], data[other : other + len(a)] = b, a
    elif kind == "repeat":
        data += data[at:]
    else:
        data = bytearray(rng.bytes(int(rng.integers(0, 400))))
    return str(kind), bytes(data)


def outcome(path: Path, read: Callable[[Path], Any], same: Callable[[Any], bool]) -> str:
    """
    What comes of reading a file: "refused", "right", or what is wrong.

    Args:
        path: of the file.
        read: raises, or returns what was read.
        same: whether that is what it has to be.
    """

    def too_long(*_: Any) -> None:
        raise TimeoutError

    started = time.monotonic()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        result = read(path)
    except TimeoutError:
        return f"over {SECONDS} s"
    except MemoryError as error:
        return f"over {BYTES} bytes: {error}"
    except (ValueError, OSError, ImportError) as error:
        text = str(error)
        raw = any(part in text for part in _RAW) and "damaged" not in text
        if raw or not text.startswith(str(path)) or len(text) < len(str(path)) + 20:
            return f"unclear: {type(error).__name__}: {text[:300]}"
        return "refused"
    except Exception as error:
        return f"unclear: {type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    if time.monotonic() - started > SECONDS:
        return f"over {SECONDS} s"
    return "right" if same(result) else "silently wrong"


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same, without their axes of one entry."""
    return np.squeeze(a).shape == np.squeeze(b).shape and bool(np.allclose(np.squeeze(a), np.squeeze(b), rtol=1e-6))


def as_nibabel_reads(path: Path, values: np.ndarray, affine: np.ndarray) -> bool:
    """Whether nibabel gives the same numbers at the same place."""
    file: Any = nib.load(path)
    stored = np.asanyarray(file.dataobj)
    if stored.dtype.fields:
        stored = np.stack([stored[name] for name in "RGB"])
    return alike(values, stored.astype(float)) and bool(np.allclose(affine, file.affine))
