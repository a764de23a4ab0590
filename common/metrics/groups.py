"""Groups of cases, such as the subjects whom several images are of: whole groups are drawn, and left out, together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def shared_groups(names: Sequence[str | None]) -> list[str] | None:
    """
    The groups of cases where several share one; None where each case stands for itself, or a group is not known.

    Example:
        >>> shared_groups(["a", "a", "b"]), shared_groups(["a", "b"]), shared_groups(["a", "a", None])
        (['a', 'a', 'b'], None, None)
    """
    known = [name for name in names if name is not None]
    return known if len(set(known)) < len(known) == len(names) else None


def named_groups(names: Sequence[str | None], side: str) -> list[str]:
    """
    The groups of cases, with a name of its own for each case of none.

    Example:
        >>> named_groups(["a", None], "real")
        ['a', 'real image 1']
    """
    return [f"{side} image {index}" if name is None else name for index, name in enumerate(names)]


def groups_in_both(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """
    Groups that have cases in both of two sets, sorted.

    Example:
        >>> groups_in_both(["a", "b"], ["b", "c"])
        ['b']
    """
    return sorted(set(first) & set(second))


def group_numbers(
    sizes: Sequence[int], groups: Sequence[Sequence[Hashable]] | None = None, paired: bool = False
) -> list[np.ndarray]:
    """
    Number of the group of each case of several sets, in one numbering from 0.

    Args:
        sizes: cases of each set.
        groups: name of what each case of each set belongs to; None where it stands for itself.
        paired: without groups: whether case i of one set is case i of the others too.

    Example:
        >>> [own.tolist() for own in group_numbers([3, 1], [["b", "a", "b"], ["c"]])]
        [[1, 0, 1], [2]]
        >>> [own.tolist() for own in group_numbers([2, 2])]
        [[0, 1], [2, 3]]
    """
    ends = np.cumsum(sizes)
    if groups is None:
        return [np.arange(size) + (0 if paired else end - size) for size, end in zip(sizes, ends)]
    return np.split(np.unique([str(name) for own in groups for name in own], return_inverse=True)[1], ends[:-1])


def drawn_together(members: Sequence[np.ndarray]) -> list[np.ndarray]:
    """
    The groups that a bootstrap draws from: all of them at once where sets have groups in common, else those of each.

    Args:
        members: numbers of the groups of the cases of each set, as ``group_numbers`` gives them.

    Example:
        >>> [own.tolist() for own in drawn_together([np.array([0, 0, 1]), np.array([1, 2])])]
        [[0, 1, 2]]
        >>> [own.tolist() for own in drawn_together([np.array([0, 0, 1]), np.array([2, 3])])]
        [[0, 1], [2, 3]]
    """
    own = [np.unique(member) for member in members]
    union = np.unique(np.concatenate(own))
    return own if len(union) == sum(map(len, own)) else [union]
