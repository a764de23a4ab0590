"""A restored image beside what it was made of: its pixels as in print, numbers of it, and how a page holds it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from PIL import Image

from ..data.finder import kind_of
from ..data.image_file import sides
from ..data.reader import LoadImaged
from ..transforms.geometry import SlicesLastd, interpolated, plane_of
from ..transforms.noise import noise_width

_SLICES = 24  # of a volume that the page holds
_DEPTH = 65535
_COLOURED = 99.9  # percentile at which the colours of the difference end


class RestoredCase(NamedTuple):
    """
    A restored image beside what it was made of, slices last and as in print; see ``read_case``.

    Attributes:
        name: of the outputs.
        size: sides of the result.
        image: (X, Y, Z), float64, in the units of the file, on the grid of the result.
        result: likewise.
        deviation: likewise, of the samples; None for a single sample.
        hole: (X, Y, Z), True inside; None where there is none.
        spacing: (3,), mm, of the result.
        letters: at the left, right, upper and lower edge; "" where the file does not know.
        noted: what the reader must know of this case.
        record: of the result.

    Example:
        >>> flat = np.zeros((2, 2, 1))
        >>> measured(RestoredCase("a", "2 x 2", flat, flat + 1, None, None, np.ones(3), "", [], {}))
        {'change': 1.0, 'most_changed': 1.0}
    """

    name: str
    size: str
    image: np.ndarray
    result: np.ndarray
    deviation: np.ndarray | None
    hole: np.ndarray | None
    spacing: np.ndarray
    letters: str
    noted: list[str]
    record: dict[str, Any]


def read_case(
    file: str, paths: Mapping[str, Path], record: dict[str, Any], name: str, hole: str | None, white_noise: bool
) -> RestoredCase:
    """A case of the report; ``paths`` are those of ``output_paths``, maps among them that need not exist."""
    given: dict[Any, str | None] = {"image": file, "pred": str(paths["pred"]), "hole": hole, "std": str(paths["std"])}
    if record.get("num_samples", 1) == 1:
        given["std"] = None
    loaded = LoadImaged(keys := [key for key in given if given[key]], dtype=torch.float64)(given)
    plane = record.get("plane", "auto")
    plane = plane_of(loaded["image"]) if plane == "auto" else plane
    turned = SlicesLastd(keys, plane)(loaded)
    size = turned["pred"].shape[1:3]
    arrays = {key: turned[key].as_tensor() for key in keys}
    noted = _notes_of_noise(arrays["image"][0]) if white_noise else []
    if arrays["image"].shape[1:3] != size:
        noted.append(f"The input ({sides(arrays['image'].shape[1:3])}) is shown at the size of the result, bilinear.")
        arrays["image"] = interpolated(arrays["image"], size, "bilinear")
    if hole is not None:
        noted.append("What the input holds inside the outline was not used; outside of it nothing was changed.")
    if "std" in arrays and kind_of(paths["std"]) == "raster":
        arrays["std"] = arrays["std"] * record["std_of_one_step"]
    affine = np.asarray(turned["pred"].affine)
    codes = "".join(map(str, nib.orientations.aff2axcodes(affine))) if kind_of(file) == "nifti" else ""
    opposite = dict(zip("RLAPSI", "LRPAIS"))
    values = {key: array[0].numpy() for key, array in arrays.items()}
    return RestoredCase(
        name,
        sides(size if turned["pred"].shape[3] == 1 else turned["pred"].shape[1:]),
        values["image"],
        values["pred"],
        values.get("std"),
        values["hole"] > 0 if "hole" in values else None,
        nib.affines.voxel_sizes(affine),
        "".join((opposite[codes[0]], codes[0], opposite[codes[1]], codes[1])) if codes else "",
        noted,
        record,
    )


def _notes_of_noise(image: torch.Tensor) -> list[str]:
    middle = image[..., image.shape[-1] // 2]
    width = noise_width((middle - image.min()) / (image.max() - image.min()).clamp_min(1e-12))
    if width == 1:
        return []
    return [
        f"The noise of the input is about {width} pixels wide. The network removes noise that is independent from "
        "pixel to pixel: some of it may be left, and the deviations are too small."
    ]


def measured(case: RestoredCase) -> dict[str, float]:
    """Numbers of a case, in the units of its file; where there is a hole, inside it alone."""
    inside = np.ones(case.result.shape, dtype=bool) if case.hole is None else case.hole
    changes = np.abs(case.result - case.image)[inside]
    found = {"change": float(changes.mean()), "most_changed": float(changes.max())}
    if case.deviation is not None:
        values = case.deviation[inside]
        found |= {"deviation": float(values.mean()), "deviation_95": float(np.percentile(values, 95))}
        found["most_unsure"] = float(values.max())
    return found


def embedded(case: RestoredCase) -> dict[str, Any]:
    """A case as the page's script takes it, and how many "numbers" that is."""
    depth = case.result.shape[2]
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, _SLICES)).round().astype(int))
    image, result = case.image[..., chosen], case.result[..., chosen]
    low, high = float(min(image.min(), result.min())), float(max(image.max(), result.max()))
    whole = high - low <= _DEPTH and all((one == np.rint(one)).all() for one in (image, result))
    step = 1.0 if whole else (high - low) / _DEPTH or 1.0
    marked = None if case.hole is None else case.hole[..., chosen]
    difference = np.abs(result - image)
    content: dict[str, Any] = {
        "shape": list(image.shape),
        "spacing": case.spacing.tolist(),
        "slices": chosen.tolist(),
        "of": depth,
        "low": low,
        "step": step,
        "window": np.percentile(image, (0.1, 99.9)).tolist(),
        "image": _picture((image - low) / step, marked),
        "result": _picture((result - low) / step, marked),
        "difference": float(np.percentile(difference, _COLOURED)) or float(difference.max()) or 1.0,
        "numbers": 2 * image.size,
    }
    if case.deviation is not None:
        deviation = case.deviation[..., chosen]
        largest = float(deviation.max()) or 1.0
        content |= {"deviation": _picture(deviation * (_DEPTH / largest)), "largest": largest}
        content["numbers"] += deviation.size
    return content


def _picture(levels: np.ndarray, marked: np.ndarray | None = None) -> str:
    """Levels 0 to 65535 of (X, Y, Z), and a region, as ``decoded`` of viewer.js reads them."""
    stack = np.rint(levels).clip(0, _DEPTH).astype(np.uint16).T.reshape(-1, levels.shape[0])
    blue = np.zeros_like(stack) if marked is None else 255 * marked.T.reshape(stack.shape)
    memory = io.BytesIO()
    Image.fromarray(np.stack([stack >> 8, stack & 255, blue], axis=-1).astype(np.uint8)).save(memory, "PNG")
    return base64.b64encode(memory.getvalue()).decode()
