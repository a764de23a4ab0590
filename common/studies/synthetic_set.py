"""A set of generated images in a folder: which there are to be, which are missing, and the manifest once none is."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.checks import check_folder
from .synthetic import image_name, synthetic_record, write_manifest

logger = logging.getLogger(__name__)


def image_seed(seed: int, name: str, number: int) -> int:
    """The seed of one image, in [0, 2**32), from the set's seed, its class and its number alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name} {number}".encode()).digest()[:4], "big")


def numbered_cases(classes: Sequence[str], count: int, seed: int = 0, first: int = 0) -> list[dict[str, Any]]:
    """
    The images of a set, class by class.

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
            "seed": image_seed(seed, name, number),
        }
        for index, name in enumerate(classes)
        for number in range(first, first + count)
    ]


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
    """

    def __init__(
        self,
        folder: str | Path,
        classes: Sequence[str],
        count: int,
        provenance: Mapping[str, Any],
        first: int = 0,
        batch_size: int = 16,
        class_name: str | None = None,
        overwrite: bool = False,
    ) -> None:
        self.provenance = dict(provenance)
        self.classes = list(classes)
        self.every = numbered_cases(classes, count, int(self.provenance["seed"]), first)
        if batch_size < 1 or (class_name is not None and class_name not in self.classes):
            raise ValueError(
                f"A batch_size of at least 1 and a class_name of {self.classes} were expected, got {batch_size} and "
                f"{class_name!r}."
            )
        check_folder(folder)
        self.folder = Path(folder)
        self.first = first
        self.batch_size = batch_size
        self.class_name = class_name
        self.overwrite = overwrite

    def record(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What goes into the file of a case, and is looked for there when the run is started again."""
        about = {"class": case["class"], "number": int(case["number"]), "seed": int(case["seed"])}
        # as JSON brings it back, for the comparison
        return json.loads(json.dumps({**self.provenance, "set_seed": self.provenance["seed"], **about}, default=str))

    def pending(self, rank: int = 0, world_size: int = 1) -> list[dict[str, Any]]:
        """
        The cases that one of several processes has to draw, batch after batch.

        Args:
            rank: of this process, in [0, ``world_size``).
            world_size: number of processes that draw at the same time.

        Returns:
            Whole batches of cases, each with "batch", its number, and "missing", 0 where the image is there already.

        Raises:
            FileExistsError: when an image that is there, and stays, was made with other weights or settings.
        """
        self._check_others()
        unfinished = self._unfinished()
        batches: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for case in self.every:
            if case["class"] in self._drawn:
                key = (case["class"], (case["number"] - self.first) // self.batch_size)
                batches.setdefault(key, []).append(case)
        result, there, total = [], 0, 0
        for number, cases in enumerate(batches.values()):
            if number % world_size != rank:
                continue
            missing = [self.overwrite or not self._is_there(case) for case in cases]
            for case in cases:  # another process may be writing other batches
                for killed in unfinished.get(Path(image_name(case["class"], case["number"])).name, ()):
                    killed.unlink(missing_ok=True)
            total, there = total + len(cases), there + len(cases) - sum(missing)
            if any(missing):
                result += [{**case, "batch": number, "missing": int(flag)} for case, flag in zip(cases, missing)]
        if there:
            logger.info(f"{there} of {total} already in {self.folder}, skipped; --overwrite True redoes them.")
        return result

    def finish(self) -> Path | None:
        """
        Write the manifest if every image of every class is there, whichever process drew it.

        Returns:
            Its path, or None where images are missing still.
        """
        wanted = [image_name(case["class"], case["number"]) for case in self.every]
        missing = [path for path, case in zip(wanted, self.every) if not self._is_done(case)]
        if missing:
            logger.info(f"{len(missing)} of {len(wanted)} images are missing in {self.folder}, such as {missing[0]}.")
            return None
        found = {name: sorted((self.folder / name).glob(f"{name}_*.png")) for name in self.classes}
        paths = [path.relative_to(self.folder).as_posix() for files in found.values() for path in files]
        manifest = write_manifest(self.folder, paths)
        logger.info(f"Wrote {manifest}: {len(paths)} images of {len(self.classes)} classes")
        return manifest

    @property
    def _drawn(self) -> list[str]:
        return self.classes if self.class_name is None else [self.class_name]

    def _is_done(self, case: Mapping[str, Any]) -> bool:
        """Whether the image is there; of classes that this run draws, with its weights and settings."""
        path = self.folder / image_name(case["class"], case["number"])
        return path.is_file() and (case["class"] not in self._drawn or _difference(path, self.record(case)) is None)

    def _is_there(self, case: Mapping[str, Any]) -> bool:
        path = self.folder / image_name(case["class"], case["number"])
        if not path.is_file():
            return False
        _check_same(path, self.record(case))
        return True

    def _check_others(self) -> None:
        """Refuse images of other numbers, which the manifest would list too, of other weights or settings."""
        own = {image_name(case["class"], case["number"]) for case in self.every}
        for name in self._drawn:
            for path in sorted((self.folder / name).glob(f"{name}_*.png")):
                if f"{name}/{path.name}" not in own:
                    found = synthetic_record(path) or {}
                    about = {key: found.get(key) for key in ("number", "seed")}
                    _check_same(path, {**self.record({"class": name, "number": 0, "seed": 0}), **about})

    def _unfinished(self) -> dict[str, list[Path]]:
        """What killed runs were writing, by the name that it was to have."""
        found: dict[str, list[Path]] = {}
        for name in self._drawn:
            for path in (self.folder / name).glob(f".*.{name}_*.png"):
                found.setdefault(path.name.split(".", 2)[2], []).append(path)
        return found


def _difference(path: Path, record: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """What an image was made with and should not have been: key, value found and value wanted."""
    found, wanted = synthetic_record(path) or {}, {**record, "synthetic": True}
    # the sample is that of the weights, whose record may have been left behind when they were moved
    differing = {key for key in {*found, *wanted} - {"sample"} if found.get(key) != wanted.get(key)}
    if "weights_sha256" not in differing:
        differing.discard("weights")  # a file by another name
    return min(((key, found.get(key), wanted.get(key)) for key in differing), key=lambda d: d[0], default=None)


def _check_same(path: Path, record: Mapping[str, Any]) -> None:
    difference = _difference(path, record)
    if difference is not None:
        key, found, wanted = difference
        raise FileExistsError(
            f"{path} was made with {key} {found!r}, now it is {wanted!r}: choose another output_dir, or --overwrite "
            "True (which redoes the images of this run alone)."
        )


def batches_of(cases: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Positions of the cases of each batch, as a data loader's ``batch_sampler``."""
    batches: dict[int, list[int]] = {}
    for position, case in enumerate(cases):
        batches.setdefault(case["batch"], []).append(position)
    return list(batches.values())
