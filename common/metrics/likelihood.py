"""
The variational bound on -log p(x): its terms as means over held-out images, and as scores for images of another kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_tensor
from scipy.stats import rankdata
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from ..diffusion.variational import TERMS, bits_per_dimension
from .base import CaseMetric, SetMetric, gathered
from .groups import shared_groups
from .intervals import bootstrap_interval_of_sets
from .pairs import share_won

BOUND = "bound"
_POINTS = 101


def term_of(terms: Tensor, name: str, controls: Sequence[str] = ()) -> Tensor:
    """
    One term, or "bound", their sum.

    Args:
        terms: (N, 3), nats, in the order of ``TERMS``; a further column for each of ``controls``.
        name: of the term.
        controls: names of other scores, see ``ControlledInferer``.

    Returns:
        (N,), float64.

    Raises:
        ValueError: for another shape or name.
    """
    columns = (*TERMS, *controls)
    if name not in (*columns, BOUND):
        raise ValueError(f"term must be one of {(*columns, BOUND)}, got {name!r}.")
    if terms.ndim != 2 or terms.shape[1] < len(columns):
        raise ValueError(f"Terms (N, {len(columns)}) were expected, got shape {tuple(terms.shape)}.")
    plain = convert_to_tensor(terms).detach().double()
    return plain[:, : len(TERMS)].sum(1) if name == BOUND else plain[:, columns.index(name)]


class BoundTerm(CaseMetric):
    """
    One term of the bound on -log p(x), called with the terms of a batch, (N, 3) nats: a value an image.

    Called with the number of each image's set as well, (N,) or (N, 1), it passes over sets other than 0.

    Args:
        term: "reconstruction", "diffusion", "latent", or "bound" for their sum.
        dimensions: pixels times channels of an image, for bits per dimension; None for nats per image.

    Raises:
        ValueError: for an unknown term or fewer than one dimension.

    Source: Kingma et al. 2021 (VDM), eq. 11.

    >>> metric = BoundTerm("bound")
    >>> _ = metric(torch.tensor([[1.0, 2.0, 0.5]]))
    >>> metric.label, float(metric.aggregate())
    ('bound [nats]', 3.5)
    """

    def __init__(self, term: str = BOUND, dimensions: int | None = None) -> None:
        super().__init__()
        if term not in (*TERMS, BOUND):
            raise ValueError(f"term must be one of {(*TERMS, BOUND)}, got {term!r}.")
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}.")
        self.term, self.dimensions = term, dimensions

    @property
    def label(self) -> str:
        """Such as ``diffusion [bits/dim]``."""
        return f"{self.term} [{'nats' if self.dimensions is None else 'bits/dim'}]"

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        nats = term_of(y_pred, self.term)
        values = nats if self.dimensions is None else bits_per_dimension(nats, self.dimensions)
        # NaN stands for an image of another set: a term that is no number must not look like one.
        values = torch.where(values.isnan(), torch.inf, values)
        return values if y is None else torch.where(y.reshape(len(values)).to(values) == 0, values, torch.nan)

    def per_case(self) -> Tensor:
        """The term of each image of set 0, (n,), float64."""
        values = super().per_case()
        return values[~values.isnan()]

    def report(self) -> dict[str, Any]:
        """Unit and dimensions."""
        unit = "nats per image" if self.dimensions is None else "bits per dimension"
        return {"unit": unit, "dimensions": self.dimensions}


class OutOfDistributionROC(SetMetric):
    """
    Area under the ROC curve of a term of the bound: the chance that an image of the other set scores higher.

    Called with terms, (N, 3) nats, and with the number of each image's set, (N,) or (N, 1); images of other sets are
    passed over. 0.5 is chance; below it, the other set is *more* likely, as happens with smoother images.

    Args:
        outside: number of the other set.
        name: of the other set.
        inside: number of the set of the kind trained on.
        term: that is the score, see ``BoundTerm``, or one of ``controls``.
        controls: names of the columns after the terms.
        seed: of the bootstrap over the images of each set.
        resamples: of the bootstrap.

    Source: Hanley and McNeil 1982; Nalisnick et al. 2019 (Do Deep Generative Models Know What They Don't Know?).

    >>> metric = OutOfDistributionROC(1, "other", term="latent")
    >>> _ = metric(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 3.0], [0.0, 0.0, 2.0]]), torch.tensor([0, 0, 1]))
    >>> metric.label, float(metric.aggregate())
    ('ood_auc[other, latent]', 0.5)
    """

    def __init__(
        self,
        outside: int,
        name: str,
        inside: int = 0,
        term: str = BOUND,
        controls: Sequence[str] = (),
        seed: int = 0,
        resamples: int = 1000,
    ) -> None:
        super().__init__()
        self.outside, self.inside = outside, inside
        self.name, self.term, self.controls = name, term, tuple(controls)
        self.seed, self.resamples = seed, resamples

    @property
    def label(self) -> str:
        """Such as ``ood_auc[virus, bound]``."""
        return f"ood_auc[{self.name}, {self.term}]"

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None or len(y) != len(y_pred):
            raise ValueError(f"{self.label}: a set number for each of {len(y_pred)} images was expected.")
        scores = term_of(y_pred, self.term, self.controls).cpu()
        number = convert_to_tensor(y).reshape(len(y_pred)).cpu()
        self._result = None
        names = self.take_groups(0, len(y_pred))
        for kept, groups, wanted in zip(self._kept, self._groups_of_sets, (self.outside, self.inside)):
            kept.extend(scores[number == wanted])
            groups.extend(names[i] for i in np.flatnonzero(number.numpy() == wanted))
        return scores[:, None]

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._groups_of_sets: tuple[list[str | None], list[str | None]] = ([], [])

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Scores of the images inside and outside, float64.

        Raises:
            ValueError: when one of the sets has no image, or a score is no number.
        """
        outside, inside = (np.array([float(score) for score in side]) for side in self.sets())
        if not len(inside) or not len(outside) or not np.isfinite([*inside, *outside]).all():
            raise ValueError(
                f"{self.label}: finite scores of both sets were expected, got {len(inside)} and {len(outside)}."
            )
        return inside, outside

    def _evaluate(self, generated: list[Tensor], real: list[Tensor]) -> dict[str, Any]:
        """Area, interval, numbers of images, share found at 5 % false alarms, curve."""
        inside, outside = self.scores()
        alarms, found = roc_curve(inside, outside)
        of_sets = [[name for part in gathered(self._groups_of_sets) for name in part[side]] for side in (0, 1)]
        if groups := shared_groups([*of_sets[0], *of_sets[1]]):
            member = np.unique(groups, return_inverse=True)[1]
            of = member[: len(outside)], member[len(outside) :]
            interval = share_won([(outside, inside)], [of], self.seed, self.resamples)[1]
        else:
            interval = bootstrap_interval_of_sets((inside, outside), roc_auc, self.seed, self.resamples)
        drawn = "groups of images" if groups else "the images of each set"
        return {
            "value": roc_auc(inside, outside),
            "interval95": interval,
            "interval_by": f"bootstrap over {drawn}, {self.resamples} resamples, seed {self.seed}",
            "n": {"inside": len(inside), "outside": len(outside)},
            "found_at_5_percent_false_alarms": float(np.interp(0.05, alarms, found)),
            "curve": {"false_alarms": alarms.round(6).tolist(), "found": found.round(6).tolist()},
        }


