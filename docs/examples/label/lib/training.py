"""Training a bundle on the images of MONAI Label's datastore."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list

from .bundles import chosen_of, numbers_of, own_numbers, read_config, run_bundle, torch_device
from .files import ENDING, lay_out, new_run, publish, weights_of

OF_A_TRAINING = ("max_epochs", "batch_size", "seed")
_LISTS = {"volume_cases": True, "image_cases": False}


class LearnTask(TrainTask):
    """
    Train or fine-tune a bundle by its own command, and publish the weights as ``models/label_NAME.pt``.

    A bundle that draws images for masks learns from the images that have a final label, one that restores images from
    all images of the datastore.

    Args:
        root: folder of the bundle.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train = read_config(root, "train.json")
        self.kind = self.train["cases"]["_target_"].rsplit(".", 1)[-1]
        super().__init__(f"Training of {root.name} on the datastore; the weights are offered beside the shipped ones.")

    def is_valid(self) -> bool:
        """Whether a datastore can hold what the bundle learns from, which is one file a case and its label."""
        return self.kind in _LISTS and not self.train.get("file_names")

    def config(self) -> dict[str, Any]:
        """What a request may set, with the defaults; of a list, the first."""
        start = {"pretrained": True, "model_filename": weights_of(self.root), "publish_as": ""}
        return {"device": device_list(), **start, **own_numbers(self.train, OF_A_TRAINING)}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Returns the name of the weights and how many cases they were trained and tested on."""
        settings = self._settings(request)
        configs = ["train.json", *(["fine_tune.json"] if "initial_weights" in settings else [])]
        cases = self._cases(datastore)
        name = request.get("publish_as") or time.strftime("%Y%m%d_%H%M%S")
        try:
            run = new_run(self.root, str(name))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        lay_out(cases, run / "data")
        folders = {"dataset_dir": str(run / "data"), "output_dir": str(run / "result")}
        try:
            run_bundle(self.root, *configs, **folders, **settings)
        except HTTPException:
            if not list((run / "result").glob("*.pt")):  # refused before it began: the name is free again
                shutil.rmtree(run)
            raise
        return {"weights": publish(run, self.root).name, "cases": len(cases)}

    def _settings(self, request: dict[str, Any]) -> dict[str, Any]:
        config = self.config()
        chosen = chosen_of(request, {name: config[name] for name in ("device", "model_filename")})
        settings = {
            "device": torch_device(chosen["device"]),
            **numbers_of(request, own_numbers(self.train, OF_A_TRAINING)),
            **({} if _LISTS[self.kind] else {"group_by": "$None"}),  # a datastore does not say what belongs together
        }
        pretrained = request.get("pretrained", True)
        if not isinstance(pretrained, bool):
            raise HTTPException(400, f"pretrained: true or false was expected, got {pretrained!r}.")
        weights = {"initial_weights": str(self.root / "models" / chosen["model_filename"])}
        return {**settings, **(weights if pretrained else {})}

    def _cases(self, datastore: Datastore) -> dict[str, dict[str, str]]:
        if _LISTS[self.kind]:
            pairs = datastore.datalist()  # a label has the name of its image in the datastore
            names = [ENDING.sub("", Path(pair["label"]).name) for pair in pairs]
            cases = {n: {"images": pair["image"], "labels": pair["label"]} for n, pair in zip(names, pairs)}
        else:
            cases = {name: {"": datastore.get_image_uri(name)} for name in datastore.list_images()}
        if not cases:
            wanted = "images with a final label" if _LISTS[self.kind] else "images"
            raise HTTPException(400, f"{self.root.name} learns from {wanted}; the datastore has none.")
        return cases
