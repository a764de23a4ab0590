"""A reader study in the browser: one page of pairs and single images, and the key to its answers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..utils.files import read_csv, write_csv, write_text
from ..visualize.html import asset
from ..visualize.panels import image_panel
from .folders import ImageFolder

TEMPLATE = Path(__file__).with_name("reader_study.html")
KEY_COLUMNS = ("item", "method", "truth", "real", "generated")
_MARK = "/*STUDY*/null"


@dataclass(frozen=True)
class Item:
    """
    One question of a study.

    Attributes:
        identity: random text; it says nothing of the answer.
        method: name of the generated set.
        truth: "left" or "right" in a pair (the real image), "real" or "generated" for a single image.
        real: index of the real image; None where none is shown.
        generated: index of the generated image; None where none is shown.

    Example:
        >>> Item("a1", "ours", "left", real=0, generated=4).shown
        ('real', 'generated')
    """

    identity: str
    method: str
    truth: str
    real: int | None
    generated: int | None

    @property
    def shown(self) -> tuple[str, ...]:
        """What is shown, from the left."""
        pair = ("real", "generated") if self.truth == "left" else ("generated", "real")
        return pair if self.truth in ("left", "right") else (self.truth,)


def draw_items(
    real: Sequence[str],
    generated: Mapping[str, Sequence[str]],
    pairs: int = 50,
    singles: int = 0,
    seed: int = 0,
    content: str = "",
) -> list[Item]:
    """
    The questions of a study, in random order with random sides.

    Args:
        real: names of the real images.
        generated: method -> names of its images. Where all of them are names of real images too, as restored images
            are, an image is paired with the one of its name; otherwise with any.
        pairs: of each method, every generated image at most once.
        singles: single images of each method, half of them real; none of them stands in a pair of that method.
        seed: the same seed gives the same study.
        content: digest of the images, on which the identities depend: answers fit the key of their own study alone.

    Raises:
        ValueError: when there are too few images, or for numbers that make no question.

    Source: Med-cDiff, section 4.5 (50 pairs a method, two alternatives).

    Example:
        >>> items = draw_items(["a", "b"], {"ours": ["a", "b"]}, pairs=2)
        >>> all(item.real == item.generated for item in items)
        True
    """
    if not all(isinstance(number, int) and number >= 0 for number in (pairs, singles)) or pairs + singles == 0:
        raise ValueError(f"pairs and singles must be whole numbers, one of them above 0, got {pairs} and {singles}.")
    rng = np.random.default_rng(seed)
    items = []
    for method, names in generated.items():
        fakes, reals = rng.permutation(len(names)).tolist(), rng.permutation(len(real)).tolist()
        partners = {name: index for index, name in enumerate(real)} if set(names) <= set(real) else None
        half = singles // 2
        if len(names) < pairs + singles - half or len(real) < pairs + half:
            raise ValueError(
                f"{pairs} pairs and {singles} single images of {method} need {pairs + singles - half} generated and "
                f"{pairs + half} real images; there are {len(names)} and {len(real)}."
            )
        for fake in fakes[:pairs]:
            partner = reals.pop() if partners is None else partners[names[fake]]
            if partners is not None:
                reals.remove(partner)
            items.append(Item("", method, str(rng.choice(["left", "right"])), partner, fake))
        items += [Item("", method, "generated", None, fake) for fake in fakes[pairs : pairs + singles - half]]
        items += [Item("", method, "real", index, None) for index in reals[:half]]
    order = rng.permutation(len(items))
    identities = [hashlib.sha256(rng.bytes(6) + content.encode()).hexdigest()[:12] for _ in items]
    return [Item(i, o.method, o.truth, o.real, o.generated) for i, o in zip(identities, (items[k] for k in order))]


def reader_study(
    real: ImageFolder,
    generated: Mapping[str, ImageFolder],
    out: str | Path,
    pairs: int = 50,
    singles: int = 0,
    seed: int = 0,
) -> list[Item]:
    """
    Write ``index.html``, which readers open, and ``key.csv``, which they must not see.

    The page is complete in itself and opens no connection. Images are pictures of 8 bits without a name; a reader can
    scroll through volumes and change brightness and contrast.

    Args:
        real: real images.
        generated: method -> its images.
        out: folder.
        pairs: see ``draw_items``, as ``singles`` and ``seed``.

    Returns:
        The items in the order of the page.

    Raises:
        ValueError: as ``draw_items``, and for images of which the sizes tell the sets apart.
        FileExistsError: when the key of another study is there, without which its answers would say nothing.
    """
    _check_sizes(real, generated)
    hashes = [folder.sha256(index) for folder in (real, *generated.values()) for index in range(len(folder))]
    names = {method: folder.names for method, folder in generated.items()}
    items = draw_items(real.names, names, pairs, singles, seed, " ".join([*names, *hashes]))
    rows = [_key_row(item, real, generated) for item in items]
    _check_key(Path(out) / "key.csv", rows)
    shown = []
    for item in items:
        of = {"real": (real, item.real), "generated": (generated[item.method], item.generated)}
        images = [_embedded(folder, index) for folder, index in (of[kind] for kind in item.shown) if index is not None]
        shown.append({"id": item.identity, "images": images})
    digest = hashlib.sha256("".join(item.identity for item in items).encode()).hexdigest()[:12]
    text = TEMPLATE.read_text(encoding="utf-8").replace("/*VIEWER*/", asset("viewer.js"))
    text = text.replace(_MARK, json.dumps({"id": digest, "items": shown}))
    write_text(Path(out) / "index.html", text)
    write_csv(Path(out) / "key.csv", KEY_COLUMNS, rows)
    return items


def _key_row(item: Item, real: ImageFolder, generated: Mapping[str, ImageFolder]) -> list[str]:
    a = "" if item.real is None else real.names[item.real]
    b = "" if item.generated is None else generated[item.method].names[item.generated]
    return [item.identity, item.method, item.truth, a, b]


def _check_key(path: Path, rows: Sequence[Sequence[str]]) -> None:
    if path.exists() and [list(row.values()) for row in read_csv(path)] != [list(row) for row in rows]:
        raise FileExistsError(f"{path} is the key of another study, and its answers need it: choose another --out.")


def _check_sizes(real: ImageFolder, generated: Mapping[str, ImageFolder]) -> None:
    for method, folder in generated.items():
        if folder.spatial_dims != real.spatial_dims:
            raise ValueError(f"{folder.path} holds {folder.spatial_dims}D images, {real.path} {real.spatial_dims}D.")
        same = all(dict(zip(real.names, real.shapes)).get(n) == s for n, s in zip(folder.names, folder.shapes))
        if not same and not set(folder.shapes) & set(real.shapes):
            raise ValueError(
                f"No image of {method} ({folder.path}) has a size of {real.path}: a reader could tell them by it. "
                "--size brings all to one size."
            )


def _embedded(folder: ImageFolder, index: int) -> dict[str, Any]:
    """An image as the page takes it: rows from the top; of a volume, slices from the top, the right on the left."""
    image = np.rint((np.clip(folder[index].numpy(), -1, 1) + 1) * 127.5).astype(np.uint8)
    spacing = [float(side) for side in folder.spacings[index]]
    if image.ndim == 3:
        stack = image_panel(image, upright=folder.stored_as_shown).pixels.astype(np.uint8)
        shape, spacing = (*stack.shape[::-1], 1), [*spacing, 1.0]
    else:
        shape = image.shape[1:]
        stack = np.flip(image[0]).transpose(2, 1, 0).reshape(-1, shape[0])  # (k, j) down, i across
    memory = io.BytesIO()
    Image.fromarray(stack).save(memory, "PNG", optimize=True)
    return {"png": base64.b64encode(memory.getvalue()).decode(), "shape": list(shape), "spacing": spacing}
