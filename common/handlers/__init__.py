"""Ignite handlers for trainers and evaluators: checkpoints, seeding, progress, guards."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "checkpoints": ["CheckpointWriter", "ResumeTraining", "TrainingState"],
        "guards": ["CheckMemory", "EpochSeeding", "GradientClipper", "StopOnNonFiniteLoss"],
        "run_report": ["RunReport", "bundle_command"],
        "training": ["ProgressLog", "TrainingHandlers", "ema", "summary_writer"],
    },
)
