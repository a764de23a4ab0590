"""The memorisation audit as a metric, for an evaluation that keeps its images in memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from monai.utils import convert_to_tensor

from ..metrics.sets import VolumeSetMetric
from .compare import audit_entry
from .memorisation import audit
from .memorisation_statistics import AuditSettings

logger = logging.getLogger(__name__)


class MemorisationMetric(VolumeSetMetric):
    """
    Share of generated images that are nearer to a training image than to any held-out one; counts copies as well.

    Called with generated and held-out images, see ``memorisation.audit``; candidates are found by pixels alone.

    Args:
        train: what the generator was trained with: cases or images, (C, *spatial) in [-1, 1], read once.
        key: of the image in a case.
        seed: of bootstrap and permutations.
        max_volumes: kept of each set and process.
    """

    label = "memorisation"

    def __init__(self, train: Sequence[Any], key: str = "image", seed: int = 0, max_volumes: int = 4096) -> None:
        super().__init__(max_volumes)
        self.train = train
        self.key = key
        self.seed = seed

    def _evaluate(self) -> dict[str, Any]:
        generated, held_out = self.volumes()
        cases = (self.train[index] for index in range(len(self.train)))
        train = [convert_to_tensor(case[self.key] if isinstance(case, Mapping) else case) for case in cases]
        result = audit(generated, train, held_out, settings=AuditSettings(seed=self.seed))
        logger.info("Memorisation audit: %s", result.verdict)
        return audit_entry(result)
