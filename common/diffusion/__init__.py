"""The papers' mathematics: noise schedules, step rules, conversions, the variational bound."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "schedules": ["NoiseSchedule", "Step", "step_pairs"],
        "steps": ["Ancestral", "DDIM", "DPMSolverPP2M", "StepRule", "denoise", "to_x0_and_eps"],
        "variational": ["VariationalBound", "VariationalLoss"],
    },
)
