"""Folders of images as sequences of images in [-1, 1], read one at a time by one stated rule."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.transforms import Resize
from torch import Tensor

from ..data.dataset import unusable
from ..data.finder import ENDINGS, find_images, kind_of, own_outputs, stem_of
from ..data.image_file import ImageHeader
from ..data.names import OutputNames
from ..data.reader import image_header, read_image
from ..utils import message_of
from ..utils.files import sha256_of
from .intensities import PERCENTILES, SCALINGS, grey_of, scaled

_KINDS = {"nifti": "NIfTI files", "raster": "pictures", "dicom": "DICOM files"}
_WIDE, _USED = 2**8, 0.25  # a range beyond 8 bits, of which 14 in 16 bits are a quarter


class ImageFolder(Sequence[Tensor]):
    """
    The images of one folder, sorted by name; an image is read when it is asked for and not kept.

    Headers are read at once, so that files of other kinds, sizes or channels are found before any work. Of a set with
    its masks (``images/`` and ``labels/``, or nnU-Net's names), the images are taken. Subfolders are searched where the
    folder itself holds no image. Hidden files are left out, and so are the sheets, previews, means and standard
    deviations that this project's own runs write beside their images. Volumes are brought to RAS; a volume of one slice
    counts as 2D.

    Args:
        path: folder of NIfTI files, or of PNG and JPEG, or of DICOM.
        scaling: to [-1, 1]: "percentiles" (each image's own 0.5 and 99.5, clipped), "dtype" (the whole range of the
            file's integers), "none" (is there already), "auto" (dtype for PNG and JPEG, percentiles for others).
        grey: measure the luminance of colour pictures; otherwise they are refused. Equal channels are no colours.
        size: sides to bring every image to, linear with anti-aliasing; None leaves them.
        spacing: voxel sides in mm to bring every image to, likewise; None leaves them.

    Attributes:
        files: paths, sorted by name.
        names: file names without suffix, with their subfolder.
        shapes: sides of each image as it is given out.
        spacings: voxel sides of each as it is given out, mm; 1 for pictures whose files do not all state a
            size of their pixels: their unit is the pixel, at any ``size``.
        scaling: the rule in use, never "auto".
        axes: directions of the axes, such as "RAS"; of slices, as they are stored; "" for pictures.
        left_out: names of our own sheets, previews and maps.

    Raises:
        FileNotFoundError: for no such folder, or one without images.
        ValueError: for an unreadable or many-channel file, or files that do not go together; names the file.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(np.full((4, 6), 255, np.uint8)).save(f"{folder}/white.png")
    ...     images = ImageFolder(folder)
    ...     images.names, images.shapes, images.scaling, float(images[0].min())
    (['white'], [(4, 6)], 'dtype', 1.0)
    """

    def __init__(
        self,
        path: str | Path,
        scaling: str = "auto",
        grey: bool = False,
        size: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
    ) -> None:
        self.path, self.grey = Path(path), grey
        root = _images_of(self.path)
        self.files, self.left_out = _image_files(root)
        kinds = {kind_of(file) for file in self.files}
        if len(kinds) > 1:
            raise ValueError(f"{path} holds {' and '.join(_KINDS[k] for k in sorted(kinds))}; one kind was expected.")
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}.")
        self.stored_as_shown = kinds != {"nifti"}
        self.scaling = scaling if scaling != "auto" else "dtype" if kinds == {"raster"} else "percentiles"
        self.size = tuple(size) if size else None
        self.spacing = tuple(spacing) if spacing else None
        self.names = [OutputNames(root=root).of(file) for file in self.files]
        headers = _headers(self.files)
        self.measured = all(header.kind == "nifti" or header.pixel is not None for header in headers)
        grids = [_grid(header, self.measured) for header in headers]
        self.axes = " or ".join(sorted({axes for _, _, axes in grids}))
        self.spatial_dims = len(grids[0][0])
        self._check(headers, [shape for shape, _, _ in grids])
        self.shapes = [self._shape(shape, mm) for shape, mm, _ in grids]
        self.spacings = [
            mm if not self.measured else tuple(m * a / b for m, a, b in zip(mm, shape, given))
            for (shape, mm, _), given in zip(grids, self.shapes)
        ]
        self._sha256: dict[int, str] = {}

    def _shape(self, shape: tuple[int, ...], mm: tuple[float, ...]) -> tuple[int, ...]:
        if self.spacing and not self.size:
            return tuple(max(1, round(side * m / to)) for side, m, to in zip(shape, mm, self.spacing))
        return self.size or shape

    def _check(self, headers: Sequence[ImageHeader], shapes: Sequence[tuple[int, ...]]) -> None:
        dims = self.spatial_dims
        for file, shape in zip(self.files, shapes):
            if len(shape) != dims:
                raise ValueError(f"{file} is {len(shape)}D, {self.files[0]} is {dims}D.")
        for name, wanted in (("size", self.size), ("spacing", self.spacing)):
            if wanted and (len(wanted) != dims or min(wanted) <= 0 or (name == "spacing" and not self.measured)):
                raise ValueError(f"{name} {wanted} does not fit the {dims}D images of {self.path}.")
        doubles = [name for name, times in Counter(self.names).items() if times > 1]
        if doubles:
            raise ValueError(f"{self.path} holds several files named {doubles[0]}.*; one a name was expected.")
        coloured = next((index for index, header in enumerate(headers) if header.channels > 1), None)
        if coloured is not None and not self.grey:
            self._values(coloured)  # found before the long work where it is the usual case

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        """The image at ``index``, (1, *spatial), float32 in [-1, 1]."""
        if not isinstance(index, int):
            raise TypeError(f"an ImageFolder gives one image at a time, got index {index!r}.")
        try:
            image = torch.from_numpy(self._scaled(index))[None]
        except (OSError, ValueError) as error:
            raise unusable(_problems(range(len(self)), self._scaled), len(self)) from error
        if tuple(image.shape[1:]) != self.shapes[index]:
            mode = "bilinear" if self.spatial_dims == 2 else "trilinear"
            image = Resize(self.shapes[index], mode=mode, anti_aliasing=True)(image).as_tensor()  # type: ignore[attr-defined]
        return image

    def _scaled(self, index: int) -> np.ndarray:
        values, limits = self._values(index)
        return scaled(values, self.scaling, limits, self.files[index])

    def _values(self, index: int) -> tuple[np.ndarray, tuple[float, float] | None]:
        """Grey values as they are measured, and the range of the file's integers; None for floats."""
        image = read_image(self.files[index])
        array = grey_of(image, self.grey)
        if self.stored_as_shown or self.spatial_dims == 2:
            array = array[..., 0].T if self.stored_as_shown else array[..., 0]
        else:
            array = nib.apply_orientation(array, nib.io_orientation(image.affine))
        limits = sorted(limit * image.slope + image.inter for limit in image.limits)
        return array, (limits[0], limits[1]) if image.dtype.kind in "iu" else None

    def unused_range(self) -> str | None:
        """A notice where integers use a small part of the range that "dtype" scales by; at most 8 images are read."""
        found, whole = 0.0, 0.0
        for index in range(0, len(self) if self.scaling == "dtype" else 0, max(1, len(self) // 8)):
            values, limits = self._values(index)
            if limits is None or limits[1] - limits[0] < _WIDE:
                return None
            found, whole = max(found, float(values.max())), limits[1]
        if found > whole * _USED or not whole:
            return None
        return (
            f"values reach {found:g} of {whole:g}, the largest of their type, so all images are dark in the scaling by "
            f"type; --scaling percentiles takes each image's own range."
        )

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
        found = {"scaling": self.scaling, "intensities": rule, "grey": self.grey, "resized_to": self.size}
        return {**found, **({"spacing": self.spacing} if self.spacing else {})}


def folder_facts(folder: ImageFolder) -> dict[str, Any]:
    """Name, number, sizes and voxel sides of a folder's images, and one sha256 over those of all files."""
    sizes = Counter("x".join(map(str, shape)) for shape in folder.shapes).most_common()
    digest = hashlib.sha256("".join(folder.sha256(i) for i in range(len(folder))).encode()).hexdigest()
    common = ", ".join(f"{size} ({times})" for size, times in sizes[:3])
    facts = {
        "folder": folder.path.resolve().name,
        "n": len(folder),
        "sizes": common + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""),
        "sha256": digest,
    }
    return facts if not folder.measured else {**facts, "median_spacing": median_spacing(folder)}


def same_files(a: ImageFolder, b: ImageFolder) -> list[str]:
    """Names in ``a`` of files whose bytes also stand in ``b``."""
    known = {b.sha256(index) for index in range(len(b))}
    return [name for index, name in enumerate(a.names) if a.sha256(index) in known]


def median_spacing(folder: ImageFolder) -> list[float]:
    """Median voxel sides, mm."""
    return [round(float(side), 4) for side in np.median(folder.spacings, axis=0)]


def _images_of(folder: Path) -> Path:
    """Where the images of a data set lie that has its masks in another folder; else the folder itself."""
    pairs = (("images", "labels"), ("imagesTr", "labelsTr"))
    found = [folder / images for images, labels in pairs if (folder / images).is_dir() and (folder / labels).is_dir()]
    return found[0] if found else folder


def _image_files(folder: Path) -> tuple[list[Path], list[str]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {folder}.")
    files: list[Path] = []
    own: set[str] = set()
    for recursive in (False, True):
        paths = [] if files else find_images(folder, generated=True, recursive=recursive)
        own |= own_outputs(paths, by_name=True)[1]
        found = [Path(path) for path in paths if path not in own]
        files = files or sorted(found, key=lambda p: (p.parent, stem_of(p), p.name))
    if not files:
        endings = ", ".join(ending for kind in ENDINGS.values() for ending in kind)
        raise FileNotFoundError(f"No {endings} file in {folder} or below it.")
    return files, sorted(Path(file).name for file in own)


def _headers(files: Sequence[Path]) -> list[ImageHeader]:
    headers: list[ImageHeader] = []
    if problems := _problems(files, lambda file: headers.append(image_header(file))):
        raise unusable(problems, len(files))
    return headers


def _problems(inputs: Iterable[Any], read: Callable[[Any], Any]) -> dict[int, str]:
    """What each of some inputs cannot be used for, by its position."""
    found = {}
    for position, one in enumerate(inputs):
        try:
            read(one)
        except (OSError, ValueError) as error:
            found[position] = message_of(error)
    return found


def _grid(header: ImageHeader, measured: bool) -> tuple[tuple[int, ...], tuple[float, ...], str]:
    """Sides, spacing and directions of the axes as an image is given out: rows first for pictures, RAS for volumes."""
    shape, spacing = header.shape, header.spacing
    if header.kind != "nifti":
        right, down = header.pixel if measured and header.pixel else (1.0, 1.0)
        return (shape[1], shape[0]), (down, right), ""
    if shape[2] == 1:
        return shape[:2], spacing[:2], "".join(nib.aff2axcodes(header.affine)[:2])
    order = np.argsort(nib.io_orientation(header.affine)[:, 0])
    return tuple(shape[axis] for axis in order), tuple(spacing[axis] for axis in order), "RAS"
