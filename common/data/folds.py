"""Folds of a cross-validation and shares of a given size, the same on every machine: groups stay whole."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from .lists import Case
from .splits import by_key


def stratified_folds(cases: Sequence[Case], folds: int = 5, seed: int = 0) -> list[tuple[list[Case], list[Case]]]:
    """
    Training and validation cases of each fold; every case is validated on once.

    Args:
        cases: each with a "class" and a "group"; a group that lies in several classes is dealt with the class that most
            of its images have.
        folds: number of folds, at least 2.
        seed: of the shuffle of the groups.

    Returns:
        ``(training, validation)`` a fold, each in the order of ``cases``.

    Raises:
        ValueError: for fewer than two folds, or a class with fewer groups than folds.
    """
    if folds < 2:
        raise ValueError(f"At least 2 folds were expected, got {folds}.")
    members = by_key(cases, "group")
    by_class: dict[str, list[str]] = {case["class"]: [] for case in cases}
    for group in sorted(members):
        counts = Counter(case["class"] for case in members[group])
        by_class[min(counts, key=lambda name: (-counts[name], name))].append(group)
    small = {name: len(groups) for name, groups in sorted(by_class.items()) if len(groups) < folds}
    if small:
        raise ValueError(f"Each class needs at least {folds} images (or groups of images) for {folds} folds: {small}.")
    fold_of: dict[str, int] = {}
    for start, name in enumerate(sorted(by_class)):
        groups = by_class[name]
        random.Random(f"{seed} {name}").shuffle(groups)
        # Largest groups first, each to the fold that has the fewest images of the class.
        sizes = [0] * folds
        for group in sorted(groups, key=lambda g: -len(members[g])):
            chosen = min(range(folds), key=lambda k: (sizes[k], (k - start) % folds))
            fold_of[group] = chosen
            sizes[chosen] += len(members[group])
    return [
        ([c for c in cases if fold_of[c["group"]] != k], [c for c in cases if fold_of[c["group"]] == k])
        for k in range(folds)
    ]


def shares_of_size(cases: Sequence[Case], counts: Sequence[int], seed: int = 0) -> list[list[Case]]:
    """
    Shares of so many cases each, of whole groups; an earlier share does not depend on the size of a later one.

    Args:
        cases: each with a "group".
        counts: cases of each share; what is left belongs to none.
        seed: of the order in which groups are taken. One that is larger than what is missing is passed over.

    Raises:
        ValueError: when the groups do not fill a share to the case.

    Example:
        >>> cases = [{"image": f"{i}.nii", "group": str(i // 2)} for i in range(12)]
        >>> [len(share) for share in shares_of_size(cases, [4, 6])]
        [4, 6]
    """
    members = by_key(cases, "group")
    waiting = sorted(members)
    random.Random(seed).shuffle(waiting)
    shares = []
    for count in counts:
        chosen, missing = set(), count
        for group in waiting:
            if len(members[group]) <= missing:
                chosen.add(group)
                missing -= len(members[group])
        if missing:
            raise ValueError(
                f"Shares of {list(counts)} cases cannot be filled with whole groups: there are {len(cases)} cases of "
                f"{len(members)} groups, and {missing} cases are missing in a share of {count}."
            )
        waiting = [group for group in waiting if group not in chosen]
        shares.append([case for case in cases if case["group"] in chosen])
    return shares
