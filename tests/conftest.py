"""What every test starts from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def one_process_again() -> Iterator[None]:
    """Let ignite forget a process group that a test has opened and closed: it remembers the first one it sees."""
    yield
    if torch.distributed.is_available() and not torch.distributed.is_initialized():
        from ignite.distributed import utils
        from ignite.distributed.comp_models.base import _SerialModel

        if not isinstance(utils._model, _SerialModel):
            utils._set_model(_SerialModel())


@pytest.fixture(autouse=True)
def scripts_of_this_repository() -> Iterator[None]:
    """Forget the ``scripts`` of a copy that a test has run a bundle from: the copy may lack weights, or be gone."""
    yield
    scripts = sys.modules.get("scripts")
    if scripts is not None and not Path(str(scripts.__file__)).absolute().is_relative_to(REPOSITORY):
        for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
            del sys.modules[name]
        copies = [
            path for path in sys.path if (Path(path) / "scripts").is_dir() and REPOSITORY not in Path(path).parents
        ]
        sys.path[:] = [path for path in sys.path if path not in copies]