def roc_auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """
    Chance that a score outside, (m,), is higher than one inside, (n,), ties half, by ranks.

    The number of scikit-learn's ``roc_auc_score`` (tested), for whose checks a bootstrap would wait a minute.
    """
    m = len(outside)
    above = rankdata(np.concatenate([inside, outside]))[len(inside) :].sum() - m * (m + 1) / 2
    return float(above / (len(inside) * m))


def roc_curve(inside: np.ndarray, outside: np.ndarray, points: int = _POINTS) -> tuple[np.ndarray, np.ndarray]:
    """
    Shares of both sets above a threshold that falls from above all scores to below them, by scikit-learn.

    Args:
        inside: scores, (n,); above the threshold they are false alarms.
        outside: scores, (m,); above the threshold they are found.
        points: at most so many, of equal steps along the sorted thresholds.

    Returns:
        Shares inside and outside, each rising from 0 to 1.
    """
    truth, scores = np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside])
    alarms, found, _ = sklearn_metrics.roc_curve(truth, scores, drop_intermediate=False)
    kept = np.linspace(0, len(alarms) - 1, min(points, len(alarms))).round().astype(int)
    return alarms[kept], found[kept]


def score_metrics(
    sets: Sequence[str], dimensions: int, controls: Sequence[str] = (), **options: Any
) -> dict[str, BoundTerm | OutOfDistributionROC]:
    """
    The terms of the bound on the first set, in nats and in bits per dimension, and ROC curves for each other set.

    Args:
        sets: their names, in the order of their numbers; the first is the one of the kind trained on.
        dimensions: pixels times channels of an image.
        controls: of the ``ControlledInferer``; each has its ROC curves beside those of the bound.
        options: of ``OutOfDistributionROC``.

    Returns:
        Name -> metric, all called with terms (N, 3 + number of controls) and set numbers (N,).
    """
    units, others = (("nats", None), ("bits", dimensions)), list(enumerate(sets))[1:]
    return {
        **{f"{term}_{unit}": BoundTerm(term, size) for unit, size in units for term in (*TERMS, BOUND)},
        **{
            f"ood_{name}_{score}": OutOfDistributionROC(number, name, term=score, controls=controls, **options)
            for score in (BOUND, *controls)
            for number, name in others
        },
    }
