"""Logistic regression with a ridge penalty, for the machine observer."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit


def logistic_regression(x: np.ndarray, positive: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """
    Weights and intercept of a logistic regression with a ridge penalty on the weights.

    scikit-learn's gives the same (tested), but is not among the run-time requirements.

    Args:
        x: (n, d).
        positive: (n,), bool.
        penalty: minimised is the summed log loss + penalty / 2 |w|^2.
    """
    sign = np.where(positive, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        w = parameters[:-1]
        margin = sign * (x @ w + parameters[-1])
        slope = -sign * expit(-margin)
        value = np.logaddexp(0, -margin).sum() + penalty / 2 * w @ w
        return float(value), np.append(x.T @ slope + penalty * w, slope.sum())

    start = np.zeros(x.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-6, "ftol": 1e-12})
    return found.x[:-1], float(found.x[-1])
