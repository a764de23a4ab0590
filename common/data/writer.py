"""The one writer: images in the format of their source, complete or not there at all, with a record of their making."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms import SaveImaged as MonaiSaveImaged

from .dicom_terms import body_part as defined_part
from .drawn import FORMATS
from .finder import MAPS, stem_of
from .image_file import ImageFile, source_record
from .names import OutputNames, channel_paths, output_paths
from .outputs import Output, write_outputs

_GREYS = 255
VOLUME_ENDINGS = {"nifti": ".nii.gz", "dicom": ""}
"""What the names of generated volumes end in; a series is a folder."""

logger = logging.getLogger(__name__)


class KeepSeedd(MapTransform):
    """
    Copy the seed that the sampler left in an image's metadata to the case's "seed", since ``Invertd`` replaces
    metadata; and to "quality" what a check of quality has found.

    Args:
        keys: generated images.

    Example:
        >>> case = {"pred": MetaTensor(torch.zeros(1, 2, 2), meta={"seed": 7})}
        >>> KeepSeedd("pred")(case)["seed"]
        7
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, with "seed" (an int) if the metadata has a seed."""
        result = dict(data)
        for key in self.key_iterator(result):
            seed = result[key].meta.get("seed") if isinstance(result[key], MetaTensor) else None
            if seed is not None:
                result["seed"] = int(seed)
            if seed is not None and "quality" in result[key].meta:
                result["quality"] = json.loads(result[key].meta["quality"])
        return result


class SaveImaged(MonaiSaveImaged):
    """
    Write images, their maps where they are there, and a JSON file with the provenance.

    MONAI's ``SaveImaged`` writes in place, so that a full disk leaves half a file, in one format for all, loses bit
    depth and the scale of stored integers, and reports every error as a missing writer. This is a subclass, since
    MONAI Label takes ``SaveImaged`` out. An image whose metadata names no source is passed on unwritten.

    Args:
        keys: the result. With a source: (C, X, Y, Z), in the units and the orientation of the file that its metadata
            names; mean and standard deviation stand under the keys "mean" and "std". With ``image_format``:
            (C, X, Y) in [0, 1], black is 0, under the name ``case["case"]``; several channels are several images,
            whose names end in their numbers.
        output_dir: folder of the outputs.
        output_postfix: after the name and an underscore; none if empty.
        image_format: "png" or "nifti" (8 bits, voxels of 1 mm) for images without a source; None for the source's. A
            case whose "missing" is 0 stands there already and is passed on unwritten; "sources" go to the record.
        output_dtype: of NIfTI volumes that are no restorations of their source (an MR volume for a mask); values are
            rounded and limited. None for the type and scale of the source.
        output_format: of such volumes: "nifti", or "dicom" for a folder with a series of MR slices.
        body_part: that such a series shows, a defined term of DICOM; "" for none.
        provenance: what made the images.
        hole_key: of an image whose file name goes to the record, if the case has it.
        source_name: of the source's file in the record.
        partner_keys: of further images, as they were read, whose files go to the record under these keys.
        channel_names: of the result, such as modalities, each of which is written to a file of its own that ends in its
            name; none: channels are one file, 4D.
        image_set: a ``SyntheticSet``, which knows the place and the record of each image that belongs to it, and
            writes both to one file; None for no set.
        output_names: of what is made from a source; None for the source's own.
        link_to_patient: whether DICOM outputs belong to the patient and the study of their source; see ``write_dicom``.

    Raises:
        ValueError: for an unknown format, or anonymous names of what is linked to a patient; (when called) for a
            generated image outside [0, 1], NaN or of another shape.
        OSError: (when called) when a file cannot be written; none of this case is left.

    Example:
        >>> import tempfile; folder = tempfile.TemporaryDirectory()
        >>> save = SaveImaged("pred", folder.name, image_format="png", provenance={"seed": 0})
        >>> _ = save({"pred": torch.zeros(1, 6, 4), "case": "x"})
        >>> sorted(path.name for path in Path(folder.name).iterdir())
        ['x.json', 'x.png']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        output_postfix: str = "",
        image_format: str | None = None,
        output_dtype: DtypeLike = None,
        output_format: str = "nifti",
        body_part: str = "",
        provenance: Mapping[str, Any] | None = None,
        hole_key: str = "original_hole",
        source_name: str = "image",
        image_set: Any = None,
        output_names: OutputNames | None = None,
        link_to_patient: bool = False,
        partner_keys: Sequence[str] = (),
        channel_names: Sequence[str] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if image_format is not None and image_format not in FORMATS:
            raise ValueError(f"image_format must be one of {sorted(FORMATS)}, got {image_format!r}.")
        if output_format != "nifti" and output_dtype is None:
            raise ValueError(f"output_format {output_format}: that is for generated volumes, others keep their format.")
        if output_format not in VOLUME_ENDINGS:
            raise ValueError(f"output_format must be one of {sorted(VOLUME_ENDINGS)}, got {output_format!r}.")
        self.output_names = output_names or OutputNames()
        if link_to_patient and self.output_names.anonymous:
            raise ValueError("anonymous_names and link_to_patient contradict each other: choose one.")
        self.link_to_patient = link_to_patient
        self.output_dir, self.output_postfix = Path(output_dir), output_postfix
        self.output_format, self.image_format = output_format, image_format
        self.body_part = defined_part(body_part) if body_part else ""
        self.output_dtype = None if output_dtype is None else np.dtype(output_dtype)  # type: ignore[arg-type]
        self.provenance = dict(provenance or {})
        self.source_name = source_name
        self.image_set = image_set
        self.partner_keys = {hole_key: "hole", **{key: key for key in partner_keys}}
        self.channel_names = list(channel_names)
        self.run = uuid.uuid4().hex
        self._warned = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        result = dict(data)
        for key in self.key_iterator(result):
            if self.image_set is not None:
                self.image_set.write(result, result[key])
            elif self.image_format is not None:
                self._save_generated(result[key], result, self.image_format)
            elif isinstance(result[key], MetaTensor) and result[key].meta.get("format"):
                self._save_like_source(result[key], result, ImageFile.from_text(result[key].meta["format"]))
        return result

    def _save_like_source(self, image: MetaTensor, data: Mapping[Any, Any], source: ImageFile) -> None:
        like, ending = source, None
        if self.output_dtype is not None:
            like, ending = self._volume(source, self.output_dtype), VOLUME_ENDINGS[self.output_format]
        maps = {name: data[name] for name in MAPS if name in data}
        names = self.output_names
        paths = output_paths(source.path, self.output_dir, self.output_postfix, list(maps), ending, names)
        outputs, written = [], paths
        for name, one in {**dict(reversed(maps.items())), "pred": image}.items():
            values = one.as_tensor().detach().cpu().numpy()
            own = like.for_deviation(float(values.max())) if name == "std" else like
            affine = np.asarray(one.affine.cpu(), dtype=np.float64)
            padding = one.meta.get("padding") if source.kind == "dicom" else None
            parts = {paths[name]: values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)}  # a 4D file
            if name == "pred" and self.channel_names:
                places = channel_paths(paths[name], self.channel_names)
                parts, written = dict(zip(places, values, strict=True)), dict(zip(self.channel_names, places))
            about = "" if name == "pred" else name
            outputs += [Output(place, part, own, affine, about, padding) for place, part in parts.items()]
        path = None if names.anonymous else source.path
        record: dict[str, Any] = source_record(self.source_name, path, source.sha256)
        record |= {key: data[key] for key in ("seed", "quality") if key in data}
        record |= {**self.provenance, "outputs": {name: path.name for name, path in written.items()}}
        if "std" in maps and source.kind != "nifti":
            record["std_of_one_step"] = source.for_deviation(float(maps["std"].max())).slope
        for key, partner_name in self.partner_keys.items():
            if key in data:
                partner = ImageFile.from_text(data[key].meta["format"])
                record |= source_record(partner_name, None if names.anonymous else partner.path, partner.sha256)
        if self.link_to_patient and source.kind == "dicom" and not self._warned:
            self._warned = True
            logger.warning("link_to_patient: DICOM files in %s name the patients of their sources.", self.output_dir)
        record_path = paths["pred"].with_name(f"{stem_of(paths['pred'])}.json")
        write_outputs(outputs, record, record_path, self.run, self.link_to_patient)

    def _volume(self, source: ImageFile, dtype: np.dtype) -> ImageFile:
        """As ``source``, for a volume of another kind: its place is kept, its scale is not."""
        new = source.of_type(dtype)
        new.kind, new.shape = "nifti", (0, 0, 0)
        if self.output_format == "dicom":
            new.kind, new.extra = "series", {"body_part": self.body_part}
        return new

    def _save_generated(self, image: Any, data: Mapping[Any, Any], image_format: str) -> None:
        if not int(data.get("missing", 1)):
            return  # drawn again for its batch's sake
        name = f"{data['case']}_{self.output_postfix}" if self.output_postfix else str(data["case"])
        images = in_unit_range(image, name)
        names = [name] if len(images) == 1 else [f"{name}_{index}" for index in range(len(images))]
        like = _eight_bits(image_format)
        outputs = [
            Output(self.output_dir / f"{one}{FORMATS[image_format]}", values[..., None] * _GREYS, like, like.affine)
            for one, values in zip(names, images)
        ]
        about = {k: data[k] for k in ("case", "class") if k in data}
        made = [output.path.name for output in outputs]
        record = {**self.provenance, **about, **data.get("sources", {}), "outputs": made}
        write_outputs(outputs, record, self.output_dir / f"{name}.json")


def in_unit_range(image: Any, name: str) -> np.ndarray:
    """
    A generated image, checked before it is stored.

    Args:
        image: (C, X, Y).
        name: for the message.

    Returns:
        The same, float32, in [0, 1].

    Raises:
        ValueError: for another shape, NaN, or values outside [0, 1].
    """
    values = torch.as_tensor(image).detach().cpu().float().numpy()
    if values.ndim != 3:
        raise ValueError(f"{name}: an image (C, X, Y) was expected, got shape {values.shape}.")
    if not (values.min() >= 0 and values.max() <= 1):  # NaN fails too
        raise ValueError(f"{name}: values in [0, 1] were expected, got {values.min():g} to {values.max():g}.")
    return values


def _eight_bits(image_format: str) -> ImageFile:
    """Of a generated image, in grey levels."""
    kind, limits = "raster" if image_format == "png" else "nifti", (0, _GREYS)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    return ImageFile(Path(), kind, np.empty(0), affine, np.dtype(np.uint8), limits=limits)
