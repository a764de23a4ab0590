"""Drawing a set of generated images: which there are to be, which are missing, and the manifest once none is."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.checks import check_folder, opens
from ..data.image_file import check_same, difference
from ..data.splits import by_key
from ..data.writer import in_unit_range
from .synthetic import image_name, synthetic_record, write_manifest, write_synthetic

# the sample is that of the weights, whose record may have been left behind when they were moved; the quality follows
_FREE = ("sample", "quality")

logger = logging.getLogger(__name__)


def numbered_cases(classes: Sequence[str], count: int, seed: int = 0, first: int = 0) -> list[dict[str, Any]]:
    """
    The images of a set, class by class; the seed of an image depends on the set's seed, its class and its number alone.

    Args:
        classes: names, in the order that a class-conditional network was trained with.
        count: images a class, at least 1.
        seed: of the set.
        first: number of the first image of each class.

    Returns:
        ``{"image": number, "case": name, "class": class, "class_index": index, "number": number, "seed": seed}`` each.

    Raises:
        ValueError: for no class, no image or a negative number.
    """
    if not classes or not isinstance(count, int) or count < 1 or first < 0:
        raise ValueError(
            f"A class, an image of it and no negative number were expected, got {classes}, {count}, {first}."
        )
    return [
        {
            "image": number,
            "case": Path(image_name(name, number)).stem,
            "class": name,
            "class_index": index,
            "number": number,
            "seed": int.from_bytes(hashlib.sha256(f"{seed} {name} {number}".encode()).digest()[:4], "big"),
        }
        for index, name in enumerate(classes)
        for number in range(first, first + count)
    ]


@dataclass(eq=False, repr=False)
class SyntheticSet:
    """
    Images numbered ``first`` to ``first + count - 1`` of each class, at ``folder/<class>/<class>_<number>.png``.

    Images are drawn in fixed batches of consecutive numbers, and a batch that lacks an image is drawn again as a whole:
    so the pixels do not depend on where a run was killed, nor on the number of processes.

    Args:
        folder: of the set; made where it is missing.
        classes: names, in the order that the network was trained with.
        count: images a class.
        provenance: what makes them; "seed" in it is that of the set.
        first: number of the first image of each class.
        batch_size: images drawn together, at least 1.
        class_name: the only class that this run draws; None for all.
        overwrite: draw all of them again.

    Raises:
        ValueError: for no class, no image, a class that there is none of, or a batch of none.
        OSError: when the folder cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [case["case"] for case in SyntheticSet(folder, ["glioma"], 2, {"seed": 0}).pending()]
    ['glioma_00000', 'glioma_00001']
    """

    folder: str | Path
    classes: Sequence[str]
    count: int
    provenance: Mapping[str, Any]
    first: int = 0
    batch_size: int = 16
    class_name: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.every = numbered_cases(self.classes, self.count, int(self.provenance["seed"]), self.first)
        if self.batch_size < 1 or (self.class_name is not None and self.class_name not in self.classes):
            raise ValueError(
                f"A batch_size of at least 1 and a class_name of {self.classes} were expected, got {self.batch_size} "
                f"and {self.class_name!r}."
            )
        check_folder(self.folder)
        self.drawn = self.classes if self.class_name is None else [self.class_name]

    def path(self, case: Mapping[str, Any]) -> Path:
        """Of the image of a case."""
        return Path(self.folder) / image_name(case["class"], int(case["number"]))

    def files(self) -> dict[str, list[Path]]:
        """The paths of the images of each class, in the order of their numbers, whether they are there or not."""
        return {name: [self.path(case) for case in self.every if case["class"] == name] for name in self.classes}

    def record(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What goes into the file of a case, and is looked for there when the run is started again."""
        about = {"class": case["class"], "number": int(case["number"]), "seed": int(case["seed"])}
        # as JSON brings it back
        return json.loads(json.dumps({**self.provenance, "set_seed": self.provenance["seed"], **about}, default=str))

    def write(self, case: Mapping[str, Any], image: Any) -> None:
        """
        Write the image of a case where it is missing, 8 bits a channel, marked as synthetic; see ``SaveImaged``.

        Args:
            case: of ``pending``.
            image: (1, H, W) or (3, H, W) in [0, 1], upright (rows, columns); black is 0.

        Raises:
            ValueError: for an image outside [0, 1], NaN or of another shape, by name.
        """
        if int(case.get("missing", 1)):
            path = self.path(case)
            pixels = np.rint(255 * in_unit_range(image, str(path))).astype(np.uint8).transpose(1, 2, 0)
            record, checked = self.record(case), getattr(image, "meta", {}).get("quality")
            record |= {} if checked is None else {"quality": json.loads(checked)}
            write_synthetic(path, pixels[..., 0] if pixels.shape[-1] == 1 else pixels, record)

    def pending(self, rank: int = 0, world_size: int = 1) -> list[dict[str, Any]]:
        """
        The cases that one of several processes has to draw, batch after batch.

        Args:
            rank: of this process, in [0, ``world_size``).
            world_size: number of processes that draw at the same time.

        Returns:
            Whole batches of cases, each with "batch", its number, and "missing", 0 where it is there already.

        Raises:
            FileExistsError: when an image that is there, and stays, was made with other weights or settings.
        """
        self._check_others()
        batches: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        for case in self.every:
            if case["class"] in self.drawn:
                batches[case["class"], (case["number"] - self.first) // self.batch_size].append(case)
        own = [(number, cases) for number, cases in enumerate(batches.values()) if number % world_size == rank]
        result, there = [], 0
        for number, cases in own:
            missing = [self.overwrite or not opens(self.path(case)) for case in cases]
            for case, absent in zip(cases, missing):
                if not absent:
                    _check_same(self.path(case), self.record(case))
            there += len(cases) - sum(missing)
            if any(missing):
                result += [{**case, "batch": number, "missing": int(flag)} for case, flag in zip(cases, missing)]
        if there:
            total = sum(len(cases) for _, cases in own)
            logger.info(f"{there} of {total} already in {self.folder}, skipped; --overwrite True redoes them.")
        return result

    def finish(self, then: str | None = None) -> Path | None:
        """
        Write the manifest if every image of every class is there, whichever process drew it.

        Args:
            then: what a user does next, to be told at the end.

        Returns:
            Its path, or None where images are missing still.
        """
        # the last of several processes alone reads them all
        lacking = [case for case in self.every if not self.path(case).is_file()]
        lacking = lacking or [case for case in self.every if not self._is_done(case)]
        missing = [image_name(case["class"], case["number"]) for case in lacking]
        if missing:
            logger.info(
                f"{len(missing)} of {len(self.every)} images are missing in {self.folder}, such as {missing[0]}."
            )
            return None
        paths = [path.relative_to(self.folder).as_posix() for name in self.classes for path in self._files(name)]
        manifest = write_manifest(self.folder, paths)
        logger.info(f"Wrote {manifest}: {len(paths)} images of {len(self.classes)} classes")
        if then:
            logger.info(f"Next: {then}")
        return manifest

    def _files(self, name: str) -> list[Path]:
        return sorted(Path(self.folder, name).glob(f"{name}_*.png"))

    def _is_done(self, case: Mapping[str, Any]) -> bool:
        """Whether the image is there; of classes that this run draws, with its weights and settings."""
        path = self.path(case)
        if case["class"] not in self.drawn:
            return path.is_file()
        found = synthetic_record(path)
        return found is not None and difference(found, _wanted(self.record(case)), _FREE) is None

    def _check_others(self) -> None:
        """Refuse images of other numbers, which the manifest would list too, of other weights or settings."""
        own = set(map(self.path, self.every))
        for name in self.drawn:
            for path in self._files(name):
                if path not in own:
                    found = synthetic_record(path) or {}
                    about = {key: found.get(key) for key in ("number", "seed")}
                    _check_same(path, {**self.record({"class": name, "number": 0, "seed": 0}), **about})


def batches_of(cases: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Positions of the cases of each batch, as a data loader's ``batch_sampler``."""
    placed = by_key([{"position": position, "batch": case["batch"]} for position, case in enumerate(cases)], "batch")
    return [[case["position"] for case in batch] for batch in placed.values()]


def _check_same(path: Path, record: Mapping[str, Any]) -> None:
    check_same(path, synthetic_record(path) or {}, _wanted(record), _FREE)


def _wanted(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "synthetic": True}
