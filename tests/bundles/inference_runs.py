"""Runs of the inference config in this process, with a network so small that a volume takes a second."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from tests.fixtures import BUNDLE, network_arguments

TINY_NETWORK = {"channels": [8, 8, 16], "norm_num_groups": 4, "num_head_channels": 8}
TINY = network_arguments(TINY_NETWORK)


def inference_workflow(*overlays: str, bundle: Path = BUNDLE, **overrides: Any) -> ConfigWorkflow:
    """The workflow of inference.json and ``overlays``, with a tiny network and two steps, initialised."""
    files = [str(bundle / "configs" / name) for name in ("inference.json", *overlays)]
    given = {**TINY, "num_inference_steps": 2, "inferer#progress": False, **overrides}
    workflow = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **given)
    workflow.initialize()
    return workflow


def run_inference(*overlays: str, **overrides: Any) -> None:
    """Initialise and run, as ``python -m monai.bundle run`` does."""
    inference_workflow(*overlays, **overrides).run()


def save_tiny_weights(path: Path) -> Path:
    """The weights of a tiny network as it is made, whose last convolution is zero: it predicts v = 0."""
    torch.manual_seed(0)
    network = inference_workflow().network_def
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return path


@contextlib.contextmanager
def refused(kind: type[Exception], match: str) -> Iterator[None]:
    """The block ends in an error that MONAI wraps; one of its causes is a ``kind`` whose text matches."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        yield
    chain: list[BaseException] = [caught.value]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    said = [str(error) for error in chain if isinstance(error, kind)]
    assert any(re.search(match, text, re.DOTALL) for text in said), f"{match!r} is not in {said or chain}"
