"""Tiny runs of the training configs, shared by the tests of one process and of several."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from tests.fixtures import BUNDLE, DEVICE, network_arguments

NETWORK = network_arguments(
    {
        "channels": [8, 16],
        "attention_levels": [False, True],
        "num_head_channels": 8,
        "norm_num_groups": 4,
        "precision": "fp32",
    }
)
TINY: dict[str, Any] = {
    **NETWORK,
    "subject_of": "$lambda name: name",
    "device": DEVICE,
    "warmup": 1,
    "num_previews": 1,
    "val_interval": 100,
    "checkpoint_interval": 1,
    "validate#inferer#num_inference_steps": 2,
}


def workflow(data: Path, output: Path, *overlays: str | Path, tiny: bool = True, **overrides: Any) -> ConfigWorkflow:
    """``train.json`` under ``overlays`` (names in configs/, or paths) with a tiny network, not yet initialised."""
    configs = BUNDLE / "configs"
    files = [str(configs / overlay) for overlay in ("train.json", *overlays)]  # an absolute path replaces configs
    chosen = {**(TINY if tiny else {}), "dataset_dir": str(data), "output_dir": str(output), **overrides}
    return ConfigWorkflow(files, logging_file=False, workflow_type="train", **chosen)


def train(data: Path, output: Path, *overlays: str | Path, finalize: bool = True, **overrides: Any) -> ConfigWorkflow:
    """Run it to its end; without ``finalize`` what it opened stays open."""
    run = workflow(data, output, *overlays, **overrides)
    run.initialize()
    run.run()
    if finalize:
        run.finalize()
    return run


def weights(run: ConfigWorkflow) -> dict[str, torch.Tensor]:
    """Network and EMA network at the end of a run."""
    state = run.parser.get_parsed_content("training_state")
    parts = {name: state.parts[name].state_dict() for name in ("network", "ema")}
    return {f"{name}.{key}": value.cpu() for name, part in parts.items() for key, value in part.items()}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def only_process_of_a_group(monkeypatch):
    """Set what torchrun sets, for a group of one process: this one."""
    if torch.cuda.is_available() and not torch.distributed.is_nccl_available():
        pytest.skip("PyTorch has no NCCL here")
    group = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    for name, value in group.items():
        monkeypatch.setenv(name, str(value))


def check_distributed(run, weights_path):
    """The network was trained as DDP, in all its parameters, and written without the wrapper."""
    network = run.parser.get_parsed_content("network")
    assert isinstance(network, torch.nn.parallel.DistributedDataParallel)
    assert all(parameter.grad is not None for parameter in network.parameters())
    state = torch.load(weights_path, weights_only=True)
    assert set(state) == set(run.parser.get_parsed_content("network_def").state_dict())
