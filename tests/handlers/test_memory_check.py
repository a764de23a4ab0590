from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import psutil
import pytest
import torch
from ignite.engine import Engine

from common.handlers.guards import CheckMemory
from common.networks.device import check_inference
from common.networks.unet import ConditionalDiffusionUNet

NUMBER = r"\d+\.\d"


@pytest.fixture(scope="module")
def network() -> ConditionalDiffusionUNet:
    settings = {"channels": (8,) * 4, "num_res_blocks": 1, "attention_levels": (False,) * 4, "num_head_channels": 8}
    return ConditionalDiffusionUNet(3, 3, 1, norm_num_groups=4, precision="fp32", **settings)


@pytest.fixture
def free(monkeypatch):
    def set_to(gib: float) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(gib * 2**30)))

    return set_to


def first_batch(network, side: int, iterations: int = 1) -> Engine:
    """Train on zeros that take no memory, (1, 1 and 2, side, side, side)."""
    engine = Engine(lambda engine, batch: None)
    CheckMemory(network).attach(engine)
    batch = {key: torch.zeros(1).expand(1, n, side, side, side) for key, n in (("image", 1), ("label", 2))}
    engine.run([batch] * iterations, max_epochs=1)
    return engine


def test_a_volume_that_will_not_fit_is_refused(network, free):
    free(0.25)
    with pytest.raises(MemoryError) as caught:
        check_inference(network, [(2, 20, 20, 20), (2, 63, 80, 66), (2, 64, 64, 64)])
    said = rf"Generating a volume of \(64, 80, 72\) needs about {NUMBER} GiB on cpu; 0.2 GiB are free\. Try .*coarser"
    assert re.search(said, str(caught.value))


def test_what_a_large_volume_needs_is_logged_and_what_a_small_one_needs_is_not(network, free, caplog):
    free(1000)
    with caplog.at_level(logging.INFO):
        check_inference(network, [(2, 64, 64, 64)])
        first_batch(network, 64)
        assert "GiB" not in caplog.text
        check_inference(network, [(2, 320, 320, 320)])
        first_batch(network, 160, iterations=3)
    generating, training = [message for message in caplog.messages if "GiB" in message]
    assert re.search(rf"volume of \(320, 320, 320\) needs about {NUMBER} GiB on cpu; 1000.0 GiB are free", generating)
    assert "without activation checkpointing" in training


def test_small_volumes_are_not_looked_at(network, free):
    free(0)
    check_inference(network, [(2, 40, 56, 40)])
    check_inference(network, [])
    first_batch(network, 40)


def test_training_that_will_not_fit_is_refused_before_its_first_iteration(network, free):
    free(0.25)
    needs = (
        rf"needs about ({NUMBER}) GiB on cpu {{}} activation checkpointing, ({NUMBER}) GiB {{}} it; 0.2 GiB are free"
    )
    with pytest.raises(MemoryError) as caught:
        first_batch(network, 128)
    found = re.search(needs.format("without", "with"), str(caught.value))
    assert float(found[2]) < float(found[1])
    assert "Try use_checkpointing: true in network_def, a smaller batch_size" in str(caught.value)
    assert not network.use_checkpointing
    network.use_checkpointing = True
    try:
        with pytest.raises(MemoryError, match=needs.format("with", "without")) as caught:
            first_batch(network, 128)
    finally:
        network.use_checkpointing = False
    assert "use_checkpointing: true" not in str(caught.value)


def test_a_network_without_an_estimate_runs(free, caplog):
    class Odd(torch.nn.Linear):
        def forward(self, x, timesteps):
            return x if float(x.sum()) > 0 else -x

    free(0)
    check_inference(Odd(1, 1), [(2, 64, 64, 64)])
    assert "cannot be estimated" in caplog.text
