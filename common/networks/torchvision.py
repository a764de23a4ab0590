"""torchvision where a metric or classifier needs one of its networks; no bundle's inference does."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

# Kept alive: the operators vanish with the library object.
_LIBRARIES: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """
    ``torchvision``, also where its compiled part does not fit the installed PyTorch (a CPU build beside PyPI's wheel).

    Its Python part then needs only the names of two operators, ``nms`` and ``qnms``. They are declared without a
    kernel: networks for classification and features run, and a call of either operator raises PyTorch's own error.

    Raises:
        ModuleNotFoundError: when torchvision is not installed; says how to get it.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        message = "torchvision is not installed; its networks need `pip install -r requirements-metrics.txt`."
        raise ModuleNotFoundError(message, name="torchvision") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module("torchvision")
