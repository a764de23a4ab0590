"""Generated volumes on disk: complete or not there at all, and saying how they were made."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor, NibabelWriter
from monai.transforms import MapTransform, SaveImage, SaveImaged

from ..utils.files import written_whole

_DESCRIP = 79  # bytes of the NIfTI header's free text

logger = logging.getLogger(__name__)


class KeepSeedd(MapTransform):
    """
    Copy the seed that the sampler left in a volume's metadata to a key of its own, since ``Invertd`` replaces metadata.

    Args:
        keys: generated volumes.
        seed_key: where the seed goes.
    """

    def __init__(self, keys: KeysCollection, seed_key: str = "seed", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.seed_key = seed_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, with ``seed_key`` (an int) if the metadata has a seed."""
        result = dict(data)
        for key in self.key_iterator(result):
            seed = result[key].meta.get("seed") if isinstance(result[key], MetaTensor) else None
            if seed is not None:
                result[self.seed_key] = int(seed)
        return result


class SaveVolume(SaveImage):
    """
    ``SaveImage`` to NIfTI under a temporary name that becomes the final one when the volume is complete.

    MONAI's own writes in place, so that a full disk leaves half a file, and reports every error as a missing writer.

    Args:
        provenance: what made the volumes: goes to a JSON file beside each, and in short to the header's ``descrip``.
        kwargs: of ``SaveImage``; for an integer ``output_dtype`` values are rounded and limited, not cut off.
    """

    def __init__(self, provenance: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(writer=NibabelWriter, **kwargs)
        self.provenance = dict(provenance or {})

    def __call__(  # type: ignore[override]
        self, img: torch.Tensor, meta_data: dict | None = None, seed: int | None = None
    ) -> torch.Tensor:
        """
        Args:
            img: (C, *spatial), with its affine and file name if it is a ``MetaTensor``.
            meta_data: metadata of a plain tensor.
            seed: of this volume, for its provenance.

        Returns:
            ``img``.

        Raises:
            OSError: when it cannot be written; no file of this volume is left.
        """
        meta = img.meta if isinstance(img, MetaTensor) else (meta_data or {})
        path = Path(self.folder_layout.filename(**self.fname_formatter(meta, self)))
        record = {"mask": Path(str(meta.get("filename_or_obj", ""))).name, "seed": seed, **self.provenance}
        record_path = path.with_name(path.name.removesuffix(self.output_ext) + ".json")
        try:
            with written_whole(path) as temporary:
                self._write(temporary, img, meta, record)
                # the volume comes last: where it stands, its record does too
                with written_whole(record_path) as temporary_record:
                    temporary_record.write_text(json.dumps(record, indent=4, default=str) + "\n")
        except OSError as error:
            if not path.is_file():
                record_path.unlink(missing_ok=True)
            raise type(error)(error.errno, f"the volume cannot be written ({error.strerror})", str(path)) from error
        self._data_index += 1
        logger.info(f"Wrote {path} ({' x '.join(map(str, img.shape[1:]))} voxels, seed {seed})")
        return img

    def _write(self, path: Path, img: torch.Tensor, meta: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        dtype: Any = np.dtype(self.init_kwargs["output_dtype"])  # type: ignore[arg-type]
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            img = img.round().clamp(int(limits.min), int(limits.max))
        writer = NibabelWriter(output_dtype=dtype)
        writer.set_data_array(img, **self.data_kwargs)  # type: ignore[arg-type]
        writer.set_metadata(meta, **self.meta_kwargs)  # type: ignore[arg-type]
        header = NibabelWriter.create_backend_obj(np.zeros((1, 1, 1), dtype), affine=np.eye(4)).header
        header["descrip"] = describe(record).encode()[:_DESCRIP]
        header.set_xyzt_units("mm")
        writer.write(str(path), verbose=False, header=header)


class SaveVolumed(SaveImaged):
    """Dictionary version of ``SaveVolume``: its arguments after ``keys``; ``seed_key`` says where a case's seed is."""

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str = "./",
        output_postfix: str = "",
        output_dtype: DtypeLike = np.float32,
        provenance: Mapping[str, Any] | None = None,
        seed_key: str = "seed",
        separate_folder: bool = False,
        allow_missing_keys: bool = False,
        saver: Callable[..., SaveVolume] = SaveVolume,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.meta_keys = [None] * len(self.keys)  # type: ignore[assignment]
        self.meta_key_postfix = [""] * len(self.keys)  # type: ignore[assignment]
        self.seed_key = seed_key
        self.saver = saver(
            provenance=provenance,
            output_dir=output_dir,
            output_postfix=output_postfix,
            output_dtype=output_dtype,
            separate_folder=separate_folder,
            print_log=False,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns a copy of ``data``, unchanged."""
        result = dict(data)
        for key in self.key_iterator(result):
            self.saver(result[key], seed=result.get(self.seed_key))  # type: ignore[call-arg]
        return result


def describe(record: Mapping[str, Any]) -> str:
    """A provenance as the one line that fits a NIfTI header, e.g. "synthetic med_ddpm_3d 0.1.0 seed 7 steps 10"."""
    parts = [f"{record.get('bundle', '')} {record.get('version', '')}".strip()]
    parts += [f"{name} {record[name]}" for name in ("seed", "steps") if record.get(name) is not None]
    if record.get("weights_sha256"):
        parts.append(f"weights {record['weights_sha256'][:12]}")
    return " ".join(["synthetic", *filter(None, parts)])
