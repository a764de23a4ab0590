"""A reader study in the browser: one page of pairs and single images, the key to its answers, and their evaluation."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from ..utils.files import written_whole
from ..visualize.html import asset
from ..visualize.panels import image_panel
from .folders import ImageFolder
from .observer import accuracy_of, forced_choice_text, results_of
from .results import write_report

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
    real: Sequence[str], generated: Mapping[str, Sequence[str]], pairs: int = 50, singles: int = 0, seed: int = 0
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

    Raises:
        ValueError: when there are too few images.

    Source: Med-cDiff, section 4.5 (50 pairs a method, two alternatives).

    Example:
        >>> items = draw_items(["a", "b"], {"ours": ["a", "b"]}, pairs=2)
        >>> all(item.real == item.generated for item in items)
        True
    """
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
    identities = [rng.bytes(6).hex() for _ in items]
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
        ValueError: for too few images, or images of which the sizes tell the sets apart.
    """
    _check_sizes(real, generated)
    items = draw_items(real.names, {m: folder.names for m, folder in generated.items()}, pairs, singles, seed)
    shown = []
    for item in items:
        of = {"real": (real, item.real), "generated": (generated[item.method], item.generated)}
        images = [_embedded(folder, index) for folder, index in (of[kind] for kind in item.shown) if index is not None]
        shown.append({"id": item.identity, "images": images})
    digest = hashlib.sha256("".join(item.identity for item in items).encode()).hexdigest()[:12]
    text = TEMPLATE.read_text(encoding="utf-8").replace("/*VIEWER*/", asset("viewer.js"))
    text = text.replace(_MARK, json.dumps({"id": digest, "items": shown}))
    with written_whole(Path(out) / "index.html") as path:
        path.write_text(text, encoding="utf-8")
    with written_whole(Path(out) / "key.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(KEY_COLUMNS)
        for item in items:
            a = "" if item.real is None else real.names[item.real]
            b = "" if item.generated is None else generated[item.method].names[item.generated]
            table.writerow([item.identity, item.method, item.truth, a, b])
    return items


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


def read_key(path: str | Path) -> dict[str, tuple[str, str]]:
    """
    Item -> (method, truth) of a ``key.csv``.

    Raises:
        FileNotFoundError: for no such file.
        ValueError: for a file without its columns.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        if not set(KEY_COLUMNS) <= set(table.fieldnames or []):
            raise ValueError(f"{path}: the columns {', '.join(KEY_COLUMNS)} of a reader study's key were expected.")
        return {row["item"]: (row["method"], row["truth"]) for row in table}


def agreement(answers: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
    """
    How far readers agree, whether right or wrong.

    Args:
        answers: reader -> item -> answer.

    Returns:
        ``value``, the mean over pairs of readers of Cohen's kappa (1: always, 0: as by chance), and ``same``, the
        mean share of items that two readers answer alike; None for fewer than two readers of the same items.

    Source: Cohen 1960; the mean over pairs, Light 1971.

    Example:
        >>> agreement({"a": {"1": "left", "2": "right"}, "b": {"1": "left", "2": "right"}})["value"]
        1.0
    """
    kappas, same = [], []
    for one, other in itertools.combinations(answers.values(), 2):
        common = sorted(set(one) & set(other))
        if not common:
            continue
        pair = [[given[item] for item in common] for given in (one, other)]
        same.append(float(np.mean([a == b for a, b in zip(*pair)])))
        varied = len(set(pair[0]) | set(pair[1])) > 1
        kappas.append(float(cohen_kappa_score(*pair)) if varied else 1.0)
    return {"value": float(np.mean(kappas)), "same": float(np.mean(same))} if same else None


def study_results(answers: Sequence[str | Path], key: str | Path) -> dict[str, Any]:
    """
    What readers answered, method by method.

    Args:
        answers: CSV files of the page, of any number of readers.
        key: ``key.csv`` of the study.

    Returns:
        ``methods``: method -> as ``observer.forced_choice``, with "agreement" where there are two readers; ``kinds``:
        accuracy of pairs and of single images.

    Raises:
        FileNotFoundError: for no such file.
        ValueError: for an item that is not in the key, an item answered twice by a reader, or an answer that does not
            fit its item; names file and line.
    """
    truths = read_key(key)
    given: dict[str, dict[str, str]] = {}
    for path in answers:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if not {"reader", "item", "answer"} <= set(table.fieldnames or []):
                raise ValueError(f"{path}: the columns reader, item and answer of a reader study were expected.")
            for row in table:
                _take(row, given, truths, f"{path}, line {table.line_num}")
    if not given:
        raise ValueError(f"{', '.join(map(str, answers))}: no answers.")
    right: dict[str, list[tuple[str, bool]]] = {}
    kinds: dict[str, list[bool]] = {}
    for reader, items in given.items():
        for item, answer in items.items():
            method, truth = truths[item]
            right.setdefault(method, []).append((reader, answer == truth))
            kinds.setdefault("pairs" if truth in ("left", "right") else "single", []).append(answer == truth)
    methods = {}
    for method, rows in right.items():
        own = {r: {i: a for i, a in items.items() if truths[i][0] == method} for r, items in given.items()}
        methods[method] = {**results_of(rows), "agreement": agreement(own)}
    return {"methods": methods, "kinds": {name: accuracy_of(list(rows)) for name, rows in kinds.items()}}


def _take(
    row: Mapping[str, str], given: dict[str, dict[str, str]], truths: Mapping[str, tuple[str, str]], where: str
) -> None:
    reader, item, answer = (row[name].strip() for name in ("reader", "item", "answer"))
    if item not in truths:
        raise ValueError(f"{where}: item {item} is not in the key; is it the key of this study?")
    pair = ("left", "right")
    fits = pair if truths[item][1] in pair else ("real", "generated")
    if answer not in fits:
        raise ValueError(f"{where}: {' or '.join(fits)} was expected, got {answer!r}.")
    if item in given.setdefault(reader, {}):
        raise ValueError(f"{where}: {reader} has answered item {item} twice.")
    given[reader][item] = answer


def study_text(result: Mapping[str, Any]) -> str:
    """``study_results`` as Markdown, a table a method."""
    parts = []
    for method, entry in result["methods"].items():
        agreed = entry["agreement"]
        parts.append(f"## {method}\n\n{forced_choice_text(entry)}")
        if agreed:
            parts.append(f"Two readers answer {agreed['same']:.0%} of the items alike (kappa {agreed['value']:.2f}).\n")
    return "\n".join(parts)


def run_results(answers: Sequence[str], key: str, out: str | Path | None = None) -> int:
    """Print the results, and write ``observer.json`` and ``observer.md`` where a folder is given; returns 0."""
    result = study_results(answers, key)
    text = study_text(result)
    print(text, end="")
    if out is not None:
        write_report({"answers": [Path(path).name for path in answers], **result}, text, out, "observer")
    return 0
