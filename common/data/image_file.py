"""An image as numbers, with what it takes to store others like it; records of how one was made, compared."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.files import sha256_of

# x to the patient's left, y to the back, z down: what an axial picture shows to the right, down and behind.
AS_SHOWN = np.diag([-1.0, -1.0, -1.0, 1.0])


class Unsuitable(ValueError):
    """A file that can be read, but not used; the message names it and says what was expected."""


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """
    What the first bytes of an image file say.

    Attributes:
        path: of the file.
        kind: "raster", "nifti" or "dicom".
        shape: (X, Y, Z), Z = 1 for a single image, whose x runs to the right and y down.
        affine: (4, 4), mm, RAS; that of an axial picture where the file has none.
        channels: 1, or 3 in colour (equal channels count as colour here: only pixels tell).
        pixel: sides of a picture's pixel that its file states, (x, y), mm; None where it states none.

    Example:
        >>> header = ImageHeader(Path("a.png"), "raster", (4, 6, 1), AS_SHOWN)
        >>> header.spacing
        (1.0, 1.0, 1.0)
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    affine: np.ndarray
    channels: int = 1
    pixel: tuple[float, float] | None = None

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel sides, mm, as the axes are stored; 1 for pictures, whose unit is the pixel."""
        return tuple(float(side) for side in np.linalg.norm(self.affine[:3, :3], axis=0))


@dataclasses.dataclass
class ImageFile:
    """
    An image as numbers, with what it takes to store others alike: value = slope * stored + inter.

    MONAI's readers and writers know neither bit depth nor MONOCHROME1 nor the scale of stored integers, without which
    an image cannot be written back as it came.

    Attributes:
        path: of the file.
        kind: "raster", "nifti", "dicom", or "series" for a DICOM volume.
        values: (C, X, Y, Z), float64; one channel, or three where it is in colour; Z = 1 for a single image, whose x
            runs to the right and y down.
        affine: (4, 4), mm, RAS; that of an axial picture where the file has none.
        dtype: of the stored values.
        slope: value of one stored unit.
        inter: value of a stored 0.
        limits: smallest and largest stored value.
        shape: sides of the stored array, as many as the file has.
        deviation: whether it is to hold standard deviations.
        extra: what else the format keeps: codes and unit of NIfTI, the padding value of DICOM.
        padding: (X, Y, Z), True where nothing was measured (DICOM's PixelPaddingValue); ``values`` hold the smallest
            measured value there, so that it sets no range. None without.
        sha256: of the file, hexadecimal, where ``LoadImaged`` has read it.
        lossy: whether its compression changes values: JPEG by any name, and DICOM that says so.

    Example:
        >>> image = np.zeros((1, 2, 2, 1))
        >>> like = ImageFile(Path("a.png"), "raster", image, np.eye(4), np.dtype("u1"), limits=(0, 255))
        >>> like.stored(np.array([3.6, 300.0])).tolist()
        [4, 255]
    """

    path: Path
    kind: str
    values: np.ndarray
    affine: np.ndarray
    dtype: np.dtype
    slope: float = 1.0
    inter: float = 0.0
    limits: tuple[float, float] = (-np.inf, np.inf)
    shape: tuple[int, ...] = (0, 0)
    deviation: bool = False
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    padding: np.ndarray | None = None
    sha256: str = ""
    lossy: bool = False

    def stored(self, values: np.ndarray) -> np.ndarray:
        """``values`` as they are stored: scaled back and, for integers, rounded and limited."""
        array = (np.asarray(values, dtype=np.float64) - self.inter) / self.slope
        if np.issubdtype(self.dtype, np.integer):
            array = np.clip(np.rint(array), *self.limits)
        return array.astype(self.dtype)

    def for_deviation(self, largest: float) -> ImageFile:
        """As this file for maps from 0 to ``largest``, which becomes the largest stored integer; floats in NIfTI."""
        if self.kind == "nifti":
            return dataclasses.replace(self, dtype=np.dtype(np.float32), slope=1.0, inter=0.0, deviation=True)
        slope = largest / self.limits[1] if largest > 0 else 1.0
        return dataclasses.replace(self, slope=slope, inter=0.0, deviation=True)

    def of_type(self, dtype: Any) -> ImageFile:
        """As this file for values of another kind, stored as they are, in ``dtype``."""
        dtype = np.dtype(dtype)
        return dataclasses.replace(self, dtype=dtype, slope=1.0, inter=0.0, limits=integer_limits(dtype))

    def as_text(self) -> str:
        """Everything but the values, as JSON: it goes through MONAI's collation of metadata unchanged."""
        kept = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("values", "affine", "padding")
        }
        return json.dumps({**kept, "path": str(self.path), "dtype": self.dtype.str})

    @classmethod
    def from_text(cls, text: str) -> ImageFile:
        """The file of ``as_text``, without values."""
        kept = json.loads(text)
        kept |= {"path": Path(kept["path"]), "dtype": np.dtype(kept["dtype"]), "limits": tuple(kept["limits"])}
        return cls(**{**kept, "shape": tuple(kept["shape"])}, values=np.empty(0), affine=np.eye(4))


