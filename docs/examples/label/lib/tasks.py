"""What MONAI Label asks of a bundle: an image for a request."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list, name_to_device

from .bundles import numbers_of, only_file, run_bundle

OF_A_REQUEST = ("seed", "num_inference_steps", "guidance_scale")


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _own(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The settings among ``names`` that a config has as a number."""
    return {name: config[name] for name in names if isinstance(config.get(name), (int, float))}


class GenerateTask(InferTask):
    """
    Generate or restore an image with a bundle, by its own command: the same file, the same mark, the same record.

    Args:
        root: folder of the bundle.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inference, about = (_json(root / "configs" / name) for name in ("inference.json", "metadata.json"))
        self.source = next((key for key in ("mask", "image") if key in self.inference), None)
        dimension = len(about["network_data_format"]["inputs"]["image"]["spatial_shape"]) if self.is_valid() else 2
        super().__init__(InferType.OTHERS, [], dimension, about["description"])

    def is_valid(self) -> bool:
        """Whether the bundle makes images from images."""
        return self.source is not None

    def config(self) -> dict[str, Any]:
        """What a request may set, with the defaults; of a list, the first."""
        weights = sorted(path.name for path in (self.root / "models").glob("label_*.pt"))
        formats = {"output_format": ["nifti", "dicom"]} if "output_format" in self.inference else {}
        chosen = {"device": device_list(), "model_filename": ["model.pt", *weights], **formats}
        return {**chosen, **_own(self.inference, OF_A_REQUEST)}

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Returns a file that belongs to the caller, and the record of its making."""
        if self.source is None:
            raise HTTPException(
                400,
                f"{self.root.name} draws images from noise alone, and has no use for the image that MONAI Label sends: "
                "use python -m monai.bundle run.",
            )
        started = time.time()
        with tempfile.TemporaryDirectory() as folder:
            run_bundle(self.root, "inference.json", output_dir=folder, **self._settings(request))
            (record_path,) = Path(folder).glob("*.json")
            record = _json(record_path)
            made = Path(folder, record["outputs"]["pred"])
            # zipped where it is a folder: a DICOM series
            file = Path(shutil.make_archive(str(made), "zip", made)) if made.is_dir() else made
            with tempfile.NamedTemporaryFile(suffix="".join(file.suffixes), delete=False) as kept:
                shutil.copyfile(file, kept.name)
        return kept.name, {"record": record, "label_names": {}, "latencies": {"total": round(time.time() - started, 2)}}

    def _settings(self, request: dict[str, Any]) -> dict[str, Any]:
        config = self.config()
        chosen = {}
        for name, known in config.items():
            if isinstance(known, list):
                given = request.get(name, known)
                one = given[0] if isinstance(given, list) and given else given
                if not isinstance(one, str) or one not in known:
                    raise HTTPException(400, f"{name}: one of {known} was expected, got {one!r}.")
                chosen[name] = one
        settings = {
            self.source: only_file(request.get("image"), "an image"),
            "weights": str(self.root / "models" / chosen.pop("model_filename")),
            "device": f"$torch.device({name_to_device(chosen.pop('device'))!r})",
            **numbers_of(request, _own(self.inference, OF_A_REQUEST)),
            **chosen,
        }
        if "hole" in self.inference:
            settings["hole"] = only_file(request.get("label"), "the hole to be filled, as label,")
        return settings
