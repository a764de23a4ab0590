"""MONAI's AdversarialTrainer with the handlers of a SupervisedTrainer: clipping, stop at a NaN, learning rates."""

from __future__ import annotations

import ignite.distributed as idist
import pytest
import torch
from monai.engines import AdversarialTrainer
from torch import nn

from common.handlers import EpochSeeding, TrainingHandlers, TrainingState


def trainer(output, loss, max_grad_norm=None):
    generator, discriminator = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    data = torch.utils.data.DataLoader([{"image": torch.ones(1, 4, 4), "label": torch.zeros(1, 4, 4)}] * 2)
    optimizers = [torch.optim.SGD(network.parameters(), lr=1.0) for network in (generator, discriminator)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.5**step) for o in optimizers]
    seeding = EpochSeeding(0, data)
    state = TrainingState(generator, None, schedules[0], seeding, discriminator, schedules[1])
    return AdversarialTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=data,
        g_network=generator,
        g_optimizer=optimizers[0],
        g_loss_function=lambda fake: -fake.mean(),
        recon_loss_function=loss,
        d_network=discriminator,
        d_optimizer=optimizers[1],
        d_loss_function=lambda real, fake: fake.mean() - real.mean(),
        train_handlers=[TrainingHandlers(state, output, max_grad_norm=max_grad_norm)],
    )


def test_losses_gradients_and_both_learning_rates_are_those_of_the_handlers(tmp_path):
    run = trainer(tmp_path, lambda fake, real: 100 * (fake - real).abs().mean(), max_grad_norm=0.1)
    norms = []
    step = run.state.g_optimizer.step
    run.state.g_optimizer.step = lambda *a, **k: (
        norms.append(torch.cat([p.grad.flatten() for p in run.state.g_network.parameters()]).norm()),
        step(*a, **k),
    )
    run.run()
    output = run.state.output
    assert float(output["loss"]) == pytest.approx(float(output["reconstruction_loss"] + output["generator_loss"]))
    assert len(norms) == 2
    assert max(norms) <= 0.1 + 1e-6
    assert [group["lr"] for o in (run.state.g_optimizer, run.state.d_optimizer) for group in o.param_groups] == [
        0.25
    ] * 2
    saved = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
    assert {"d_network", "d_optimizer", "d_lr_scheduler"} <= set(saved)


def test_a_loss_that_is_no_number_stops_before_the_step(tmp_path):
    run = trainer(tmp_path, lambda fake, real: fake.mean() * float("nan"))
    before = [p.clone() for p in run.state.g_network.parameters()]
    with pytest.raises(FloatingPointError, match="The loss is nan in epoch 1, iteration 1"):
        run.run()
    assert all(torch.equal(a, b) for a, b in zip(before, run.state.g_network.parameters()))
    assert not list(tmp_path.glob("checkpoint*"))


def test_several_processes_are_refused(tmp_path, monkeypatch):
    run = trainer(tmp_path, lambda fake, real: (fake - real).abs().mean())
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="shares no discriminator"):
        run.run()
