"""Ignite handlers for trainers and evaluators: checkpoints, seeding, progress, guards."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "checkpoints": ["ResumeTraining", "TrainingState"],
        "seeding": ["EpochSeeding"],
        "training": ["TrainingHandlers", "ema", "summary_writer"],
    },
)
