"""The one reader: NIfTI, PNG, JPEG and DICOM images by the same rules, for inference, training and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import SpaceKeys

from ..transforms.geometry import SlicesLastd, plane_of
from ..utils.files import sha256_of, stand_in
from . import dicom, dicom_volumes
from .dicom_writer import check_linkable
from .finder import EXPECTED, kind_of
from .image_file import ImageFile, ImageHeader, Unsuitable, sides
from .nifti import read_nifti, read_nifti_description, read_nifti_header, read_nifti_slice
from .notices import noted
from .raster import read_raster, read_raster_header

_LARGEST = float(np.finfo(np.float32).max)  # which transforms compute in
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

logger = logging.getLogger(__name__)


def read_image(path: str | Path, segments: Mapping[str, int] | None = None) -> ImageFile:
    """
    Read an image of any of the formats to its end.

    Args:
        path: .png, .jpg, .jpeg, .nii, .nii.gz, in any case, or a DICOM file by any name, or the folder of a series.
        segments: labels of a DICOM segmentation, see ``read_segmentation``; None: segmentations are no images.

    Returns:
        Its numbers, (C, X, Y, Z), and what it takes to write others like it.

    Raises:
        FileNotFoundError: when there is no such file.
        ImportError: for DICOM without pydicom.
        ValueError: when it is damaged, of a kind that cannot be used, or holds NaN; the message begins with the path.
    """
    path = _existing(path, folder=True)
    readers = {"raster": read_raster, "nifti": read_nifti, "dicom": dicom.read_dicom}
    if path.is_dir():
        image = _named(path, dicom_volumes.read_series)
    elif segments is not None and dicom.is_dicom(path) and dicom_volumes.is_segmentation(path):
        image = _named(path, lambda file: dicom_volumes.read_segmentation(file, segments))
    else:
        image = _named(path, readers[kind_of(path)])
    low, high = float(image.values.min()), float(image.values.max())
    if not (low >= -_LARGEST and high <= _LARGEST):  # NaN fails too
        wrong = int((~(np.abs(image.values) <= _LARGEST)).sum())
        found = f"{wrong} of {image.values.size} pixels are NaN or infinite in single precision"
        raise ValueError(f"{path}: {found}; numbers were expected.")
    if min(image.values.shape[1:3]) < 2 and image.values.shape[3] < 2:
        raise ValueError(f"{path}: at least 2 x 2 pixels were expected, got {sides(image.values.shape[1:3])}.")
    return image


def image_header(path: str | Path, stacked: bool = False) -> ImageHeader:
    """
    What the first bytes of an image file say: sides, affine and channels; no pixel is decoded.

    Args:
        path: of the file.
        stacked: see ``read_nifti_header``.

    Raises:
        FileNotFoundError, ImportError, ValueError: as ``read_image``.
    """
    path = _existing(path)
    nifti = partial(read_nifti_header, stacked=stacked)
    readers = {"raster": read_raster_header, "nifti": nifti, "dicom": dicom.read_dicom_header}
    return _named(path, readers[kind_of(path)], told=False)


def read_description(path: str | Path) -> str:
    """
    What the header of a NIfTI file of any dimensions says of its making, once the file is read to its end.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged or cut off; the message begins with the path.
    """
    found: str = _named(_existing(path), read_nifti_description)
    return found


def _existing(path: str | Path, folder: bool = False) -> Path:
    path = Path(path)
    if path.is_dir() and not (folder and dicom_volumes.slices_of(path)):
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:3]) or "nothing"
        raise FileNotFoundError(f"{path}: a file was expected, this is a folder (it holds {inside}).")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; {EXPECTED} was expected.")
    if not (path.is_file() or path.is_dir()):
        raise Unsuitable(f"{path}: a file was expected, this is a pipe or a device.")
    return path


def _named(path: Path, read: Any, told: bool = True) -> Any:
    """Call a reader, whose errors do not know the file; what it says else is told unless it is to be called again."""
    try:
        with noted(path if told else None):
            return read(path)
    except (ImportError, Unsuitable, PermissionError, MemoryError):
        raise
    except Exception as error:
        reason = stand_in(path) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{path}: damaged, cut off, or not {EXPECTED} ({reason}).") from error


class LoadImaged(MapTransform):
    """
    Read images by ``read_image``, as (C, X, Y), (C, X, Y, Z), with all that is needed to write others like them.

    MONAI's own ``LoadImaged`` tries one reader after the other and hides what each says; none of them turns
    MONOCHROME1 over or heeds EXIF, and what is lost (bit depth, scale, codes) cannot be written back. This is no
    subclass, since MONAI Label sets what is inside of one.

    Args:
        keys: a path each, or several, whose images become the channels of one.
        spatial_dims: 2 for (C, X, Y) of a single image, as in print: x to the right, y down; 3 for a volume
            (C, X, Y, Z); None for (C, X, Y, Z) with Z = 1 for a single one.
        channels: 1 for grey, 3 for colour. Equal channels are grey.
        luminance: whether colour becomes its luminance, with a notice, where grey is expected; otherwise an error.
        dtype: of the result.
        segments: of DICOM segmentations, see ``read_image``.
        link_to_patient: whether results will be, so that a DICOM image under the first key must say whose it is.

    Returns (when called):
        A copy of the case with ``MetaTensor`` images, whose metadata has "filename_or_obj" and "format"
        (``ImageFile.as_text``).

    Raises:
        ValueError: and others of ``read_image`` (when called); for another number of dimensions, colour among grey
            images or grey among colour ones, by file.

    Example:
        >>> import tempfile; from PIL import Image
        >>> folder = tempfile.TemporaryDirectory(); path = f"{folder.name}/a.png"
        >>> Image.new("L", (6, 4), 7).save(path)
        >>> tuple(LoadImaged("image", spatial_dims=2)({"image": path})["image"].shape)
        (1, 6, 4)
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int | None = None,
        channels: int = 1,
        luminance: bool = True,
        dtype: torch.dtype = torch.float32,
        segments: Mapping[str, int] | None = None,
        link_to_patient: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if spatial_dims not in (None, 2, 3) or channels not in (1, 3):
            raise ValueError(f"spatial_dims 2, 3 or None and 1 or 3 channels, got {spatial_dims} and {channels}.")
        self.spatial_dims = spatial_dims
        self.channels = channels
        self.luminance = luminance
        self.dtype = dtype
        self.segments = segments
        self.link_to_patient = link_to_patient
        self._upright = SlicesLastd("image")
        self._noted: set[str] = set()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data`` with the images of its paths."""
        result = dict(data)
        for key in self.key_iterator(result):
            several = isinstance(result[key], (list, tuple))
            paths = result[key] if several else [result[key]]
            try:
                images = [self._load(read_image(path, self.segments)) for path in paths]
            except FileNotFoundError as error:
                if key == self.keys[0]:
                    raise
                said = f"It is the {key} of {data[self.keys[0]]}; --{key} takes another file or folder."
                raise FileNotFoundError(f"{error} {said}") from error
            if self.link_to_patient and key == self.keys[0]:
                for image in paths:
                    check_linkable(Path(image))
            result[key] = self._together(images) if several else images[0]
        return result

    def _together(self, images: Sequence[MetaTensor]) -> MetaTensor:
        first = images[0]
        for other in images[1:]:
            if other.shape != first.shape or not torch.allclose(other.affine, first.affine, atol=1e-3):
                names = " and ".join(str(image.meta["filename_or_obj"]) for image in (first, other))
                raise Unsuitable(f"{names}: images on one grid were expected, to be the channels of one case.")
        return MetaTensor(torch.cat([image.as_tensor() for image in images]), affine=first.affine, meta=first.meta)

    def _load(self, image: ImageFile) -> MetaTensor:
        values = self._in_channels(image)
        single = values.shape[3] == 1
        if self.spatial_dims == 3 and image.kind not in ("nifti", "series"):
            raise Unsuitable(f"{image.path}: a 3D volume was expected, got a picture.")
        if self.spatial_dims != 3 and image.kind == "series":
            raise Unsuitable(f"{image.path}: a single image was expected, got a DICOM series (dataset_dir takes it).")
        if self.spatial_dims == 2 and not single:
            raise Unsuitable(f"{image.path}: a 2D image was expected, got {sides(values.shape[1:])} voxels.")
        image.sha256 = sha256_of(image.path)
        named = {"filename_or_obj": str(image.path), "format": image.as_text()}
        space = {"spatial_shape": np.array(values.shape[1:]), "space": SpaceKeys.RAS}
        meta = {**named, **space, "original_affine": image.affine.copy()}
        if image.padding is not None:
            meta["padding"] = image.padding
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self.dtype)
        loaded = MetaTensor(tensor, affine=torch.from_numpy(image.affine.copy()), meta=meta)
        if self.spatial_dims != 2:
            return loaded
        shown = self._upright({"image": loaded})["image"].as_tensor()
        return MetaTensor(shown[..., 0].contiguous(), meta=named)

    def _in_channels(self, image: ImageFile) -> np.ndarray:
        values, path = image.values, str(image.path)
        apart = float(np.abs(values - values[:1]).max()) if len(values) > 1 else 0.0
        if self.channels == 3:
            if apart == 0:
                raise Unsuitable(f"{path}: a colour image was expected, got grey.")
            return values
        if apart > 0:
            if not self.luminance:
                found = f"channels differ by up to {apart:g}"
                raise Unsuitable(f"{path}: a grey image was expected, got colour ({found}).")
            if path not in self._noted:  # once a file, though a run may read it twice
                self._noted.add(path)
                logger.warning("%s is in colour; grey was expected: its luminance is taken, and written in grey.", path)
            return np.rint(np.tensordot(_LUMA, values, axes=1))[None]
        return values[:1]


class LoadSliced(MapTransform):
    """
    Read the slice of a case of ``slice_cases``, and that slice alone (of a compressed file, what lies before it too).

    It lies as in print, x to the right and y down, as inference takes slices (``SlicesLastd``).

    Args:
        keys: path of a NIfTI file; the case has "axis", "slice" and "channel" (-1 for a 3D file) as well. Where
            "slice" is -1, the whole stack is read, slices last.
        of_one_channel: keys of 3D files, such as label maps, beside the 4D files of a case.

    Raises:
        ValueError: (when called) for a file that cannot be read or has other dimensions, by name.

    Example:
        >>> LoadSliced("image").keys
        ('image',)
    """

    def __init__(
        self, keys: KeysCollection, of_one_channel: Sequence[str] = (), allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.of_one_channel = tuple(of_one_channel)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the case with (1, X, Y) float32 images, or whole stacks (1, X, Y, Z) with their affines."""
        result = dict(data)
        for key in self.key_iterator(result):
            channel = None if data["channel"] < 0 or key in self.of_one_channel else data["channel"]
            index = data["slice"] if data["slice"] >= 0 else None
            place = (data["axis"], index, channel)
            values, affine = _named(Path(result[key]), lambda path, place=place: read_nifti_slice(path, *place))
            meta = {"filename_or_obj": str(result[key])}
            volume = MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(affine), meta=meta)
            plane = plane_of(volume.narrow(1 + data["axis"], 0, 1))  # type: ignore[arg-type]
            shown = SlicesLastd("image", plane)({"image": volume})["image"]
            if index is not None:
                shown = MetaTensor(shown.as_tensor()[..., 0].contiguous(), meta={**meta})
            result[key] = shown
        return result
