"""Two-alternative forced choice: readers' answers with exact intervals, and a classifier as a lower bound on them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..features.features import FeatureNetwork
from ..metrics.base import FeatureSetMetric
from ..metrics.intervals import binomial_interval
from ..metrics.neighbours import centred_sets
from ..metrics.pairs import share_won
from ..utils.files import read_table
from .results import write_report

LEAST_IMAGES = 2  # of each kind in each fold
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no")


def forced_choice(path: str | Path) -> dict[str, Any]:
    """
    Accuracy of readers who were shown pairs of a real and a generated image and asked which is real.

    Args:
        path: CSV with a header: a column ``correct`` (1 or 0, true or false, yes or no), or both ``answer`` and
            ``truth``, compared as text; optionally ``reader``.

    Returns:
        ``pooled`` and ``readers`` (name -> result), each with ``value`` (accuracy, 0.5 when nobody can tell),
        ``correct``, ``n``, ``interval95`` (exact) and ``p_value`` (of so many correct by guessing); and
        ``mean_of_readers``. Pooled, several readers of the same pairs count as independent, which makes that interval
        narrower than it should be; each reader's own is exact.

    Raises:
        FileNotFoundError: for no such file.
        ValueError: for missing columns, no answers, or an entry that is neither right nor wrong; names file and line.

    Source: Med-cDiff, section 4.5 and Table 3 (four readers, 50 pairs each, mean of the readers).
    """
    return results_of(_read_answers(Path(path)))


def results_of(answers: Sequence[tuple[str, bool]]) -> dict[str, Any]:
    """What ``forced_choice`` returns, of (reader, whether it is right) an answer."""
    readers: dict[str, list[bool]] = {}
    for reader, correct in answers:
        readers.setdefault(reader, []).append(correct)
    results = {reader: accuracy_of(given) for reader, given in readers.items()}
    return {
        "pooled": accuracy_of([correct for _, correct in answers]),
        "readers": results,
        "mean_of_readers": float(np.mean([result["value"] for result in results.values()])),
    }


def run(path: str | Path, out: str | Path | None = None) -> int:
    """
    Print the result of a forced choice, and write ``observer.json`` and ``observer.md`` where a folder is given.

    Args:
        path: CSV as ``forced_choice`` reads it.
        out: folder to write to; None for none.

    Returns:
        0.
    """
    result = forced_choice(path)
    text = forced_choice_text(result)
    print(text, end="")
    if out is not None:
        write_report({"answers": Path(path).name, **result}, text, out, "observer")
    return 0


def forced_choice_text(result: dict[str, Any]) -> str:
    """The result of ``forced_choice`` as a Markdown table, and in words whether the readers can tell."""
    lines = ["| reader | accuracy | 95 % interval | correct | p |", "| --- | --- | --- | --- | --- |"]
    entries = {name or "one reader": entry for name, entry in result["readers"].items()}
    for name, entry in {**entries, **({"pooled": result["pooled"]} if len(entries) > 1 else {})}.items():
        low, high = entry["interval95"]
        share = f"{entry['value']:.1%} | {low:.1%} to {high:.1%} | {entry['correct']} of {entry['n']}"
        lines.append(f"| {name} | {share} | {entry['p_value']:.2g} |")
    told = "better than by guessing" if result["pooled"]["p_value"] < 0.05 else "no better than by guessing"
    lines += ["", f"Mean of the readers: {result['mean_of_readers']:.1%}. Pooled, they tell real images {told} (50 %)."]
    return "\n".join(lines) + "\n"


def accuracy_of(correct: Sequence[bool]) -> dict[str, Any]:
    """Share of right answers with its exact interval, and the probability of as many by guessing."""
    k, n = int(sum(correct)), len(correct)
    return {
        "value": k / n,
        "interval95": binomial_interval(k, n),
        "p_value": float(binomtest(k, n, alternative="greater").pvalue),
        "correct": k,
        "n": n,
    }


def _read_answers(path: Path) -> list[tuple[str, bool]]:
    columns, rows = read_table(path)
    if "correct" not in columns and not {"answer", "truth"} <= set(columns):
        raise ValueError(f"{path}: a column correct, or answer and truth, was expected; found {columns}.")
    answers = [_answer(row, f"{path}, line {line}") for line, row in rows]
    if not answers:
        raise ValueError(f"{path} holds no answers.")
    return answers


def _answer(row: dict[str, Any], where: str) -> tuple[str, bool]:
    """Reader and whether the answer was right."""
    entries = {name: (value or "").strip().lower() for name, value in row.items() if isinstance(name, str)}
    reader = (row.get("reader") or "").strip()
    if "reader" in entries and not reader:
        raise ValueError(f"{where}: no reader.")
    if "correct" not in entries:
        if not entries["answer"] or not entries["truth"]:
            raise ValueError(f"{where}: answer or truth is missing.")
        return reader, entries["answer"] == entries["truth"]
    if entries["correct"] not in _YES + _NO:
        raise ValueError(f"{where}: correct must be 1 or 0, got {row['correct']!r}.")
    return reader, entries["correct"] in _YES


def machine_observer(
    real: Tensor,
    generated: Tensor,
    folds: int = 5,
    penalty: float | None = None,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """
    Two-alternative forced choice by a classifier: how often the real image of a pair looks more real to it.

    A logistic regression on features, standardised and fitted on the other folds only. What it tells apart, a reader of
    the same features could; what it does not, another observer may, so its accuracy is a lower bound. Values depend on
    the network and on n: more images teach it more.

    Args:
        real: (n, d).
        generated: (m, d).
        folds: of the cross-validation, both kinds spread evenly.
        penalty: of the squared weights, added to the summed log loss as penalty / 2 |w|^2; None for d, which keeps the
            penalty of a score independent of the number of features.
        groups: of real and generated images, such as patients; a group lies in one fold. Give them where a patient has
            several images or a generated image stems from a patient.
        seed: of folds, pairs and bootstrap.
        resamples: of the bootstrap.

    Returns:
        ``value``: share of all pairs within a fold that are told apart, the area under the ROC curve (0.5: not at all);
        ``interval95``: bootstrap with the scores as they are, over images or over ``groups``; ``pairs``: accuracy on
        disjoint random pairs as for a reader, with exact interval and p-value; ``folds``, ``penalty``, ``groups``
        (their number).

    Raises:
        ValueError: for fewer than 2 images of each kind in a fold, too few groups, other shapes, NaN.

    Source: area under the curve as forced-choice accuracy: Green and Swets 1966; Hanley and McNeil 1982.
    """
    real, generated = centred_sets(real, generated, folds * LEAST_IMAGES, folds * LEAST_IMAGES)
    if folds < 2:
        raise ValueError(f"At least 2 folds are needed, got {folds}.")
    x = torch.cat([real, generated]).numpy()
    is_real = np.arange(len(x)) < len(real)
    penalty = float(x.shape[1]) if penalty is None else penalty
    names = list(range(len(x))) if groups is None else [*groups[0], *groups[1]]
    if len(names) != len(x) or (groups is not None and len(groups[0]) != len(real)):
        raise ValueError(f"One group an image was expected, got {len(names)} for {len(x)} images.")
    rng = np.random.default_rng(seed)
    fold = _folds(names, is_real, folds, rng)
    scores = np.empty(len(x))
    for number in range(folds):
        inside = fold == number
        scores[inside] = _fitted_scores(x[~inside], is_real[~inside], x[inside], penalty)
    right = np.concatenate([_pairs(scores[fold == number], is_real[fold == number], rng) for number in range(folds)])
    value, interval = _area(scores, is_real, fold, seed, resamples, None if groups is None else names)
    return {
        "value": value,
        "interval95": interval,
        "pairs": accuracy_of(right.tolist()),
        "folds": folds,
        "penalty": penalty,
        "groups": None if groups is None else len(set(names)),
        "seed": seed,
    }


def _folds(groups: Sequence[Hashable], is_real: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """A fold an image: groups whole, large ones first, each to the fold that has least of its kind."""
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    order = [list(members.values())[i] for i in rng.permutation(len(members))]
    counts = np.zeros((folds, 2))
    result = np.empty(len(is_real), dtype=int)
    totals = np.array([is_real.sum(), (~is_real).sum()])
    for indices in sorted(order, key=len, reverse=True):
        added = np.array([is_real[indices].sum(), (~is_real[indices]).sum()])
        filled = ((counts + added) / totals) ** 2 - (counts / totals) ** 2
        chosen = int(filled.sum(1).argmin())
        counts[chosen] += added
        result[indices] = chosen
    if counts.min() < LEAST_IMAGES:
        raise ValueError(f"{folds} folds of {len(members)} groups leave a fold with fewer than 2 images of a kind.")
    return result


def _fitted_scores(x: np.ndarray, is_real: np.ndarray, new: np.ndarray, penalty: float) -> np.ndarray:
    """Log odds of being real for ``new``; scaling and regression know ``x`` only."""
    regression = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10000)
    return make_pipeline(StandardScaler(), regression).fit(x, is_real).decision_function(new)


def _area(
    scores: np.ndarray,
    is_real: np.ndarray,
    fold: np.ndarray,
    seed: int,
    resamples: int,
    groups: Sequence[Hashable] | None = None,
) -> tuple[float, list[float] | None]:
    """Share of pairs won, and its interval; pairs of one fold only, as scores of different folds differ in scale."""
    member = np.arange(len(scores)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    kinds = [[np.flatnonzero((fold == f) & (is_real == kind)) for kind in (True, False)] for f in np.unique(fold)]
    sides, of = ([(every[real], every[generated]) for real, generated in kinds] for every in (scores, member))
    return share_won(sides, of, seed, resamples)


def _pairs(scores: np.ndarray, is_real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether the real image won, for random pairs that share no image; equal scores are decided by a coin."""
    real, generated = rng.permutation(scores[is_real]), rng.permutation(scores[~is_real])
    n = min(len(real), len(generated))
    coin = rng.random(n) < 0.5
    return np.where(real[:n] == generated[:n], coin, real[:n] > generated[:n])


class MachineObserverMetric(FeatureSetMetric):
    """
    Two-alternative forced choice by a classifier on features; see ``machine_observer``.

    Args:
        features: the network and its preprocessing; its name stands in the result.
        folds: of the cross-validation.
        seed: of folds, pairs and bootstrap.
        paired: every generated image stems from the real one of its place, as restored images do: both stay in one
            fold. An inpainted image has most pixels of its original; with one of them among the images that the
            classifier learns from and the other among those it is asked about, it would answer from memory.

    >>> metric = MachineObserverMetric(FeatureNetwork("torch.nn:Flatten"), folds=2)
    >>> _ = metric(torch.zeros(4, 1, 2, 2), torch.ones(4, 1, 2, 2))
    >>> float(metric.aggregate())
    1.0
    """

    name = "machine_2afc"

    def __init__(self, features: FeatureNetwork, folds: int = 5, seed: int = 0, paired: bool = False) -> None:
        super().__init__(features)
        self.folds, self.seed, self.paired = folds, seed, paired

    def _measure(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = self.groups_of_sets()
        if groups is not None:
            groups = groups[::-1]
        elif self.paired:
            groups = (range(len(real)), range(len(real)))
        return machine_observer(real, generated, self.folds, groups=groups, seed=self.seed)
