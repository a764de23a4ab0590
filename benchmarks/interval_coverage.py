"""
How often the published intervals hold the truth: ``python -m benchmarks.interval_coverage`` prints a table.

Every kind of interval is computed by the function that the bundles call, on data whose true value is known, as often as
asked for, at numbers of cases like those of the pages. Where the estimate itself depends on the number of images (FID,
precision, recall, coverage), the truth is its expectation at that number, the mean of all repetitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import norm

from common.evaluation.observer import machine_observer
from common.metrics.consistency import classification_scores
from common.metrics.diversity import interval_over_images, random_pairs
from common.metrics.frechet import FrechetDistanceMetric, GaussianStatistics, fid, fid_interval
from common.metrics.intervals import (
    binomial_interval,
    bootstrap_interval,
    bootstrap_interval_of_sets,
    fold_interval,
    normal_interval,
    subsampling_interval,
)
from common.metrics.kernels import linear_kernel
from common.metrics.likelihood import roc_auc
from common.metrics.mmd import mmd2_unbiased
from common.metrics.neighbours import density_coverage

Interval = Sequence[float] | None


class Kind(NamedTuple):
    """A kind of interval, what it is measured on, its true value (None: the mean of the estimates), and one draw."""

    name: str
    setting: str
    truth: float | None
    draw: Callable[[np.random.Generator], tuple[float, Interval]]


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Values as errors of cases are: positive, with a long tail. Their mean is 1."""
    return rng.lognormal(-0.125, 0.5, n)


def mean_of(n: int) -> Kind:
    """Mean over cases."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        values = skewed(rng, n)
        return float(values.mean()), bootstrap_interval(values)

    return Kind("bootstrap over cases", f"mean of {n} errors", 1.0, draw)


def subjects_of(rng: np.random.Generator, subjects: int, cases: int) -> np.ndarray:
    """Number of the subject of each case; each has at least one."""
    return np.sort(np.concatenate([np.arange(subjects), rng.integers(0, subjects, cases - subjects)]))


def alike(rng: np.random.Generator, names: np.ndarray, size: int) -> np.ndarray:
    """Standard normal features, (cases, size), with half of the variance between subjects, if any has several."""
    if names.max() + 1 == len(names):
        return rng.normal(size=(len(names), size))
    return 0.5**0.5 * (rng.normal(size=(names.max() + 1, size))[names] + rng.normal(size=(len(names), size)))


def clustered(subjects: int, cases: int) -> Kind:
    """Mean over cases of which several are of one subject, with half of the variance between subjects."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        names = subjects_of(rng, subjects, cases)
        values = rng.normal(size=subjects)[names] + rng.normal(size=cases)
        return float(values.mean()), bootstrap_interval(values, clusters=names.tolist())

    return Kind("bootstrap over subjects", f"mean of {cases} volumes of {subjects} subjects", 0.0, draw)


def ratio(n: int) -> Kind:
    """Grain and acutance: mean of one set over that of another."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        fake, real = skewed(rng, n), skewed(rng, n)
        interval = bootstrap_interval_of_sets([fake, real], lambda f, r: float(f.mean() / r.mean()))
        return float(fake.mean() / real.mean()), interval

    return Kind("bootstrap of two sets", f"ratio of means, {n} and {n}", 1.0, draw)


def area(n: int) -> Kind:
    """Area under the ROC curve of out-of-distribution scores."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        sets = rng.normal(size=n), rng.normal(size=n) + 1
        return roc_auc(*sets), bootstrap_interval_of_sets(sets, roc_auc)

    return Kind("bootstrap of two sets", f"area under a ROC curve, {n} and {n}", float(norm.cdf(2**-0.5)), draw)


def kernel_distance(n: int, paired: bool) -> Kind:
    """KID of shifted sets, whose expectation has a closed form for a linear kernel: the squared shift."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        x = rng.normal(size=(n, 8))
        y = (0.5 * x + rng.normal(size=(n, 8)) * 0.75**0.5 if paired else rng.normal(size=(n, 8))) + 0.5
        return mmd2_unbiased(torch.from_numpy(x), torch.from_numpy(y), linear_kernel, resamples=1000, paired=paired)

    return Kind("bootstrap of MMD", f"{n} {'pairs' if paired else 'and ' + str(n)}, shifted", 8 * 0.25, draw)


def kernel_distance_of_subjects(subjects: int, cases: int) -> Kind:
    """KID of pairs, several of one subject: whole subjects are drawn."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        names = subjects_of(rng, subjects, cases)
        x = alike(rng, names, 8)
        y = 0.5 * x + 0.75**0.5 * alike(rng, names, 8) + 0.5
        groups = [str(name) for name in names]
        sets = torch.from_numpy(x), torch.from_numpy(y)
        return mmd2_unbiased(*sets, linear_kernel, resamples=1000, paired=True, groups=(groups, groups))

    return Kind("bootstrap of MMD over subjects", f"{cases} pairs of {subjects} subjects, shifted", None, draw)


