"""What every test starts from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_process_again() -> Iterator[None]:
    """Let ignite forget a process group that a test has opened and closed: it remembers the first one it sees."""
    yield
    if torch.distributed.is_available() and not torch.distributed.is_initialized():
        from ignite.distributed import utils
        from ignite.distributed.comp_models.base import _SerialModel

        if not isinstance(utils._model, _SerialModel):
            utils._set_model(_SerialModel())
