"""What MONAI Label asks of a bundle: an image for a request."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list

from .bundles import chosen_of, numbers_of, own_numbers, read_config, read_json, run_bundle, torch_device
from .files import weights_of

OF_A_REQUEST = ("seed", "num_inference_steps", "guidance_scale")


class GenerateTask(InferTask):
    """
    Generate or restore an image with a bundle, by its own command: the same file, the same mark, the same record.

    Args:
        root: folder of the bundle.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inference, about = read_config(root, "inference.json"), read_json(root / "configs" / "metadata.json")
        self.source = next((key for key in ("mask", "image") if key in self.inference), None)
        dimension = len(about["network_data_format"]["inputs"]["image"]["spatial_shape"]) if self.is_valid() else 2
        super().__init__(InferType.OTHERS, [], dimension, about["description"])

    def is_valid(self) -> bool:
        """Whether the bundle makes images from images."""
        return self.source is not None

    def config(self) -> dict[str, Any]:
        """What a request may set, with the defaults; of a list, the first."""
        formats = {"output_format": ["nifti", "dicom"]} if "output_format" in self.inference else {}
        chosen = {"device": device_list(), "model_filename": weights_of(self.root), **formats}
        return {**chosen, **own_numbers(self.inference, OF_A_REQUEST)}

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
            record = read_json(record_path)
            made = Path(folder, record["outputs"]["pred"])
            # zipped where it is a folder: a DICOM series
            file = Path(shutil.make_archive(str(made), "zip", made)) if made.is_dir() else made
            with tempfile.NamedTemporaryFile(suffix="".join(file.suffixes), delete=False) as kept:
                shutil.copyfile(file, kept.name)
        return kept.name, {"record": record, "label_names": {}, "latencies": {"total": round(time.time() - started, 2)}}

    def _settings(self, request: dict[str, Any]) -> dict[str, Any]:
        choices = {name: known for name, known in self.config().items() if isinstance(known, list)}
        chosen = chosen_of(request, choices)
        files = {self.source: request["image"]}
        if "hole" in self.inference:
            if not request.get("label"):
                raise HTTPException(400, "label: the hole to be filled was expected.")
            files["hole"] = request["label"]
        return {
            **files,
            "weights": str(self.root / "models" / chosen.pop("model_filename")),
            "device": torch_device(chosen.pop("device")),
            **numbers_of(request, own_numbers(self.inference, OF_A_REQUEST)),
            **chosen,
        }
