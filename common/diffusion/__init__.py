"""The papers' mathematics: noise schedules, the denoising loop and its step rules, the variational bound, seeds."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "schedules": ["NoiseSchedule", "Step", "coarsened", "gamma_steps", "step_pairs"],
        "steps": ["DDIM", "Ancestral", "DPMSolverPP2M", "StepRule", "denoise", "prediction_of", "to_x0_and_eps"],
        "variational": ["VariationalBound", "VariationalLoss", "bits_per_dimension"],
    },
)
