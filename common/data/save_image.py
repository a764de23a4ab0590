"""Restored images on disk: in their source's format, complete or not there at all, and saying how they were made."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged

from ..utils.files import written_whole
from .image_cases import MAPS, output_paths
from .images import ImageFile, image_stem, read_image, write_image

logger = logging.getLogger(__name__)


class SaveRestoredd(SaveImaged):
    """
    Write the result, its mean and standard deviation where they are there, and a JSON file with the provenance.

    ``SaveImaged`` writes one format for all, in place, and loses bit depth and the scale of stored integers. This is a
    ``SaveImaged`` all the same, since MONAI Label takes those out.

    Args:
        keys: the result, (1, X, Y, Z) in the units and the orientation of its file; its ``filename_or_obj`` is read
            again for its format.
        output_dir: folder of the outputs.
        output_postfix: see ``output_paths``.
        provenance: what made the images.
        hole_key: whose file name goes to the record, if the case has it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        output_postfix: str,
        provenance: Mapping[str, Any] | None = None,
        hole_key: str = "original_hole",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.output_dir = output_dir
        self.output_postfix = output_postfix
        self.provenance = dict(provenance or {})
        self.hole_key = hole_key
        self.run = uuid.uuid4().hex

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Returns a copy of ``data``, unchanged.

        Raises:
            OSError: when a file cannot be written; none of this image is left.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            source = read_image(result[key].meta["filename_or_obj"])
            maps = {name: result[name] for name in MAPS if name in result}
            paths = output_paths(source.path, self.output_dir, self.output_postfix, 1 + len(maps))
            images = {"pred": result[key], **maps}
            record = {"image": source.path.name, **self.provenance, **_values(images, source, paths)}
            if self.hole_key in result:
                record["hole"] = Path(str(result[self.hole_key].meta["filename_or_obj"])).name
            self._write(images, source, paths, record)
        return result

    def _write(
        self, images: Mapping[str, MetaTensor], source: ImageFile, paths: Mapping[str, Path], record: dict[str, Any]
    ) -> None:
        record_path = paths["pred"].with_name(f"{image_stem(paths['pred'])}.json")
        written: list[Path] = []
        try:
            # the result comes last: where it stands, its maps and its record do too
            for name in reversed(list(images)):
                if name == "pred":
                    with written_whole(record_path) as temporary:
                        temporary.write_text(json.dumps(record, indent=4, default=str) + "\n")
                    written.append(record_path)
                image = images[name]
                values = image.as_tensor().cpu().numpy()[0]
                like = source.for_deviation(float(values.max())) if name == "std" else source
                about = {**record, "run": self.run, "map": "" if name == "pred" else name}
                with written_whole(paths[name]) as temporary:
                    write_image(temporary, values, like, np.asarray(image.affine.cpu(), dtype=np.float64), about)
                written.append(paths[name])
        except OSError as error:
            for path in written:
                path.unlink(missing_ok=True)
            target = str(paths["pred"])
            raise type(error)(error.errno, f"the image cannot be written ({error.strerror})", target) from error
        shape = " x ".join(map(str, values.shape[:2] if values.shape[2] == 1 else values.shape))
        logger.info(f"Wrote {paths['pred']} ({shape} {'pixels' if values.shape[2] == 1 else 'voxels'})")


def _values(images: Mapping[str, MetaTensor], source: ImageFile, paths: Mapping[str, Path]) -> dict[str, Any]:
    """The names of the files, and what one step of the deviation's stored integers is worth."""
    named: dict[str, Any] = {"outputs": {name: path.name for name, path in paths.items()}}
    if "std" in images and source.kind != "nifti":
        named["std_of_one_step"] = source.for_deviation(float(images["std"].max())).slope
    return named