def kernel_distance_to_subjects(subjects: int, cases: int, told: bool = True) -> Kind:
    """KID of generated images, each by itself, to real ones of which several are of one subject."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        names = subjects_of(rng, subjects, cases)
        sets = torch.from_numpy(rng.normal(size=(cases, 8)) + 0.5), torch.from_numpy(alike(rng, names, 8))
        groups = [f"generated {i}" for i in range(cases)], [str(name) for name in names]
        return mmd2_unbiased(*sets, linear_kernel, resamples=1000, groups=groups if told else None)

    of = f"of {subjects} subjects{'' if told else ', taken for as many'}"
    return Kind("bootstrap of MMD over subjects", f"{cases} and {cases} {of}, shifted", None, draw)


def forced_choice(subjects: int, cases: int) -> Kind:
    """A classifier tells originals from restored images, several of one subject; both versions are drawn together."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        names = subjects_of(rng, subjects, cases)
        real = alike(rng, names, 8)
        restored = 0.9**0.5 * real + 0.1**0.5 * alike(rng, names, 8) + 0.15
        groups = [str(name) for name in names]
        found = machine_observer(torch.from_numpy(real), torch.from_numpy(restored), groups=(groups, groups))
        return found["value"], found["interval95"]

    return Kind("bootstrap of a forced choice", f"{cases} pairs of {subjects} subjects", None, draw)


def frechet(n: int) -> Kind:
    """FID by the jackknife over 10 groups."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        sets = [torch.from_numpy(rng.normal(size=(n, 8)) + shift) for shift in (0.0, 0.5)]
        sides = [[GaussianStatistics(8) for _ in range(10)] for _ in sets]
        for features, groups in zip(sets, sides):
            for index, group in enumerate(groups):
                group.update(features[index::10])
        value = fid(*sets)
        return value, fid_interval(sides[0], sides[1], value)

    return Kind("jackknife of FID", f"8 features, {n} and {n}", None, draw)


class _Features:
    """Images that are their own features."""

    label, describe = "as they are", dict

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def frechet_difference(n: int, subjects: int = 0, told: bool = True) -> Kind:
    """FID of two methods to the same real images, compared by the jackknife over groups of pairs, or over subjects."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        names = subjects_of(rng, subjects or n, n)
        real = torch.from_numpy(alike(rng, names, 8))[:, None]
        methods = [FrechetDistanceMetric(_Features(), groups=10) for _ in range(2)]  # type: ignore[arg-type]
        for metric, spread in zip(methods, (0.6, 0.4)):
            if subjects and told:
                metric.note_groups([str(name) for name in names])
            metric(real + 0.3 + torch.from_numpy(alike(rng, names, 8))[:, None] * spread, real)
        found = methods[0].difference(methods[1])
        return found["value"], found["interval95"]

    of = f" of {subjects} subjects{'' if told else ', taken for as many'}" if subjects else ""
    return Kind("jackknife of FID differences", f"8 features, {n} pairs{of}", None, draw)


def neighbours(n: int, subjects: int = 0) -> Kind:
    """Coverage by subsampling, of cases or of subjects."""

    def value(real: torch.Tensor, fake: torch.Tensor) -> float:
        return density_coverage(real, fake, 5).coverage

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        names = subjects_of(rng, subjects or n, n)
        sets = torch.from_numpy(alike(rng, names, 8)), torch.from_numpy(alike(rng, names, 8) * 0.8)
        found = value(*sets)
        return found, subsampling_interval(value, sets, found, clusters=[names.tolist()] * 2 if subjects else None)

    of = f" of {subjects} subjects" if subjects else ""
    return Kind("half samples", f"coverage, {n} and {n}{of}", None, draw)