def integer_limits(dtype: Any) -> tuple[float, float]:
    """Smallest and largest value of a type; infinite for floats."""
    if not np.issubdtype(dtype, np.integer):
        return -np.inf, np.inf
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def sides(shape: Sequence[int]) -> str:
    """Such as "12 x 9 x 5", for messages."""
    return " x ".join(str(int(side)) for side in shape)


def provenance(bundle_root: str | Path, weights: str | Path, sampler: Any = None, **settings: Any) -> dict[str, Any]:
    """
    A record to store beside generated volumes.

    Args:
        bundle_root: folder with ``configs/metadata.json``, which knows the bundle's name and version.
        weights: file of the weights, whose SHA-256 is recorded; None stands there while it does not exist.
        sampler: whose ``settings``, if it has any, are recorded too.
        settings: anything else that a rerun needs, e.g. ``steps=10``.

    Returns:
        JSON-ready values; "synthetic" is True.
    """
    metadata = Path(bundle_root) / "configs" / "metadata.json"
    about = json.loads(metadata.read_text()) if metadata.is_file() else {}
    return {
        "synthetic": True,
        "bundle": Path(bundle_root).resolve().name,
        "version": about.get("version"),
        "weights": Path(weights).name,
        "weights_sha256": sha256_of(weights) if Path(weights).is_file() else None,
        **getattr(sampler, "settings", {}),
        **settings,
    }


def source_record(name: str, path: str | Path | None, sha256: str) -> dict[str, Any]:
    """
    What a record says of a file that an image was made from; None for ``path`` leaves out its name.

    Example:
        >>> source_record("mask", "masks/a.nii.gz", "0123")
        {'mask': 'a.nii.gz', 'mask_sha256': '0123'}
    """
    return {**({} if path is None else {name: Path(path).name}), f"{name}_sha256": sha256}


def describe(record: Mapping[str, Any]) -> str:
    """
    A provenance as one line.

    Example:
        >>> describe({"bundle": "med_ddpm_3d", "version": "0.1.0", "seed": 7, "steps": 20})
        'synthetic med_ddpm_3d 0.1.0 seed 7 steps 20'
    """
    parts = ["synthetic", str(record.get("bundle") or ""), str(record.get("version") or "")]
    parts += [f"{name} {record[name]}" for name in ("seed", "steps") if record.get(name) is not None]
    if record.get("weights_sha256"):
        parts.append(f"weights {record['weights_sha256'][:12]}")
    return " ".join(filter(None, parts))


def read_record(path: str | Path) -> dict[str, Any] | None:
    """The record in a JSON file that stands beside generated images; None for no such file or one of another kind."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("synthetic") is True else None


def check_same(
    path: str | Path, found: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str] = ()
) -> None:
    """
    Compare what an image was made with and what it would be made with now.

    Another version of the bundle is no difference, nor are the same weights under another file name, nor is what
    ``runtime="auto"`` ran on.

    Args:
        path: of the image, for the message.
        found: its record.
        wanted: the record that this run would write.
        ignored: keys that may differ.

    Raises:
        FileExistsError: when a value differs; names the image, the key and both values.

    Example:
        >>> check_same("a.png", {"seed": 0, "version": "1"}, {"seed": 1, "version": "2"})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        FileExistsError: a.png was made with seed 0, now it is 1: choose another output_dir, ...
    """
    first = difference(found, wanted, ignored)
    if first is not None:
        key, old, new = first
        made = f"was made with {key} {old!r}" if key in found else f"has no {key} in its record"
        raise FileExistsError(
            f"{path} {made}, now it is {new!r}: choose another output_dir, or --overwrite True "
            "(which redoes the images of this run alone)."
        )


def difference(
    found: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str] = ()
) -> tuple[str, Any, Any] | None:
    """The first key, by name, whose values differ, with both; None where ``check_same`` would pass."""
    wanted = json.loads(json.dumps(wanted, default=str))  # as JSON brings it back
    differing = {
        key for key in {*found, *wanted} - {"version", "ran_on", *ignored} if found.get(key) != wanted.get(key)
    }
    if "weights_sha256" not in differing:
        differing.discard("weights")  # a file by another name
    return min(((key, found.get(key), wanted.get(key)) for key in differing), key=lambda d: d[0], default=None)
