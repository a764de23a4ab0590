from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from common.handlers.training import ProgressLog, duration


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_losses_are_averaged_and_the_time_left_is_told():
    engine = Engine(lambda engine, batch: [{"loss": torch.tensor(float(batch), requires_grad=True)}])
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": 0.001}])
    log = ProgressLog(2, name="test_progress")
    records = Records()
    log.logger.addHandler(records)
    log.logger.setLevel(logging.INFO)
    log.attach(engine)
    engine.run([1, 3, 8], max_epochs=2)
    assert len(records.lines) == 4
    assert records.lines[0].startswith("Epoch 1/2, iteration 2/3: mean loss of 2 2.0000, lr 0.001, ")
    assert records.lines[1].startswith("Epoch 1/2 took 0 s: mean loss of 1 8.0000")
    assert all(line.endswith("left") for line in records.lines)
    assert records.lines[-1].endswith("0 s left")
    evaluator = Engine(lambda engine, batch: None)
    evaluator.add_event_handler(Events.STARTED, log.announce)
    evaluator.run([1, 2])
    assert records.lines[-1] == "Held-out cases and previews: 2 batches."


@pytest.mark.parametrize(
    ("seconds", "words"), [(12.4, "12 s"), (200, "3 min 20 s"), (59.6, "1 min 00 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds, words):
    assert duration(seconds) == words
