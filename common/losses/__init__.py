"""Losses of papers that MONAI does not have."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {"content": ["ContentLoss"], "generalised_gaussian": ["UncertaintyLoss", "generalised_gaussian_nll"]},
)