def similarity(n: int) -> Kind:
    """MS-SSIM over 200 pairs of n images: here the likeness of a pair is a product of two numbers, 1 on average."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        images = 1 + 0.2 * rng.normal(size=n)
        pairs = random_pairs(n, 200)
        values = [float(images[i] * images[j]) for i, j in pairs]
        return float(np.mean(values)), interval_over_images(pairs, values, 0)

    return Kind("bootstrap over images of pairs", f"200 pairs of {n} images", 1.0, draw)


def folds(k: int, test_to_train: float) -> Kind:
    """Mean over folds whose scores are correlated as Nadeau and Bengio assume, or over independent runs."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        shared = test_to_train / (1 + test_to_train)
        scores = shared**0.5 * rng.normal() + (1 - shared) ** 0.5 * rng.normal(size=k)
        return float(scores.mean()), fold_interval(scores, test_to_train=test_to_train)

    return Kind("Student's t over folds", f"{k} {'folds' if test_to_train else 'independent runs'}", 0.0, draw)


def normal(n: int) -> Kind:
    """Mean of many terms."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        values = skewed(rng, n)
        return float(values.mean()), normal_interval(values)

    return Kind("normal", f"mean of {n} errors", 1.0, draw)


def exact(p: float, n: int) -> Kind:
    """Share of successes: Clopper-Pearson never covers less than 95 %, and more where n is small."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        k = int(rng.binomial(n, p))
        return k / n, binomial_interval(k, n)

    return Kind("exact binomial", f"{n} trials, p = {p}", p, draw)


def accuracy(groups: int, size: int) -> Kind:
    """Accuracy of images in groups of near copies, half of which the classifier knows or does not know as a whole."""

    def draw(rng: np.random.Generator) -> tuple[float, Interval]:
        chance = np.repeat(rng.beta(4, 1, groups), size)
        labels = rng.integers(0, 2, groups * size)
        right = rng.random(groups * size) < chance
        found = np.where(right, labels, 1 - labels)
        names = np.repeat(np.arange(groups), size)
        score: dict[str, Any] = classification_scores(np.eye(2)[found], labels, names)["accuracy"]
        return score["value"], score["interval95"]

    return Kind("bootstrap over groups", f"accuracy, {groups} groups of {size}", 0.8, draw)


KINDS = [
    mean_of(40),
    mean_of(200),
    clustered(27, 40),
    ratio(40),
    area(100),
    kernel_distance(40, False),
    kernel_distance(100, True),
    kernel_distance_of_subjects(41, 100),
    kernel_distance_to_subjects(41, 100),
    kernel_distance_to_subjects(41, 100, told=False),
    forced_choice(41, 100),
    forced_choice(100, 100),
    frechet(40),
    frechet(400),
    frechet_difference(100),
    frechet_difference(100, 41),
    frechet_difference(100, 41, told=False),
    neighbours(200),
    neighbours(200, 80),
    similarity(40),
    folds(5, 0.0),
    folds(5, 0.25),
    normal(400),
    exact(0.5, 200),
    exact(0.9, 2000),
    accuracy(100, 4),
]


def coverage(kind: Kind, repetitions: int, seed: int = 0) -> tuple[float, float]:
    """Share of the intervals that hold the truth, and share that lies wholly below it."""
    drawn = [kind.draw(np.random.default_rng([seed, index])) for index in range(repetitions)]
    truth = float(np.mean([value for value, _ in drawn])) if kind.truth is None else kind.truth
    intervals = np.array([interval for _, interval in drawn], dtype=float)
    low, high = intervals[:, 0], intervals[:, 1]
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high < truth))


def main(repetitions: int = 2000, only: str = "", seed: int = 0) -> None:
    """
    Print one row a kind of interval.

    Args:
        repetitions: of each; 2,000 know a coverage to 1 %, 200 to 3 %.
        only: part of the names of the kinds.
        seed: of the data.
    """
    torch.set_num_threads(1)
    print(f"{repetitions} repetitions, seed {seed}\n")
    print("| interval | of | holds the truth | too low | too high |\n| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        if only in kind.name:
            holds, low = coverage(kind, repetitions, seed)
            row = f"{100 * holds:.1f} % | {100 * low:.1f} % | {100 * (1 - holds - low):.1f} %"
            print(f"| {kind.name} | {kind.setting} | {row} |", flush=True)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
