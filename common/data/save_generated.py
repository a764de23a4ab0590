"""Generated images on disk, which have no source whose format they could take: PNG or NIfTI, and a JSON file each."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged

from ..utils.files import written_whole
from .images import ImageFile, describe, write_image
from .sample_cases import FORMATS

logger = logging.getLogger(__name__)

_GREYS = 255
_DESCRIP = 79  # bytes of the NIfTI header's free text


class SaveGeneratedd(SaveImaged):
    """
    Write ``<case>.png`` or ``<case>.nii.gz``, 8 bits, and ``<case>.json``, which says how the image was made.

    ``SaveImaged`` writes in place and takes its names and headers from a source file. This is a ``SaveImaged`` all the
    same, since MONAI Label takes those out.

    Args:
        keys: the image, (1, X, Y) in [0, 1], in MONAI's order of axes; black is 0. Several channels are several
            images, whose names end in their numbers.
        output_dir: folder of the outputs.
        image_format: "png" or "nifti" (voxels of 1 mm).
        output_postfix: after the case's name and an underscore; none if empty.
        provenance: what made the images.

    Raises:
        ValueError: for an unknown format; (when called) for an image outside [0, 1], NaN or of another shape.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        image_format: str = "png",
        output_postfix: str = "",
        provenance: Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if image_format not in FORMATS:
            raise ValueError(f"image_format must be one of {sorted(FORMATS)}, got {image_format!r}.")
        self.output_dir = Path(output_dir)
        self.image_format = image_format
        self.output_postfix = output_postfix
        self.provenance = dict(provenance or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        result = dict(data)
        for key in self.key_iterator(result):
            name = f"{data['case']}_{self.output_postfix}" if self.output_postfix else str(data["case"])
            images = _pixels(result[key], name)
            names = [name] if len(images) == 1 else [f"{name}_{index}" for index in range(len(images))]
            paths = [self.output_dir / f"{one}{FORMATS[self.image_format]}" for one in names]
            about = {k: data[k] for k in ("case", "class") if k in data}
            record = {**self.provenance, **about, "outputs": [path.name for path in paths]}
            # the images come last: where they stand, their record does too
            with written_whole(self.output_dir / f"{name}.json") as temporary:
                temporary.write_text(json.dumps(record, indent=4, default=str) + "\n")
            for path, image in zip(paths, images):
                with written_whole(path) as temporary:
                    _write(temporary, image, self.image_format, record)
            logger.info(f"Wrote {', '.join(map(str, paths))} ({images.shape[1]} x {images.shape[2]} pixels)")
        return result


def _pixels(image: Any, name: str) -> np.ndarray:
    """(C, X, Y) in [0, 1]."""
    values = torch.as_tensor(image).detach().cpu().float().numpy()
    if values.ndim != 3:
        raise ValueError(f"{name}: an image (C, X, Y) was expected, got shape {values.shape}.")
    if not (values.min() >= 0 and values.max() <= 1):  # NaN fails too
        raise ValueError(f"{name}: values in [0, 1] were expected, got {values.min():g} to {values.max():g}.")
    return values


def _write(path: Path, pixels: np.ndarray, image_format: str, record: Mapping[str, Any]) -> None:
    if image_format == "png":
        like = ImageFile(path, "raster", np.empty(0), np.eye(4), np.dtype(np.uint8), 1 / _GREYS, limits=(0, _GREYS))
        write_image(path, pixels[..., None], like, like.affine, record)
        return
    image = nib.Nifti1Image(np.rint(pixels * _GREYS).astype(np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = describe(record).encode()[:_DESCRIP]
    nib.save(image, path)
