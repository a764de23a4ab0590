"""Folders of NIfTI, PNG or JPEG files as sequences of images in [-1, 1], read one at a time by one stated rule."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.transforms import Resize
from PIL import Image
from torch import Tensor

from ..utils.files import sha256_of

NIFTI = (".nii.gz", ".nii")
PICTURES = (".png", ".jpg", ".jpeg")
SCALINGS = ("auto", "percentiles", "dtype", "none")
PERCENTILES = (0.5, 99.5)
_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class ImageFolder(Sequence[Tensor]):
    """
    The images of one folder, sorted by name; an image is read when it is asked for and not kept.

    Headers are read at once, so that files of other kinds, sizes or channels are found before any work. Subfolders and
    hidden files are left out. NIfTI volumes are brought to RAS; a volume of one slice counts as 2D.

    MONAI's ``LoadImage`` is not used: it turns pictures by 90 degrees, hides whether they had colours, and reads pixels
    to know a size.

    Args:
        path: folder of .nii, .nii.gz, or of .png, .jpg, .jpeg.
        scaling: to [-1, 1]: "percentiles" (each image's own 0.5 and 99.5, clipped), "dtype" (the whole range of the
            file's integers), "none" (is there already), "auto" (percentiles for NIfTI, dtype for pictures).
        grey: measure the luminance of colour pictures; otherwise they are refused. Equal channels are no colours.
        size: sides to bring every image to, linear with anti-aliasing; None leaves them.

    Attributes:
        files: paths, sorted by name.
        names: file names without suffix.
        shapes: sides of each image as it is given out.
        spacings: voxel sides of each as it is given out, mm; 1 for pictures, whose unit is the pixel at any ``size``.
        scaling: the rule in use, never "auto".

    Raises:
        FileNotFoundError: for no such folder, or one without images.
        ValueError: for an unreadable or many-channel file, or files that do not go together; names the file.
    """

    def __init__(
        self, path: str | Path, scaling: str = "auto", grey: bool = False, size: Sequence[int] | None = None
    ) -> None:
        self.path = Path(path)
        self.files = _image_files(self.path)
        kinds = {is_nifti(file) for file in self.files}
        if len(kinds) == 2:
            raise ValueError(f"{path} holds NIfTI files and pictures; one kind was expected.")
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}.")
        self.stored_as_shown = kinds == {False}
        self.scaling = scaling if scaling != "auto" else "dtype" if self.stored_as_shown else "percentiles"
        self.grey = grey
        self.size = tuple(size) if size else None
        self.names = [stem(file) for file in self.files]
        headers = [_header(file) for file in self.files]
        self.spatial_dims = len(headers[0][0])
        self._check(headers)
        self.shapes = [self.size or shape for shape, _, _ in headers]
        self.spacings = [
            tuple(mm * before / after for mm, before, after in zip(spacing, shape, given))
            if is_nifti(file)
            else spacing
            for file, (shape, spacing, _), given in zip(self.files, headers, self.shapes)
        ]
        self._sha256: dict[int, str] = {}

    def _check(self, headers: list[tuple[tuple[int, ...], tuple[float, ...], bool]]) -> None:
        for file, (shape, _, _) in zip(self.files, headers):
            if len(shape) != self.spatial_dims:
                raise ValueError(f"{file} is {len(shape)}D, {self.files[0]} is {self.spatial_dims}D.")
        if self.size and (len(self.size) != self.spatial_dims or min(self.size) < 1):
            raise ValueError(f"size {self.size} does not fit the {self.spatial_dims}D images of {self.path}.")
        doubles = [name for name, times in Counter(self.names).items() if times > 1]
        if doubles:
            raise ValueError(f"{self.path} holds several files named {doubles[0]}.*; one a name was expected.")
        coloured = next((index for index, (_, _, colour) in enumerate(headers) if colour), None)
        if coloured is not None and not self.grey:
            _pixels(self.files[coloured], grey=False)  # found before the long work where it is the usual case

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        """The image at ``index``, (1, *spatial), float32 in [-1, 1]."""
        if not isinstance(index, int):
            raise TypeError(f"an ImageFolder gives one image at a time, got index {index!r}.")
        image = torch.from_numpy(scaled(self._raw(index), self.scaling, self.files[index]))[None]
        if self.size and tuple(image.shape[1:]) != self.size:
            mode = "bilinear" if self.spatial_dims == 2 else "trilinear"
            image = Resize(self.size, mode=mode, anti_aliasing=True)(image).as_tensor()  # type: ignore[attr-defined]
        return image

    def _raw(self, index: int) -> np.ndarray:
        file = self.files[index]
        return _voxels(file) if is_nifti(file) else _pixels(file, self.grey)

    def sha256(self, index: int) -> str:
        """Of the file's bytes."""
        if index not in self._sha256:
            self._sha256[index] = sha256_of(self.files[index])
        return self._sha256[index]

    def describe(self) -> dict[str, Any]:
        """How the images were read, as it stands in the results."""
        rule = {
            "percentiles": f"each image's percentiles {PERCENTILES[0]} and {PERCENTILES[1]} to [-1, 1], clipped",
            "dtype": "the whole range of the file's integers to [-1, 1]",
            "none": "as stored, in [-1, 1]",
        }[self.scaling]
        return {"scaling": self.scaling, "intensities": rule, "grey": self.grey, "resized_to": self.size}


def folder_facts(folder: ImageFolder) -> dict[str, Any]:
    """Name, number and sizes of a folder's images, and one sha256 over those of all files."""
    sizes = Counter("x".join(map(str, shape)) for shape in folder.shapes).most_common()
    digest = hashlib.sha256("".join(folder.sha256(i) for i in range(len(folder))).encode()).hexdigest()
    common = ", ".join(f"{size} ({times})" for size, times in sizes[:3])
    return {
        "folder": folder.path.name,
        "n": len(folder),
        "sizes": common + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""),
        "sha256": digest,
    }


