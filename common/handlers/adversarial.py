"""What MONAI's ``AdversarialTrainer`` lacks for the handlers that work with a ``SupervisedTrainer``."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from monai.utils.enums import AdversarialIterationEvents, AdversarialKeys
from torch.nn.parallel import DistributedDataParallel

ADVERSARIAL_TERMS = (
    AdversarialKeys.RECONSTRUCTION_LOSS,
    AdversarialKeys.GENERATOR_LOSS,
    AdversarialKeys.DISCRIMINATOR_LOSS,
)


class Adversarial:
    """
    Give an ``AdversarialTrainer`` the names and events of a ``SupervisedTrainer``, with its generator as the network.

    ``network`` and ``optimizer`` are the generator's; the loss is set in the output (MONAI 1.6.1 does so with ``amp``
    alone); ``LOSS_COMPLETED`` and ``BACKWARD_COMPLETED`` are fired with the generator's events. To be attached before
    the handlers that use them.

    Raises:
        ValueError: (as training starts) in several processes whose discriminator is not shared.

    >>> trainer = Engine(lambda engine, batch: None)
    >>> _ = trainer.register_events(*IterationEvents)
    >>> Adversarial().attach(trainer)
    """

    def attach(self, engine: Engine) -> None:
        """Adapt ``engine``; handlers are attached before MONAI's trainer knows its networks and events."""
        engine.register_events(*AdversarialIterationEvents)
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(AdversarialIterationEvents.GENERATOR_LOSS_COMPLETED, self.loss_completed)
        engine.add_event_handler(AdversarialIterationEvents.GENERATOR_BACKWARD_COMPLETED, self.backward_completed)

    def started(self, engine: Any) -> None:
        """Name the generator and its optimiser as a ``SupervisedTrainer`` does."""
        state = engine.state
        if idist.get_world_size() > 1 and not isinstance(state.d_network, DistributedDataParallel):
            raise ValueError(
                "multi_gpu_train.json shares no discriminator: train with adversarial.json in one process."
            )
        engine.network, engine.optimizer, engine.scaler = state.g_network, state.g_optimizer, None

    def loss_completed(self, engine: Any) -> None:
        """Set the generator's whole loss."""
        output = engine.state.output
        terms = output[AdversarialKeys.RECONSTRUCTION_LOSS], output[AdversarialKeys.GENERATOR_LOSS]
        output[CommonKeys.LOSS] = sum(terms).detach()  # type: ignore[union-attr]
        engine.fire_event(IterationEvents.LOSS_COMPLETED)

    def backward_completed(self, engine: Any) -> None:
        """The gradients are there, and the step is not yet made."""
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
