"""Datasets that name all cases that cannot be read before anything starts, and batches of cases of different sizes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.data import CacheDataset, Dataset
from monai.data.utils import list_data_collate
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.utils.data import Sampler

from ..utils import message_of

_KEPT_BYTES = 2**30  # of transformed tensors, from the check until they are asked for; others are read again


class InputsSkipped(RuntimeError):
    """The end of a run that left inputs out, and of its process with a status of its own."""

    exit_status = 3


class CheckedDataset(Dataset):
    """
    A dataset that can transform all of its cases before a run, and keeps what fits, so that each file is read once.

    Args:
        data: the cases.
        transform: the preprocessing, deterministic.

    Attributes:
        skipped: reason of each file that ``check`` left out.
        listed_in: file that lists them, for the message of ``finish``.
        largest: file of the case with the most voxels.
        sizes: shapes of the images of each case, once they are checked.

    Example:
        >>> dataset = CheckedDataset([{"image": 1}, {"image": -1}], lambda case: 1 / max(0, case["image"]))
        >>> dataset.check()
        Traceback (most recent call last):
        ValueError: 1 of 2 inputs cannot be used:
          ZeroDivisionError: division by zero
    """

    def __init__(self, data: Sequence[Any], transform: Callable[[Any], Any]) -> None:
        super().__init__(data, transform)
        self.skipped: dict[str, str] = {}
        self.largest = ""
        self.sizes: list[tuple[tuple[int, ...], ...]] = []
        self.listed_in = "skipped"
        self._kept: dict[int, Any] = {}

    def check(self, skip_bad: bool = False) -> list[tuple[int, ...]]:
        """
        Transform every case, and report all that fail at once.

        Args:
            skip_bad: take cases that fail out of ``data`` instead, and note them in ``skipped``, file by reason.

        Returns:
            The shape of each transformed image, (C, *spatial).

        Raises:
            ValueError: names every file that cannot be used, and why.
        """
        problems: dict[int, str] = {}
        shapes: list[tuple[int, ...]] = []
        room, most = _KEPT_BYTES, 0
        self.sizes = [()] * len(self.data)
        for index, case in enumerate(self.data):
            try:
                transformed = super()._transform(index)
            except Exception as error:
                problems[index] = problem_of(case, error)
                continue
            if not isinstance(transformed, Mapping):
                continue
            images = [transformed[key] for key in case if isinstance(transformed.get(key), Tensor)]
            self.sizes[index] = tuple(tuple(image.shape) for image in images)
            shapes.extend(self.sizes[index])
            voxels = max((math.prod(shape) for shape in self.sizes[index]), default=0)
            if voxels > most:
                most, self.largest = voxels, next(iter(_files(case)), str(index))
            room -= sum(v.numel() * v.element_size() for v in transformed.values() if isinstance(v, Tensor))
            if room >= 0:
                self._kept[index] = transformed
        if problems and not skip_bad:
            raise unusable(problems, len(self.data))
        if problems:
            self._leave_out(problems)
        return shapes

    def finish(self) -> None:
        """
        The end of a run.

        Raises:
            InputsSkipped: when cases were left out; outputs of all others are complete then.
        """
        if self.skipped:
            count = f"{len(self.skipped)} of {len(self.skipped) + len(self.data)}"
            raise InputsSkipped(f"{count} inputs were left out, all others are done; see {self.listed_in}.")

    def _leave_out(self, problems: Mapping[int, str]) -> None:
        for index, problem in problems.items():
            file = next(iter(_files(self.data[index])), str(index))
            self.skipped[file] = problem.removeprefix(f"{file}: ")
        good = [index for index in range(len(self.data)) if index not in problems]
        self._kept = {new: self._kept[old] for new, old in enumerate(good) if old in self._kept}
        self.data = [self.data[index] for index in good]
        self.sizes = [self.sizes[index] for index in good]

    def _transform(self, index: int) -> Any:
        return self._kept.pop(index) if index in self._kept else super()._transform(index)


class EqualBatches(Sampler[list[int]]):
    """
    Batches of cases of one size, as a data loader's ``batch_sampler``, in the order of their first cases.

    Args:
        dataset: its ``sizes`` are looked at when the batches are asked for; unchecked cases count as equal.
        batch_size: cases of a batch at most.

    Raises:
        ValueError: for a batch of none.

    Example:
        >>> from torch import zeros
        >>> dataset = CheckedDataset([{"n": 4}, {"n": 8}, {"n": 4}], lambda case: {"n": zeros(1, case["n"])})
        >>> _ = dataset.check()
        >>> list(EqualBatches(dataset, 2))
        [[0, 2], [1]]
    """

    def __init__(self, dataset: CheckedDataset, batch_size: int = 1) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number above 0, got {batch_size!r}.")
        self.dataset, self.batch_size = dataset, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())

    def __len__(self) -> int:
        return len(self._batches())

    def _batches(self) -> list[list[int]]:
        sizes = getattr(self.dataset, "sizes", None) or [()] * len(self.dataset)
        alike: dict[Any, list[int]] = {}
        for index, size in enumerate(sizes):
            alike.setdefault(size, []).append(index)
        n = self.batch_size
        return sorted(indices[i : i + n] for indices in alike.values() for i in range(0, len(indices), n))


class CheckedCacheDataset(CacheDataset):
    """
    MONAI's ``CacheDataset``, which names all cases that it cannot read when it is made, not the first alone; those that
    are not cached are named when they are asked for.

    Args:
        args, kwargs: of ``CacheDataset``.

    Raises:
        ValueError: names every case that cannot be used, and why.

    Example:
        >>> from monai.transforms import Lambdad
        >>> CheckedCacheDataset([{"image": 1}, {"image": 0}], Lambdad("image", lambda x: 1 / x), progress=False)
        Traceback (most recent call last):
        ValueError: 1 of 2 inputs cannot be used:
          ZeroDivisionError: division by zero
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._problems: dict[int, str] = {}
        super().__init__(*args, **kwargs)

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        cache = super()._fill_cache(indices)
        if self._problems:
            raise unusable(self._problems, len(self.data))
        return cache

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            self._problems[idx] = problem_of(self.data[idx], error)
            return None

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            raise ValueError(problem_of(self.data[index], error)) from error


