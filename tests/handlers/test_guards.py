from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch.utils.data import DataLoader

from common.handlers.guards import GradientClipper, StopOnNonFiniteLoss


def trainer(handler, scale: float = 1.0, bad: float | None = None) -> SupervisedTrainer:
    data = [{"image": torch.ones(2), "label": torch.full((1,), scale), "case": f"case_{i}"} for i in range(4)]
    if bad is not None:
        data[2]["image"] = torch.full((2,), bad)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    loader = DataLoader(data, batch_size=1)
    return SupervisedTrainer(
        torch.device("cpu"), 1, loader, network, optimizer, torch.nn.MSELoss(), train_handlers=[handler]
    )


def norms(engine: SupervisedTrainer) -> list[float]:
    found: list[float] = []

    @engine.on(Events.ITERATION_COMPLETED)
    def record() -> None:
        found.append(float(torch.cat([p.grad.flatten() for p in engine.network.parameters()]).norm()))

    engine.run()
    return found


def test_large_gradients_are_scaled_down_and_small_ones_left():
    assert norms(trainer(GradientClipper(0.5), scale=1000.0)) == pytest.approx([0.5] * 4, rel=1e-4)
    torch.manual_seed(0)
    free = norms(trainer(StopOnNonFiniteLoss(), scale=1.0))
    torch.manual_seed(0)
    assert norms(trainer(GradientClipper(1e6), scale=1.0)) == free


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_weights_change(value):
    engine = trainer(StopOnNonFiniteLoss(), bad=value)
    with pytest.raises(FloatingPointError, match=r"epoch 1, iteration 3 \(cases \['case_2'\]\)"):
        engine.run()
    assert all(bool(torch.isfinite(p).all()) for p in engine.network.parameters())
