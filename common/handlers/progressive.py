"""A training in stages: one part of a network after the other, by the share of the run that is done."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events


class ProgressiveStages:
    """
    Tell a ``ProgressiveUNet`` which stage is trained, and its loss how far that stage is.

    Both follow from the iteration, so that a resumed run goes on as if it had never stopped.

    Args:
        network: has ``stages`` and ``train_stage``.
        loss: has ``set_share``.

    >>> from types import SimpleNamespace as Space
    >>> seen = []
    >>> network, loss = Space(stages=[0, 1], train_stage=seen.append), Space(set_share=seen.append)
    >>> state = Space(iteration=4, max_epochs=2, epoch_length=2)
    >>> ProgressiveStages(network, loss)(Space(state=state))
    >>> seen  # the second half of the second stage
    [1, 0.5]
    """

    def __init__(self, network: Any, loss: Any) -> None:
        self.network, self.loss = network, loss

    def attach(self, engine: Engine) -> None:
        """Act at the start of each iteration of ``engine``, a MONAI trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Set stage and share."""
        state, number = engine.state, len(self.network.stages)
        done = (state.iteration - 1) / (state.max_epochs * state.epoch_length) * number
        stage = min(number - 1, int(done))
        self.network.train_stage(stage)
        self.loss.set_share(done - stage)
