"""Training of a fold: it stops early, and ends with its best weights."""

from __future__ import annotations

import functools
import weakref

import pytest
import torch

from common.studies.fold_training import AutocastInferer, TrainingPlan, predict, train_fold


def cases(n=12):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": (torch.randn(1, 4, 4, generator=generator) * 0.1 + (i % 2)).half(),
            "class_index": torch.tensor(i % 2),
        }
        for i in range(n)
    ]


def linear():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))


def plan(rate, **given):
    return TrainingPlan(functools.partial(torch.optim.SGD, lr=rate), batch_size=4, **given)


def test_it_learns_and_the_same_seed_gives_the_same_network():
    networks = [linear(), linear(), linear()]
    found = [train_fold(n, cases(), cases(), plan(0.2, max_epochs=6, seed=s), 0) for n, s in zip(networks, (0, 0, 1))]
    assert found[0]["val_accuracy"] == found[0]["train_accuracy"] == 1
    assert torch.equal(networks[0][1].weight, networks[1][1].weight)
    assert not torch.equal(networks[0][1].weight, networks[2][1].weight)
    assert predict(networks[0], cases(), plan(0.2)).argmax(1).tolist() == [0, 1] * 6


def test_it_stops_when_the_loss_no_longer_falls():
    found = train_fold(linear(), cases(), cases(), plan(0.0, max_epochs=9, patience=2), 0)
    assert (found["best_epoch"], found["epochs"]) == (1, 3)


def test_it_ends_with_the_best_weights():
    """Gradient ascent: every epoch is worse than the one before."""
    network = linear()
    ascending = TrainingPlan(functools.partial(torch.optim.SGD, lr=0.5, maximize=True), batch_size=4, max_epochs=4)
    found = train_fold(network, cases(), cases(), ascending, 0)
    assert (found["best_epoch"], found["epochs"]) == (1, 4)
    again = linear()
    first = TrainingPlan(ascending.optimizer, batch_size=4, max_epochs=1)
    assert train_fold(again, cases(), cases(), first, 0)["val_loss"] == pytest.approx(found["val_loss"])
    assert torch.equal(network[1].weight, again[1].weight)


def test_a_loss_that_is_no_number_stops_it():
    broken = cases()
    broken[3]["image"] = torch.full((1, 4, 4), float("nan")).half()
    with pytest.raises(FloatingPointError, match="loss is nan"):
        train_fold(linear(), broken, cases(), plan(0.1, max_epochs=1), 0)


def test_bf16_trains_float32_weights_and_the_test_is_in_float32():
    """The weights differ from those of fp32 training by bfloat16's rounding, and by no more."""
    networks = [linear(), linear()]
    seen = []
    networks[1][1].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    for network, precision in zip(networks, ("fp32", "bf16")):
        found = train_fold(network, cases(), cases(), plan(0.2, max_epochs=6, precision=precision), 0)
        assert found["val_accuracy"] == 1
    assert set(seen) == {torch.bfloat16, torch.float32}
    assert {p.dtype for p in networks[1].parameters()} == {torch.float32}
    difference = (networks[0][1].weight - networks[1][1].weight).abs().max()
    assert 0 < difference < 0.02
    seen.clear()
    predict(networks[1], cases(), plan(0.2, precision="bf16"))
    assert set(seen) == {torch.float32}


def test_logits_leave_autocast_as_float32():
    logits = AutocastInferer(torch.bfloat16)(torch.randn(2, 1, 4, 4), linear())
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())


def test_layout_and_precision_are_checked_before_training():
    network = torch.nn.Conv2d(3, 4, 3)
    plan(0.1, memory_format="channels_last").place(network)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="'fp16' is for GPUs"):
        plan(0.1, precision="fp16")
    with pytest.raises(ValueError, match="precision must be 'auto'"):
        plan(0.1, precision="half")


def test_a_network_leaves_the_memory_with_its_fold():
    network = linear()
    train_fold(network, cases(), cases(), plan(0.2, max_epochs=1), 0)
    gone = weakref.ref(network)
    del network
    assert gone() is None
