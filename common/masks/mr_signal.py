"""What a scanner would see of a simulated brain: T1, T1 with contrast agent, T2 and FLAIR by their signal equations."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .heads import Head, smooth_noise

MODALITIES = ("t1", "t1ce", "t2", "flair")
"""The order of BraTS' files and of the channels."""

# Proton density, T1 and T2 in ms at 3 T; of the tumour's parts chosen by us within the spread of published values.
_TISSUES = {
    "grey": (0.80, 1331.0, 110.0),
    "white": (0.70, 832.0, 80.0),
    "fluid": (1.00, 4200.0, 2000.0),
    "necrosis": (0.95, 2600.0, 330.0),
    "oedema": (0.85, 1650.0, 190.0),
    "enhancing": (0.82, 1500.0, 130.0),
}
_UPTAKE = {"enhancing": 1.0, "grey": 0.02, "white": 0.01, "necrosis": 0.05}  # of the agent, relative
_RELAXIVITY = 4.5e-3  # 1/T1 in 1/ms for each mmol/l
_COARSE = {"necrosis": 0.12, "oedema": 0.08, "enhancing": 0.1}  # texture, relative; elsewhere 0.03


def scan(head: Head, seed: int = 0) -> np.ndarray:
    """
    Four volumes of one brain on one grid, as after registration and brain extraction.

    Spin echo for T1 and T2, inversion recovery for FLAIR, magnitude. Relaxation times, echo, repetition and inversion
    times, texture (one for all four), bias field, gain and Rician noise differ from seed to seed.

    Args:
        head: shares of tissues.
        seed: the same seed gives the same volumes.

    Returns:
        (4, X, Y, Z), int16, in the order of ``MODALITIES``: at least 1 in the brain, 0 outside.

    Source: Haacke et al. 1999, Magnetic Resonance Imaging, chapters 8 and 26 (signal equations); Wansapura et al. 1999
        (relaxation times at 3 T); Gudbjartsson and Patz 1995 (noise of magnitude images).
    """
    rng = np.random.default_rng([seed, 1])
    texture = smooth_noise(head.labels.shape, 2.0, rng)
    coarse = sum(head.shares[name] * (level - 0.03) for name, level in _COARSE.items()) + 0.03
    agent = rng.uniform(0.3, 1.0)
    tissues = {name: _varied(values, rng) for name, values in _TISSUES.items()}
    times = {"t1": (550, 12, 0), "t1ce": (550, 12, 0), "t2": (4500, 95, 0), "flair": (9000, 110, 2450)}
    volumes = []
    for name, values in times.items():
        tr, te, ti = (value * rng.uniform(0.92, 1.08) for value in values)
        signal = np.zeros(head.labels.shape, np.float32)
        for tissue, share in head.shares.items():
            density, t1, t2 = tissues[tissue]
            if name == "t1ce":
                t1 = 1 / (1 / t1 + _RELAXIVITY * agent * _UPTAKE.get(tissue, 0.0))
            signal += share * np.float32(_spin_echo(density, t1, t2, tr, te, ti))
        water = 1 if name in ("t2", "flair") else -1  # what makes the one brighter makes the other darker
        bias = np.exp(rng.uniform(0.03, 0.1) * smooth_noise(signal.shape, max(signal.shape) / 2, rng))
        volumes.append(_magnitude(signal * (1 + water * coarse * texture) * bias, head.brain, rng))
    return np.stack(volumes)


def _varied(values: tuple[float, float, float], rng: np.random.Generator) -> tuple[float, ...]:
    """The values of one brain, within a few per cent."""
    return tuple(value * rng.normal(1, 0.04) for value in values)


def _spin_echo(density: float, t1: float, t2: float, tr: float, te: float, ti: float) -> float:
    """Magnitude; with an inversion at ``ti`` before the excitation where it is not 0."""
    recovered = 1 - np.exp(-tr / t1) if ti == 0 else abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1))
    return float(density * recovered * np.exp(-te / t2))


def _magnitude(signal: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurred a little, with noise in both parts of the complex signal, in the units of some scanner."""
    blurred = ndimage.gaussian_filter(signal, 0.35)
    level = float(np.percentile(blurred[brain], 50))
    sigma = level * rng.uniform(0.01, 0.035)
    real, other = (rng.normal(0, sigma, signal.shape) for _ in range(2))
    units = np.hypot(blurred + real, other) * rng.uniform(250, 700) / level
    return np.where(brain, np.clip(np.rint(units), 1, 32000), 0).astype(np.int16)
