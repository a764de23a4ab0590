"""Which files are of one subject, told by their names."""

from __future__ import annotations

import re
from collections.abc import Callable


def _decathlon_hippocampus(name: str) -> object:
    """Left and right hippocampus of a subject have successive numbers; a file of another name stands for itself."""
    number = re.fullmatch("hippocampus_([0-9]+)", name)
    return (int(number[1]) + 1) // 2 if number else name


SUBJECTS: dict[str, Callable[[str], object]] = {
    "file": lambda name: name,
    "decathlon_hippocampus": _decathlon_hippocampus,
}
"""Rules that say which subject a file belongs to, by name."""


def subject_rule(rule: str | Callable[[str], object]) -> Callable[[str], object]:
    """
    The function that gives the subject of a file name without its ending.

    Args:
        rule: a name in ``SUBJECTS``, a regular expression whose first group is the subject, or the function itself.

    Raises:
        ValueError: for an expression without a group, or (when called) a name that it does not match.

    Example:
        >>> subject_rule("(sub-[0-9]+)")("sub-07_run-2"), subject_rule("decathlon_hippocampus")("hippocampus_004")
        ('sub-07', 2)
    """
    if callable(rule):
        return rule
    if rule in SUBJECTS:
        return SUBJECTS[rule]
    known = f"one of {sorted(SUBJECTS)}, or a regular expression with a group, such as '(sub-[0-9]+)'"
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ValueError(
            f"subject_of is {rule!r}, which is no regular expression ({error}); {known} was expected."
        ) from error
    if not pattern.groups:
        raise ValueError(f"subject_of is {rule!r}; {known} was expected.")

    def subject(name: str) -> str:
        found = pattern.search(name)
        if found is None:
            raise ValueError(f"subject_of, {rule!r}, does not match the file name {name!r}.")
        return found[1]

    return subject
