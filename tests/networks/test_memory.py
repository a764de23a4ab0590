from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from common.networks.memory import available_memory, check_memory, estimate_memory
from common.networks.unet import ConditionalDiffusionUNet
from tests.fixtures import REPOSITORY

TOLERANCE = 0.25
# One step of a network in a fresh process, then the most memory that the process ever had.
STEP = """
import resource, sys, torch
from common.networks.unet import ConditionalDiffusionUNet
from tests.networks.test_memory import network
training, checkpointing = sys.argv[1] == "True", sys.argv[2] == "True"
made, x, t = network(checkpointing), torch.zeros(1, 3, 64, 64, 64), torch.tensor([3])
if training:
    optimiser = torch.optim.Adam(made.parameters())
    made(x, t).sum().backward()
    optimiser.step()
else:
    with torch.no_grad():
        made.eval()(x, t)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def network(use_checkpointing: bool = False, **changes) -> ConditionalDiffusionUNet:
    arguments = {"channels": (32, 32, 64), "num_res_blocks": 1, "attention_levels": (False,) * 3, "norm_num_groups": 8}
    arguments |= {"num_head_channels": 32, "precision": "fp32", "memory_format": "contiguous"}
    return ConditionalDiffusionUNet(3, 3, 1, use_checkpointing=use_checkpointing, **{**arguments, **changes})


@pytest.mark.slow
@pytest.mark.parametrize(("training", "checkpointing"), [(False, False), (True, False), (True, True)])
def test_estimate_is_near_the_measured_peak(training, checkpointing):
    command = [sys.executable, "-c", STEP, str(training), str(checkpointing)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    measured = int(run.stdout.split()[-1])
    estimated = estimate_memory(network(checkpointing), (1, 3, 64, 64, 64), training)
    assert abs(estimated - measured) < TOLERANCE * measured, (
        f"{estimated / 2**30:.2f} against {measured / 2**30:.2f} GiB"
    )


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


def test_run_that_will_not_fit_is_stopped_with_a_remedy():
    with pytest.raises(MemoryError, match=r"Training on an input of \(1, 3, 512, 512, 512\) needs .*use_checkpointing"):
        check_memory(network(), (1, 3, 512, 512, 512), training=True, available=2**30)
    assert "needs about" in check_memory(network(), (1, 3, 16, 16, 16), available=2**40)
    free = available_memory("cpu")
    assert free is None or free > 0
