"""An app for MONAI Label that serves bundles of this project: results in their own format, marked as synthetic."""

from __future__ import annotations

import logging
from pathlib import Path

from lib.tasks import GenerateTask
from monailabel.interfaces.app import MONAILabelApp

logger = logging.getLogger(__name__)


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
        super().__init__(app_dir, studies, conf, name="Conditional diffusion", description="Synthetic images")

    def init_infers(self) -> dict[str, GenerateTask]:
        """The bundles by name."""
        return {name: GenerateTask(root) for name, root in self.roots.items()}
