"""The range of a patient's images, by which all of them are scaled alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.utils import convert_to_tensor


def with_ranges(
    cases: Sequence[Mapping[str, Any]],
    load: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    wanted: bool = True,
    key: str = "image",
    result_key: str = "range",
) -> list[dict[str, Any]]:
    """
    Cases with the smallest and the largest value of all images of their group: a patient, or a volume and its slices.

    Every image is read once more for it, before anything else is done.

    Args:
        cases: with "case" and, where several images belong together, "group".
        load: reads the image of a case.
        wanted: False gives the cases back as they are.
        key: of the image.
        result_key: for the two numbers.

    Returns:
        New cases, in their order.

    Raises:
        What ``load`` raises for a file that cannot be read.

    Source: Med-cDiff, section 4 ("normalized to the range [-1, 1] in a patient-wise manner").

    >>> import torch
    >>> slices = [{"case": str(k), "group": "a", "image": torch.tensor([k, k + 1.0])} for k in range(2)]
    >>> [case["range"] for case in with_ranges(slices, dict)]
    [(0.0, 2.0), (0.0, 2.0)]
    """
    if not wanted:
        return [dict(case) for case in cases]
    found: dict[str, tuple[float, float]] = {}
    groups = [str(case.get("group", case["case"])) for case in cases]
    for case, group in zip(cases, groups):
        image = convert_to_tensor(load(case)[key])
        low, high = found.get(group, (float("inf"), float("-inf")))
        found[group] = min(low, float(image.min())), max(high, float(image.max()))
    return [{**case, result_key: found[group]} for case, group in zip(cases, groups)]
