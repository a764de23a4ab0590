"""Features on disk, so that an interrupted comparison goes on and a second one does not compute them again."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..features.features import FeatureNetwork
from ..utils.files import write_json, written_whole
from ..utils.images import release_memory
from .folders import ImageFolder

_LAYOUT = 2  # raised when features of the same file, network and reading come out or are kept differently
_CHECK = 32  # bytes of a checksum


class FeatureCache:
    """
    One small file a feature vector, under the sha256 of the image file's bytes.

    The folder's name holds a digest of everything else that the vector depends on: network, sha256 of its weights,
    preprocessing, how images are read. Another setting is another folder; a renamed or copied image is found again.

    Args:
        folder: of all caches; made when the first vector is written.
        network: that gives the features.
        reading: ``ImageFolder.describe()``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = FeatureCache(folder, FeatureNetwork("torch.nn:Flatten"), {})
    ...     cache.put("a", torch.ones(2))
    ...     cache.get("a"), cache.get("b")
    (tensor([1., 1.]), None)
    """

    def __init__(self, folder: str | Path, network: FeatureNetwork, reading: dict[str, Any]) -> None:
        self.context = {"layout": _LAYOUT, "network": network.describe(), "reading": reading}
        text = json.dumps(self.context, sort_keys=True, default=str)
        self.folder = Path(folder) / f"{network.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def get(self, sha256: str) -> Tensor | None:
        """The vector of a file, (d,) float32, or None; a damaged, altered or exchanged entry counts as none."""
        try:
            content = (self.folder / f"{sha256}.npy").read_bytes()
            if content[-_CHECK:] != _checksum(sha256, content[:-_CHECK]):
                return None
            return torch.from_numpy(np.load(io.BytesIO(content)))
        except (OSError, ValueError, EOFError):
            return None

    def put(self, sha256: str, vector: Tensor) -> None:
        """Keep the vector of a file, and a checksum behind it; it appears whole or not at all."""
        if not (self.folder / "context.json").is_file():
            write_json(self.folder / "context.json", self.context, 2, default=str)
        array = io.BytesIO()
        np.save(array, vector.cpu().numpy().astype(np.float32))
        with written_whole(self.folder / f"{sha256}.npy") as path:
            path.write_bytes(array.getvalue() + _checksum(sha256, array.getvalue()))


def _checksum(sha256: str, content: bytes) -> bytes:
    return hashlib.sha256(sha256.encode() + content).digest()


class Features:
    """
    Feature vectors of a folder, computed in batches of images of one size; no more than a batch is in memory.

    Args:
        images: the folder.
        network: that gives the features.
        cache: of the vectors; None for none.
        batch_size: images at a time.

    Attributes:
        missing: positions of the images that are not in the cache.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (2, 2), 255).save(f"{folder}/white.png")
    ...     Features(ImageFolder(folder), FeatureNetwork("torch.nn:Flatten")).tensor()
    tensor([[1., 1., 1., 1.]])
    """

    def __init__(
        self, images: ImageFolder, network: FeatureNetwork, cache: FeatureCache | None = None, batch_size: int = 1
    ) -> None:
        self.images, self.network, self.cache, self.batch_size = images, network, cache, batch_size
        self._rows: list[Tensor | None] = [None] * len(images)
        if cache is not None:
            self._rows = [cache.get(images.sha256(index)) for index in range(len(images))]
        self.missing = {index for index, row in enumerate(self._rows) if row is None}
        self._waiting: list[tuple[int, Tensor]] = []

    def offer(self, index: int, image: Tensor) -> None:
        """Take in image ``index``, (1, *spatial), if its features are missing."""
        if index not in self.missing:
            return
        if self._waiting and self._waiting[0][1].shape != image.shape:
            self._flush()
        self._waiting.append((index, image))
        if len(self._waiting) >= self.batch_size:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        indices, images = zip(*self._waiting)
        self._waiting = []
        for index, row in zip(indices, self.network(torch.stack(images)).float().cpu()):
            if not bool(torch.isfinite(row).all()):
                raise ValueError(
                    f"{self.images.files[index]} has features of NaN or infinity under {self.network.name}."
                )
            self._rows[index] = row.clone()
            self.missing.discard(index)
            if self.cache is not None:
                self.cache.put(self.images.sha256(index), row)

    def tensor(self, note: str = "") -> Tensor:
        """All features, (n, d) float32; reads and computes what is still missing, under a progress bar."""
        self._flush()
        if self.missing:
            for index in tqdm(sorted(self.missing), desc=note or f"{self.network.name}", unit="image"):
                image = self.images[index]
                self.offer(index, image)
                release_memory(image)
            self._flush()
        return torch.stack([row for row in self._rows if row is not None])
