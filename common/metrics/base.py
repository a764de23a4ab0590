"""The base of all metrics, called batch by batch and then asked for a value and a report; checks of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from ..utils.images import plain_images
from .groups import named_groups, shared_groups

if TYPE_CHECKING:
    from ..features.features import FeatureNetwork

SIDES = ("generated", "real")
Names = list[str | None]


class Metric(CumulativeIterationMetric):
    """
    Base of all metrics, in MONAI's cycle: called with every batch, then ``aggregate``, ``report`` and ``reset``.

    A call takes generated and real images, (N, C, *spatial) each, or lists of N; a class says where it takes something
    else. The buffer has one row a case, so that MONAI's handlers and savers can read it.

    Attributes:
        label: name in the results, with the feature network where there is one.
    """

    name = "metric"

    @property
    def label(self) -> str:
        """The name of the metric."""
        return self.name

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns one number, a float64 scalar; raises ValueError when nothing has been seen."""
        raise NotImplementedError(f"{type(self).__name__} must implement aggregate.")

    def report(self) -> dict[str, Any]:
        """What stands beside the value in ``metrics.json``."""
        return {}


class CaseMetric(Metric):
    """
    Base of metrics with a value a case: ``per_case``, of which ``aggregate`` is the mean.

    A subclass implements ``_values(y_pred, y)``, which returns (N,), or (N, k) with a column a label; NaN where a case
    has no value.

    >>> class Largest(CaseMetric):
    ...     def _values(self, y_pred, y):
    ...         return y_pred.flatten(1).amax(1)
    >>> metric = Largest()
    >>> _ = metric(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1))
    >>> float(metric.aggregate())
    2.0
    """

    def _values(self, y_pred: Tensor, y: Tensor | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must implement _values.")

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        return self._values(y_pred, y).double().reshape(len(y_pred), -1)

    def rows(self) -> Tensor:
        """The buffer of all processes, (n, k), float64; raises ValueError when nothing has been seen."""
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError(f"{self.label}: no images seen.")
        return buffer

    def per_case(self) -> Tensor:
        """One value a case of all processes, (n,), float64; NaN where a case has none."""
        return self.rows().nanmean(1)

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over the cases that have a value."""
        return self.per_case().nanmean()


class SetMetric(Metric):
    """
    Base of metrics of two whole sets, which are kept on the CPU until the end: images, or the features of a network.

    A subclass implements ``_evaluate(generated, real)``, two lists of tensors -> report with an entry "value". Images
    may differ in size. No value belongs to a single case, so the buffer holds NaN.

    Args:
        features: network whose features, (d,) an image, are kept instead of the images; None for the images.
        max_images: kept of each set and process, the first ones; of features all are kept.

    >>> class Difference(SetMetric):
    ...     def _evaluate(self, generated, real):
    ...         return {"value": float(torch.stack(generated).mean() - torch.stack(real).mean())}
    >>> metric = Difference()
    >>> _ = metric(torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))
    >>> metric.report()
    {'value': 1.0}
    """

    def __init__(self, features: FeatureNetwork | None = None, max_images: int = 256) -> None:
        self.features = features
        self.max_images = max_images
        super().__init__()

    @property
    def label(self) -> str:
        """Such as ``kid[cxr_v1]``."""
        return f"{self.name}[{self.features.label}]" if self.features else self.name

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._kept: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._noted: tuple[Names, Names] = ([], [])
        self._groups: tuple[Names, Names] = ([], [])
        self._result: dict[str, Any] | None = None

    def note_groups(self, generated: Iterable[str | None], real: Iterable[str | None] | None = None) -> None:
        """
        Say what the images of the next call belong to, such as their subjects: intervals then draw whole groups.

        Args:
            generated: group of each generated image; None for one that stands for itself.
            real: of each real image; None where they are those of the generated images, case by case.
        """
        generated = list(generated)
        self._noted = (generated, list(generated if real is None else real))

    def take_groups(self, side: int, images: int) -> list[str | None]:
        """Groups of the next ``images`` of a side of ``SIDES``; None for each of which nothing was said."""
        noted = self._noted[side]
        names = noted[:images]
        del noted[:images]
        return [*names, *[None] * (images - len(names))]

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None and self.features is not None:
            raise ValueError(f"{self.label} needs generated and real images.")
        self.keep(y_pred, y)
        return torch.full((len(y_pred), 1), torch.nan, dtype=torch.float64)

    def keep(self, generated: Tensor | None = None, real: Tensor | None = None) -> None:
        """Take in images of either set, or of both in any numbers, (N, C, *spatial) each."""
        self._result = None
        for side, images in enumerate((generated, real)):
            if images is None:
                continue
            kept, before = self._kept[side], len(self._kept[side])
            if self.features is not None:
                kept.extend(self.features(images).detach().cpu().float())
            else:
                room = self.max_images - len(kept)
                kept.extend(image.cpu().float().clone() for image in plain_images(images)[:room])
            self._groups[side].extend(self.take_groups(side, len(images))[: len(kept) - before])

    def sets(self) -> tuple[list[Tensor], list[Tensor]]:
        """Generated and real, what was kept of all processes; raises ValueError when that is nothing."""
        parts = gathered(self._kept)
        generated, real = ([item for part in parts for item in part[side]] for side in (0, 1))
        if not generated and not real:
            raise ValueError(f"{self.label}: no images seen.")
        return generated, real

    def groups_of_sets(self, orders: Sequence[Iterable[int]] | None = None) -> tuple[list[str], list[str]] | None:
        """Group of each image of ``sets``, or of these images of both; None where each image stands for itself."""
        parts = gathered(self._groups)
        generated, real = (
            named_groups([name for part in parts for name in part[side]], SIDES[side]) for side in (0, 1)
        )
        if shared_groups(generated) is None and shared_groups(real) is None:
            return None
        if orders is None:
            return generated, real
        return [generated[i] for i in orders[0]], [real[i] for i in orders[1]]

    def report(self) -> dict[str, Any]:
        """Value and what it takes to judge it; computed once for what has been seen."""
        if self._result is None:
            self._result = self._evaluate(*self.sets())
        return self._result

    def _evaluate(self, generated: list[Tensor], real: list[Tensor]) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement _evaluate.")

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the value of the report, a float64 scalar."""
        return torch.tensor(self.report()["value"], dtype=torch.float64)