def is_nifti(path: Path) -> bool:
    """Whether the name ends as a NIfTI file's."""
    return path.name.lower().endswith(NIFTI)


def stem(path: Path) -> str:
    """File name without .nii.gz, .png and so on."""
    suffix = next(s for s in (*NIFTI, *PICTURES) if path.name.lower().endswith(s))
    return path.name[: -len(suffix)]


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {folder}.")
    inside = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    files = [p for p in inside if p.is_file() and p.name.lower().endswith((*NIFTI, *PICTURES))]
    files.sort(key=lambda file: (stem(file), file.name))
    if not files:
        below = " Its subfolders are not searched." if any(p.is_dir() for p in inside) else ""
        raise FileNotFoundError(f"No {', '.join((*NIFTI, *PICTURES))} file in {folder}.{below}")
    return files


def _header(file: Path) -> tuple[tuple[int, ...], tuple[float, ...], bool]:
    """Sides, spacing, and whether the file has colours or an alpha channel."""
    try:
        if not is_nifti(file):
            with Image.open(file) as picture:
                return picture.size[::-1], (1.0, 1.0), picture.mode not in _GREY_MODES
        image: Any = nib.load(file)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{file} is no readable image: {error}") from error
    shape, order, _ = _layout(file, image)
    zooms = image.header.get_zooms()
    return shape, tuple(float(zooms[axis]) for axis in order[: len(shape)]), False


def _layout(file: Path, image: Any) -> tuple[tuple[int, ...], list[int], np.ndarray]:
    """Sides in RAS order, the stored axis of each, and nibabel's orientation; 2D images stay as they are stored."""
    stored = tuple(int(side) for side in image.shape)
    if len(stored) < 2 or any(side != 1 for side in stored[3:]):
        raise ValueError(f"{file} has shape {stored}; one channel in two or three dimensions was expected.")
    if len(stored) == 2 or stored[2] == 1:
        return stored[:2], [0, 1], np.array([[0, 1], [1, 1], [2, 1]])
    orientation = nib.io_orientation(image.affine)
    if np.isnan(orientation).any():
        raise ValueError(f"{file} has no orientation (a singular affine).")
    order = [int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3)]
    return tuple(stored[axis] for axis in order), order, orientation


def _voxels(file: Path) -> np.ndarray:
    try:
        image: Any = nib.load(file)
        shape, _, orientation = _layout(file, image)
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{file} is no readable image: {error}") from error
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{file} holds {array.dtype} values; one number a voxel was expected.")
    array = array.reshape(array.shape[:3] if array.ndim > 3 else array.shape)
    return array.reshape(shape) if len(shape) == 2 else nib.apply_orientation(array, orientation)


def _pixels(file: Path, grey: bool) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            picture.load()
            if picture.mode in _GREY_MODES:
                return np.asarray(picture).astype(np.uint8) * 255 if picture.mode == "1" else np.asarray(picture)
            coloured = picture.convert("RGBA")
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        raise ValueError(f"{file} is no readable image: {error}") from error
    channels = np.asarray(coloured)
    if (channels[..., 3] < 255).any():
        raise ValueError(f"{file} has transparent pixels; an opaque picture was expected.")
    if (channels[..., :1] == channels[..., 1:3]).all():
        return channels[..., 0]
    if not grey:
        raise ValueError(f"{file} is a colour picture; --grey true measures its luminance.")
    return np.asarray(coloured.convert("RGB").convert("L"))


def scaled(array: np.ndarray, scaling: str, file: str | Path = "image") -> np.ndarray:
    """
    Intensities brought to [-1, 1].

    Args:
        array: any real dtype.
        scaling: "percentiles", "dtype" or "none"; see ``ImageFolder``.
        file: for the messages.

    Returns:
        The same shape, float32, contiguous.

    Raises:
        ValueError: for NaN or infinity, no contrast between the percentiles, floats under "dtype", values outside
            [-1, 1] under "none".
    """
    values = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{file} holds NaN or infinity.")
    if scaling == "dtype":
        if array.dtype.kind not in "iu":
            raise ValueError(f"{file} holds {array.dtype} values, whose range says nothing; use --scaling percentiles.")
        limits = np.iinfo(array.dtype)
        low, high = float(limits.min), float(limits.max)
    elif scaling == "percentiles":
        low, high = (float(v) for v in np.percentile(values, PERCENTILES))
        if not high > low:
            raise ValueError(
                f"{file} has no contrast: percentiles {PERCENTILES[0]} and {PERCENTILES[1]} are both {low:g}. "
                "A fixed rule (--scaling dtype or none) can measure it."
            )
    else:
        low, high = -1.0, 1.0
        if values.min() < -1 or values.max() > 1:
            raise ValueError(
                f"{file} has values from {values.min():g} to {values.max():g}; --scaling none expects [-1, 1]."
            )
    return np.clip((values - low) * (2 / (high - low)) - 1, -1, 1)
