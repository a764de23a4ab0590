"""Forced choice by a classifier where every generated image stems from a real one, as restored images do."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .observer import MachineObserverMetric, machine_observer


class PairedObserverMetric(MachineObserverMetric):
    """
    ``MachineObserverMetric`` that keeps an image and its restored version in one fold of the cross-validation.

    An inpainted image has most pixels of its original: with one of them among the images that the classifier learns
    from and the other among those it is asked about, it would answer from memory.
    """

    def _evaluate(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        pairs = range(len(real)), range(len(generated))
        return machine_observer(real, generated, self.folds, groups=pairs, seed=self.seed)
