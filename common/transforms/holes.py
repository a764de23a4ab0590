"""Random holes for inpainting: boxes and free-form strokes."""

from __future__ import annotations

import numpy as np
from skimage.draw import disk

KINDS = ("boxes", "strokes")


def random_hole(size: tuple[int, int], area: float, kind: str, random: np.random.RandomState) -> np.ndarray:
    """
    A hole of about ``area`` of the image, never empty and never all of it.

    Args:
        size: (H, W) in pixels, at least 4 each.
        area: share of the image, in (0, 1).
        kind: "boxes" (one to four rectangles) or "strokes" (walks of a round brush).
        random: source of the draws.

    Returns:
        (H, W) bool, True inside.

    Raises:
        ValueError: for another kind, a share outside (0, 1), a side below 4.

    Source: Med-cDiff, section 4.1 (random masks; it gives no shapes). Strokes as free-form masks, Yu et al. 2019.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}.")
    if not 0 < area < 1 or min(size) < 4:
        raise ValueError(f"A share in (0, 1) and sides of at least 4 were expected, got {area} and {size}.")
    hole = np.zeros(size, dtype=bool)
    wanted = max(1, round(area * hole.size))
    add = _add_box if kind == "boxes" else _add_stroke
    parts = random.randint(1, 5)
    # Parts overlap, so there may be more of them; the last is cut where the share is reached.
    for _ in range(1000):
        missing = wanted - int(hole.sum())
        if missing <= 0.02 * wanted:
            break
        before = hole.copy()
        add(hole, min(missing, -(-wanted // parts)), random)
        if hole.sum() > 1.2 * wanted or hole.all():
            hole = before
    if not hole.any():
        hole[size[0] // 2, size[1] // 2] = True
    return hole


def _add_box(hole: np.ndarray, pixels: int, random: np.random.RandomState) -> None:
    height, width = hole.shape
    ratio = np.exp(random.uniform(-0.7, 0.7))
    rows = int(np.clip(round(np.sqrt(pixels * ratio)), 1, height - 1))
    columns = int(np.clip(round(pixels / rows), 1, width - 1))
    top, left = random.randint(height - rows + 1), random.randint(width - columns + 1)
    hole[top : top + rows, left : left + columns] = True


def _add_stroke(hole: np.ndarray, pixels: int, random: np.random.RandomState) -> None:
    height, width = hole.shape
    radius = max(1.0, random.uniform(0.02, 0.06) * min(hole.shape))
    position = np.array([random.uniform(0, height), random.uniform(0, width)])
    angle = random.uniform(0, 2 * np.pi)
    target = int(hole.sum()) + pixels
    for _ in range(4 * (height + width)):
        hole[disk(tuple(position), radius, shape=hole.shape)] = True
        if hole.sum() >= target:
            break
        angle += random.normal(0, 0.3)
        position = position + radius * np.array([np.sin(angle), np.cos(angle)])
        if not (0 <= position[0] < height and 0 <= position[1] < width):
            position = np.clip(position, 0, [height - 1, width - 1])
            angle += np.pi / 2 + random.uniform(0, np.pi)
