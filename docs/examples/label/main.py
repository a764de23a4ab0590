"""An app for MONAI Label that serves bundles of this project: results in their own format, marked as synthetic."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from lib.files import may_read
from lib.tasks import GenerateTask
from lib.training import LearnTask
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore


class MyApp(MONAILabelApp):
    """
    Serve the bundles that ``--conf models a,b`` names and that lie in the folder ``--conf bundles FOLDER``.

    Args:
        app_dir: folder of this file; its ``model`` holds the bundles where no other folder is given.
        studies: folder of images.
        conf: as on the command line.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        folder = Path(conf.get("bundles", Path(app_dir) / "model")).resolve()
        self.roots = {name: folder / name for name in filter(None, conf.get("models", "").replace(" ", "").split(","))}
        if not self.roots:
            raise ValueError("Which bundles are to be served? Say --conf models med_ddpm_3d,med_cdiff_xray_denoise.")
        for root in self.roots.values():
            if not (root / "configs" / "inference.json").is_file():
                raise FileNotFoundError(f"{root} is no bundle: it has no configs/inference.json (see --conf bundles).")
        # What clients send gets a folder of its own, so that it can be told from all other files of the machine.
        self.uploads = tempfile.TemporaryDirectory(prefix="label_")
        tempfile.tempdir = self.uploads.name
        super().__init__(app_dir, studies, conf, name="Conditional diffusion", description="Synthetic images")

    def init_infers(self) -> dict[str, GenerateTask]:
        """The bundles by name."""
        return {name: GenerateTask(root) for name, root in self.roots.items()}

    def init_trainers(self) -> dict[str, LearnTask]:
        """Those of them that are served and learn from what a datastore holds."""
        served = [name for name, task in self.init_infers().items() if task.is_valid()]
        tasks = {name: LearnTask(self.roots[name]) for name in served}
        return {name: task for name, task in tasks.items() if task.is_valid()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """
        As MONAI Label's, which would read any file of the machine that a request names.

        Raises:
            HTTPException: 400 for a file that is neither of the datastore nor sent by a client.
        """
        image = request.get("image")
        if isinstance(image, str) and image in self.datastore().list_images():
            found = {"image": self.datastore().get_image_uri(image) if os.path.exists(image) else image}
        else:
            found = {"image": self._file("image", image)}
        if request.get("label"):
            found["label"] = self._file("label", request["label"])
        return super().infer({**request, **found}, datastore)

    def _file(self, name: str, value: Any) -> str:
        sent = [self.uploads.name, *([self.sessions().store_path] if self.sessions() is not None else [])]
        if not isinstance(value, str) or not value or not may_read(value, self.studies, sent):
            raise HTTPException(
                400, f"{name}: a file that is sent, or one of the datastore, was expected, got {value!r}."
            )
        return os.path.abspath(value)