class CropToCommonSize:
    """
    Collate cases of different sizes by cropping all to one size, at random places.

    MONAI's ``pad_list_data_collate`` makes the sizes equal by padding, and what is padded is learned and generated
    too (black frames). Here every voxel of a batch is a voxel of an image.

    Args:
        keys: the spatial tensors of a case, (C, *spatial), cropped alike.
        divisor: every side of the batch is a multiple of it.

    Raises:
        ValueError: when a case is smaller than ``divisor``; the message names it.
    """

    def __init__(self, keys: Sequence[str], divisor: int = 1) -> None:
        self.keys = tuple(keys)
        self.divisor = divisor

    def __call__(self, batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns the collated batch, (N, C, *common size) under each of ``keys``."""
        shapes = [tuple(case[self.keys[0]].shape[1:]) for case in batch]
        size = [min(sides) // self.divisor * self.divisor for sides in zip(*shapes)]
        if not all(size):
            raise ValueError(f"Every side must be at least {self.divisor} voxels, got volumes of {shapes}.")
        return list_data_collate([self._crop(case, size) for case in batch])

    def _crop(self, case: dict[str, Any], size: Sequence[int]) -> dict[str, Any]:
        shape = case[self.keys[0]].shape[1:]
        starts = [int(torch.randint(side - target + 1, ())) for side, target in zip(shape, size)]
        window = (slice(None), *(slice(start, start + target) for start, target in zip(starts, size)))
        cropped = {key: case[key][window] for key in self.keys}
        return {**case, **{key: convert_to_tensor(v) for key, v in cropped.items()}}


def _files(case: Any) -> list[str]:
    """The paths in a case, whose other texts are names and groups."""
    values = case.values() if isinstance(case, Mapping) else [case]
    return [value for value in values if isinstance(value, str) and (os.sep in value or os.path.isfile(value))]


def problem_of(case: Any, error: Exception) -> str:
    """Why a case cannot be used, beginning with its files where the error does not know them."""
    message, files = message_of(error), _files(case)
    return message if any(file in message for file in files) else ": ".join([*files[:1], message])


def unusable(problems: Mapping[int, str], total: int) -> ValueError:
    """The error that names all of ``total`` inputs that cannot be used, by their numbers, with the reason of each."""
    listed = "\n".join(f"  {problems[index]}" for index in sorted(problems))
    return ValueError(f"{len(problems)} of {total} inputs cannot be used:\n{listed}")