class FeatureSetMetric(SetMetric):
    """
    Base of metrics of two sets of features.

    A subclass implements ``_measure(real, generated)``, tensors (n, d) and (m, d) -> report.

    Args:
        features: the network and its preprocessing; its name stands in the result.
    """

    def __init__(self, features: FeatureNetwork) -> None:
        super().__init__(features)

    def _evaluate(self, generated: list[Tensor], real: list[Tensor]) -> dict[str, Any]:
        x, y = torch.stack(real), torch.stack(generated)
        return {**self._measure(x, y), **self._facts(len(y), len(x), x.shape[1])}

    def _facts(self, generated: int, real: int, size: int) -> dict[str, Any]:
        network = self.features.describe() if self.features else None
        return {"n": {"generated": generated, "real": real}, "feature_size": size, "network": network}

    def _measure(self, real: Tensor, generated: Tensor) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement _measure.")


def gathered(own: Any) -> list[Any]:
    """``own`` of all processes, in their order; it is pickled where there are several."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, own)
    return everyone


def side_of(of: str) -> str:
    """``of``, or ValueError where it is not one of the two sets."""
    if of not in SIDES:
        raise ValueError(f"of must be 'generated' or 'real', got {of!r}.")
    return of


def same_shape(y_pred: Tensor, y: Tensor | None) -> Tensor:
    """``y``, or ValueError when it is missing or not of the shape of ``y_pred``."""
    if y is None or y.shape != y_pred.shape:
        shape = None if y is None else tuple(y.shape)
        raise ValueError(f"Generated and real image must have one shape, got {tuple(y_pred.shape)} and {shape}.")
    return y


def inside_mask(mask: Tensor, images: Tensor) -> Tensor:
    """Where a mask, (N, 1 or C, *spatial), is positive, (N, C, *spatial); raises ValueError for one of another size."""
    if mask.shape[2:] != images.shape[2:] or len(mask) != len(images) or mask.shape[1] not in (1, images.shape[1]):
        raise ValueError(f"mask {tuple(mask.shape)} does not fit images {tuple(images.shape)}.")
    return (plain_images(mask, "mask") > 0).expand_as(images)


def check_range(data_range: float, *images: Tensor) -> None:
    """Refuse images that together span more than ``data_range``, by a ValueError that names the range found."""
    if data_range <= 0:
        raise ValueError(f"data_range must be positive, got {data_range}.")
    low, high = _extremes(images)
    if high - low > data_range * (1 + 1e-5):
        raise ValueError(f"Values span [{low:g}, {high:g}], more than the declared data_range of {data_range:g}.")


def check_values(value_range: Sequence[float], *images: Tensor) -> None:
    """Refuse images with values outside ``value_range``, (smallest, largest), by a ValueError that names them."""
    low, high = value_range
    slack = 1e-5 * (high - low)
    found = _extremes(images)
    if found[0] < low - slack or found[1] > high + slack:
        raise ValueError(f"Values lie in [{found[0]:g}, {found[1]:g}], declared was [{low:g}, {high:g}].")


def _extremes(images: Iterable[Tensor]) -> tuple[float, float]:
    ends = [(float(image.min()), float(image.max())) for image in images]
    return min(low for low, _ in ends), max(high for _, high in ends)


def checked_sets(real: Tensor, generated: Tensor, least_real: int = 2, least_generated: int = 2) -> list[Tensor]:
    """
    Two sets of vectors, (n, d) and (m, d), as float64 on the CPU.

    Raises:
        ValueError: for n or m below the least, other shapes, NaN or infinity.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        shapes = f"{tuple(real.shape)} and {tuple(generated.shape)}"
        raise ValueError(f"Two sets of vectors of one length were expected, got {shapes}.")
    if len(real) < least_real or len(generated) < least_generated:
        raise ValueError(
            f"At least {least_real} real and {least_generated} generated images are needed, "
            f"got {len(real)} and {len(generated)}."
        )
    if not bool(torch.isfinite(real).all() and torch.isfinite(generated).all()):
        raise ValueError("Features hold NaN or infinity.")
    return [real.detach().cpu().double(), generated.detach().cpu().double()]


def order_of_mean(images: Sequence[Tensor]) -> list[int]:
    """Places of ``images`` by their mean, so that a seeded draw does not hang on the number of processes."""
    return sorted(range(len(images)), key=lambda i: float(images[i].double().mean()))


def common_size(images: Sequence[Tensor]) -> tuple[int, ...]:
    """Smallest side of (C, *spatial) ``images``, a dimension; raises ValueError for mixed channels or dimensions."""
    kinds = sorted({(image.shape[0], image.ndim - 1) for image in images})
    if len(kinds) > 1:
        found = ", ".join(f"{channels} in {dims}D" for channels, dims in kinds)
        raise ValueError(f"Images of one number of channels and dimensions were expected, got channels: {found}.")
    return tuple(min(sides) for sides in zip(*(image.shape[1:] for image in images)))


def centre_crop(image: Tensor, size: Sequence[int]) -> Tensor:
    """The central ``size`` of a (C, *spatial) image; the odd voxel is left off at the end."""
    starts = [(side - target) // 2 for side, target in zip(image.shape[1:], size)]
    return image[(slice(None), *(slice(start, start + target) for start, target in zip(starts, size)))]
