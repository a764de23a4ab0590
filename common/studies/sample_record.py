"""Which real images a generative model was trained on, kept beside its weights: no test image may be among them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.lists import Case
from ..utils.files import sha256_of, written_whole

logger = logging.getLogger(__name__)


def image_id(case: Mapping[str, Any]) -> str:
    """Class and file name of a case, loaded ("path") or not; the same wherever the data set lies."""
    return f"{case['class']}/{Path(case.get('path', case['image'])).name}"


def names_digest(cases: Sequence[Mapping[str, Any]]) -> str:
    """A short hash of which images these are, whatever their order."""
    return hashlib.sha256("\n".join(sorted(map(image_id, cases))).encode()).hexdigest()[:16]


def write_sample_record(weights: str | Path, sample: Sequence[Case], initial_weights: str | Path | None = None) -> Path:
    """
    Write ``model.json`` beside a ``model.pt`` that is about to be trained; move the two together.

    Args:
        weights: the file that training will write.
        sample: all real images of the sample, of every class.
        initial_weights: that training begins with, if any.

    Returns:
        The path written.

    Raises:
        ValueError: when weights that are there, or the initial ones, were trained on another sample.
    """
    weights, digest = Path(weights), names_digest(sample)
    for path in (weights, initial_weights):
        known = sample_of(path) if path is not None and Path(path).is_file() else None
        if known not in (None, digest):
            raise ValueError(
                f"{path} was trained on another sample of real images: the weights of this run would have seen images "
                "that are kept to test on. Give the same split, fraction and split_seed, or other weights."
            )
    record = weights.with_suffix(".json")
    with written_whole(record) as temporary:
        temporary.write_text(json.dumps({"sample": digest, "images": len(sample)}) + "\n")
    return record


def sample_of(weights: str | Path) -> str | None:
    """The digest of the sample that ``weights`` were trained on, None where no record of them lies beside them."""
    path = Path(weights).with_suffix(".json")
    record = json.loads(path.read_text()) if path.is_file() else {}
    known = record.get("weights_sha256")  # in the records of weights that are complete
    return record.get("sample") if known is None or known == sha256_of(weights) else None


def check_origin(drawn: Sequence[Mapping[str, Any]], sample: Sequence[Case], folder: str | Path) -> None:
    """
    Refuse synthetic images of a model that has seen other real images than ``sample``.

    Args:
        drawn: synthetic cases, each with the digest of its model's "sample", or None where it does not say.
        sample: the real images that are not tested on.
        folder: of the set, for the message.

    Raises:
        ValueError: when one says otherwise.
    """
    told = {case.get("sample") for case in drawn}
    if told - {None, names_digest(sample)}:
        raise ValueError(
            f"{folder} was drawn by a model that was trained on another sample of the real images, so it may have seen "
            "images that are tested on: give the set of this split, fraction and split_seed."
        )
    if None in told:
        logger.warning(f"{folder} does not say which real images its model has seen: make sure that none is tested on.")
