"""What the papers do with generated images: synthetic sets, folds, classifiers, explanations."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "cross_validation": ["CrossValidation"],
        "explanations": ["ExplanationStudy"],
        "fold_files": ["KeepRecognised"],
        "fold_training": ["TrainingPlan"],
        "synthetic": ["synthetic_cases"],
        "synthetic_set": ["SyntheticSet"],
    },
)
