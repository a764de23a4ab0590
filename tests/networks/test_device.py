from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from common.networks.device import estimate_memory
from common.networks.unet import ConditionalDiffusionUNet
from tests.fixtures import REPOSITORY

TOLERANCE = 0.25
SHAPE = (1, 3, 64, 64, 64)
CASES = {"inference": (False, False), "training": (True, False), "checkpointing": (True, True)}
# One step in a child process of its own for each case; then the most memory that the child ever had.
STEP = """
import os, resource, torch
from tests.networks.test_device import CASES, SHAPE, network
for training, checkpointing in CASES.values():
    if os.fork() == 0:
        torch.set_num_threads(1)
        made, x, t = network(checkpointing), torch.zeros(SHAPE), torch.tensor([3])
        with torch.set_grad_enabled(training):
            output = made(x, t)
        if training:
            optimiser = torch.optim.Adam(made.parameters())
            output.sum().backward()
            optimiser.step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
        os._exit(0)
    os.wait()
"""


def network(use_checkpointing: bool = False, **changes) -> ConditionalDiffusionUNet:
    arguments = {"channels": (32, 32, 64), "num_res_blocks": 1, "attention_levels": (False,) * 3, "norm_num_groups": 8}
    arguments |= {"num_head_channels": 32, "precision": "fp32", "memory_format": "contiguous"}
    return ConditionalDiffusionUNet(3, 3, 1, use_checkpointing=use_checkpointing, **{**arguments, **changes})


@pytest.mark.exhaustive
def test_estimates_are_near_the_measured_peaks():
    run = subprocess.run([sys.executable, "-c", STEP], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for (name, (training, checkpointing)), measured in zip(CASES.items(), map(int, run.stdout.split())):
        estimated = estimate_memory(network(checkpointing), SHAPE, training)
        words = f"{name}: {estimated / 2**30:.2f} GiB estimated, {measured / 2**30:.2f} measured"
        assert abs(estimated - measured) < TOLERANCE * measured, words
        print(words)


def test_estimate_grows_with_the_volume_and_falls_with_checkpointing():
    shape = (1, 3, 64, 64, 64)
    inference, training = estimate_memory(network(), shape), estimate_memory(network(), shape, training=True)
    assert inference < training
    assert inference < estimate_memory(network(), (2, 3, 64, 64, 64))
    assert estimate_memory(network(True), shape, training=True) < 0.8 * training
    assert estimate_memory(network(precision="bf16"), shape) < inference


def test_estimate_touches_neither_weights_nor_mode_and_takes_class_labels():
    made = network(num_class_embeds=3).eval()
    before = [parameter.clone() for parameter in made.parameters()]
    estimate_memory(made, (1, 3, 16, 16, 16), training=True)
    assert not made.training
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, made.parameters()))
