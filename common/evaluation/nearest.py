"""Nearest images of another set by their pixels: band-passed, over all flips and small shifts, at any contrast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from ..metrics.base import centre_crop

FITS = ("crop", "resize")
LONGEST_SIDE = {2: 64, 3: 32}
_FLAT = 1e-4  # standard deviation below which a band-passed image in [-1, 1] shows nothing
_ELEMENTS = 2**22


@dataclass(frozen=True)
class Comparison:
    """
    How images are made comparable.

    Attributes:
        fit: "crop" to ``size`` at the centre, or "resize" as a whole.
        size: sides after cropping, in voxels.
        grid: sides that are compared, in grid points.
        fine: standard deviation of the Gaussian that takes noise away, grid points.
        coarse: of the Gaussian that is subtracted.

    >>> comparison_of([(200, 100), (128, 128)]).grid
    (64, 50)
    """

    fit: str
    size: tuple[int, ...]
    grid: tuple[int, ...]
    fine: float
    coarse: float


@dataclass(frozen=True)
class Matches:
    """
    The nearest reference of each query.

    Attributes:
        index: of the reference, (n,).
        distance: root mean squared difference of the aligned, standardised images, in [0, 2], (n,) float64.
        flip: spatial axes along which the reference is flipped to match, one tuple a query.
        shift: grid points by which it is moved, one tuple a query.
        unmoved_index: of the reference that is nearest without shift; all pairs in all flips are compared, (n,).
        unmoved: its distance, (n,) float64.

    >>> images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    >>> grid = comparable(list(images), comparison_of([(16, 16)]))
    >>> nearest(grid[:1].flip(-1), grid).flip
    [(1,)]
    """

    index: Tensor
    distance: Tensor
    flip: list[tuple[int, ...]]
    shift: list[tuple[int, ...]]
    unmoved_index: Tensor
    unmoved: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Matches]) -> Matches:
        """Those of consecutive queries in one."""
        return cls(
            index=torch.cat([part.index for part in parts]),
            distance=torch.cat([part.distance for part in parts]),
            flip=[flip for part in parts for flip in part.flip],
            shift=[shift for part in parts for shift in part.shift],
            unmoved_index=torch.cat([part.unmoved_index for part in parts]),
            unmoved=torch.cat([part.unmoved for part in parts]),
        )


def flips(spatial_dims: int) -> list[tuple[int, ...]]:
    """All sets of spatial axes, none first: 4 in 2D, 8 in 3D."""
    axes = range(spatial_dims)
    return [axes_ for count in range(spatial_dims + 1) for axes_ in itertools.combinations(axes, count)]


def flipped(images: Tensor, axes: Sequence[int]) -> Tensor:
    """(N, C, *spatial) flipped along the spatial ``axes``."""
    return images.flip([2 + axis for axis in axes]) if len(axes) else images


def comparison_of(
    shapes: Sequence[Sequence[int]], fit: str | None = None, longest_side: int | None = None
) -> Comparison:
    """
    The comparison for images of these sizes.

    Args:
        shapes: sides of all images of all sets, in pixels or voxels.
        fit: "crop" (to the sides that all have in common, at the centre: for voxels of one size in mm) or "resize" (to
            one grid, proportions given up: for pictures without a scale); None for "crop" in 3D and "resize" in 2D.
        longest_side: of the grid; None for 64 in 2D and 32 in 3D. Smaller images are not enlarged.

    Raises:
        ValueError: for another ``fit``, or fewer than 8 points along a side.
    """
    smallest = tuple(min(sides) for sides in zip(*shapes))
    fit = fit or ("crop" if len(smallest) == 3 else "resize")
    if fit not in FITS:
        raise ValueError(f"fit must be one of {FITS}, got {fit!r}.")
    longest = longest_side or LONGEST_SIDE[len(smallest)]
    scale = min(1.0, longest / max(smallest))
    grid = tuple(round(side * scale) for side in smallest)
    if min(grid) < 8:
        raise ValueError(f"Images are compared on a grid of at least 8 points a side, got {grid}.")
    return Comparison(fit, smallest, grid, fine=0.7, coarse=max(2.0, max(grid) / 16))


def comparable(images: Sequence[Tensor], how: Comparison, name: str = "images", first: int = 0) -> Tensor:
    """
    Images on one grid, band-passed, of mean 0 and length 1, so that a product of two is their correlation.

    The means over the cells of the grid and the fine Gaussian take noise and block artefacts away, the coarse one
    brightness, gradients and the anatomy that all patients share: what is left tells one person from another.

    Args:
        images: (C, *spatial) each, in [-1, 1].
        how: grid and band.
        name: of the set, for the message.
        first: number of the first image in the set, likewise.

    Returns:
        (N, C, *grid), float32. An image without structure in this band becomes 0 and is at distance sqrt(2) of all.

    Raises:
        ValueError: for NaN or infinity, and images of different channels; says which image.
    """
    result = torch.empty(len(images), len(images[0]), *how.grid)
    pool: Any = F.adaptive_avg_pool2d if len(how.grid) == 2 else F.adaptive_avg_pool3d
    for index in range(len(images)):
        image = torch.as_tensor(images[index]).detach().cpu().float()
        if len(image) != result.shape[1] or not bool(torch.isfinite(image).all()):
            wrong = "holds NaN or infinity" if len(image) == result.shape[1] else f"has {len(image)} channels"
            raise ValueError(
                f"Image {first + index} of the set {name} {wrong}; {result.shape[1]} finite channels expected."
            )
        result[index] = pool((centre_crop(image, how.size) if how.fit == "crop" else image)[None], how.grid)[0]
    for part in result.split(256):
        axes = range(2, part.ndim)
        fine, coarse = (gaussian_filter(part.numpy(), s, mode="nearest", axes=axes) for s in (how.fine, how.coarse))
        part.copy_(_standardised(torch.from_numpy(fine - coarse), part.ndim - 1, _FLAT * math.sqrt(part[0].numel())))
    return result


def nearest(
    queries: Tensor,
    references: Tensor,
    features: tuple[Tensor, Tensor] | None = None,
    shift: int = 1,
    candidates: int = 5,
) -> Matches:
    """
    The nearest reference of each query: candidates in feature space and on the grid, then aligned pixels.

    Candidates are the nearest in feature space, and those of highest correlation in any flip; the latter compares all
    with all, so that no copy is lost by features that change under a flip. Each candidate is then moved by up to
    ``shift`` points along each axis, and the least distance counts.

    Args:
        queries: (n, C, *grid) of ``comparable``.
        references: (m, C, *grid).
        features: of the queries, (n, d) or (flips, n, d) in the order of ``flips``, and of the references, (m, d).
        shift: largest shift in grid points.
        candidates: of each kind.
    """
    kinds = flips(queries.ndim - 2)
    count = min(candidates, len(references))
    chosen, kind, unmoved = [], [], []
    for rows, correlation in _correlations(queries, references, kinds):
        best, best_kind = correlation.max(0)
        highest, indices = best.topk(count, dim=1)
        unmoved.append(torch.stack([indices[:, 0].double(), highest[:, 0].double()]))
        kind_of = best_kind.gather(1, indices)
        if features is not None:
            near, near_kind = _feature_candidates(features[0], features[1], rows, count)
            # Their flip is the one of highest correlation, and the one in which the features agree.
            indices, kind_of = (
                torch.cat([indices, near, near], 1),
                torch.cat([kind_of, best_kind.gather(1, near), near_kind], 1),
            )
        chosen.append(indices)
        kind.append(kind_of)
    index, highest = torch.cat(unmoved, dim=1)
    nearest_of, distance, flip, moved = _aligned(queries, references, torch.cat(chosen), torch.cat(kind), shift)
    return Matches(nearest_of, distance, flip, moved, index.long(), _distance(highest))


def nearest_features(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Least distance of each query, (n, d), or (flips, n, d) in any flip, to the references, (m, d), and its place."""
    step = max(1, _ELEMENTS // len(references))
    starts = range(0, queries.shape[-2], step)
    parts = [_feature_distances(queries[..., i : i + step, :], references).amin(0).min(1) for i in starts]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _correlations(
    queries: Tensor, references: Tensor, kinds: Sequence[Sequence[int]]
) -> Iterator[tuple[slice, Tensor]]:
    """Correlation of some flipped queries with all references at a time, (flips, rows, m)."""
    flat = references.flatten(1).T
    step = max(1, _ELEMENTS // (len(references) * len(kinds)))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        yield rows, torch.stack([flipped(queries[rows], axes).flatten(1) @ flat for axes in kinds])


def _feature_candidates(queries: Tensor, references: Tensor, rows: slice, count: int) -> tuple[Tensor, Tensor]:
    """Nearest references in feature space and the flip of the query in which they are, (rows, count) each."""
    distance, kind = _feature_distances(queries[..., rows, :], references).min(0)
    near = distance.topk(count, dim=1, largest=False).indices
    return near, kind.gather(1, near)


def _feature_distances(queries: Tensor, references: Tensor) -> Tensor:
    """Of (n, d) or (flips, n, d) to (m, d): (flips, n, m)."""
    own, centre = (queries if queries.ndim == 3 else queries[None]), references.double().mean(0)
    return torch.stack([torch.cdist(f.double() - centre, references.double() - centre) for f in own])


def _aligned(queries: Tensor, references: Tensor, chosen: Tensor, kind: Tensor, shift: int) -> tuple[Any, ...]:
    """The best of the ``chosen`` references, (n, k), in their flips ``kind``, (n, k), over all shifts."""
    kinds = flips(queries.ndim - 2)
    offsets = list(itertools.product(range(2 * shift + 1), repeat=queries.ndim - 2))
    step = max(1, _ELEMENTS // (chosen.shape[1] * queries[0].numel()))
    places, correlations = [], []
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        moved = references[chosen[rows]]
        for number, axes in enumerate(kinds):
            here = kind[rows] == number
            moved[here] = flipped(moved[here], axes)
        inside = _window(queries[rows], [shift] * len(offsets[0]), shift)
        flat = _standardised(inside, inside.ndim - 1, 1e-3).flatten(1)[:, :, None]
        r = torch.stack([_correlation(flat, _window(moved, offset, shift)) for offset in offsets], dim=2)
        best = r.flatten(1).max(1)
        correlations.append(best.values)
        places.append(best.indices)
    place = torch.cat(places)
    rank, at = place // len(offsets), (place % len(offsets)).tolist()
    return (
        chosen.gather(1, rank[:, None])[:, 0],
        _distance(torch.cat(correlations)),
        [kinds[k] for k in kind.gather(1, rank[:, None])[:, 0].tolist()],
        [tuple(shift - offset for offset in offsets[i]) for i in at],
    )


def _distance(correlation: Tensor) -> Tensor:
    """Root mean squared difference of two images of mean 0 and standard deviation 1."""
    return (2 - 2 * correlation.double()).clamp(min=0).sqrt()


def _window(images: Tensor, offset: Sequence[int], shift: int) -> Tensor:
    """The part at ``offset`` of (..., *grid) that is smaller by ``shift`` at both ends of each axis."""
    sides = images.shape[-len(offset) :]
    place: Any = (..., *(slice(start, start + side - 2 * shift) for start, side in zip(offset, sides)))
    return images[place]


def _correlation(flat: Tensor, windows: Tensor) -> Tensor:
    """Of queries of mean 0 and length 1, (b, p, 1), with their windows, (b, k, C, *inside): (b, k)."""
    other = windows.flatten(2)
    length = (other.square().sum(2) - other.shape[2] * other.mean(2) ** 2).clamp(min=0).sqrt()
    return torch.where(length < 1e-3, 0.0, (other @ flat)[..., 0] / length.clamp(min=1e-3))


def _standardised(images: Tensor, axes: int, least: float) -> Tensor:
    """Mean 0 and length 1 over the last ``axes`` axes; 0 where the length is below ``least``."""
    over = tuple(range(-axes, 0))
    centred = images - images.mean(over, keepdim=True)
    length = centred.square().sum(over, keepdim=True).sqrt()
    return torch.where(length < least, 0.0, centred / length.clamp(min=least))
