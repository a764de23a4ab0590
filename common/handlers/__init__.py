"""Ignite handlers for trainers and evaluators: checkpoints, seeding, progress, guards."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "adversarial": ["Adversarial"],
        "checkpoints": ["CheckpointWriter", "ResumeTraining", "TrainingState"],
        "curves": ["Curves", "HeldOutLoss"],
        "guards": ["CheckMemory", "EpochSeeding", "GradientClipper", "StopOnNonFiniteLoss"],
        "run_report": ["RunReport", "bundle_command"],
        "progressive": ["ProgressiveStages"],
        "training": ["ProgressLog", "TrainingHandlers", "ema", "summary_writer"],
    },
)
