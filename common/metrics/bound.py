"""The terms of a variational bound as metrics: means over held-out images, in nats or in bits per dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor
from torch import Tensor

from ..diffusion.variational import TERMS, bits_per_dimension

BOUND = "bound"


def term_of(terms: Tensor, name: str, controls: Sequence[str] = ()) -> Tensor:
    """
    One term, or "bound", their sum.

    Args:
        terms: (N, 3), nats, in the order of ``TERMS``; a further column for each of ``controls``.
        name: of the term.
        controls: names of other scores, see ``ood.ControlledInferer``.

    Returns:
        (N,), float64.

    Raises:
        ValueError: for another shape or name.
    """
    columns = (*TERMS, *controls)
    if name not in (*columns, BOUND):
        raise ValueError(f"term must be one of {(*columns, BOUND)}, got {name!r}.")
    if terms.ndim != 2 or terms.shape[1] < len(columns):
        raise ValueError(f"Terms (N, {len(columns)}) were expected, got shape {tuple(terms.shape)}.")
    plain = convert_to_tensor(terms).detach().double()
    return plain[:, : len(TERMS)].sum(1) if name == BOUND else plain[:, columns.index(name)]


class BoundTerm(CumulativeIterationMetric):
    """
    One term of the bound on -log p(x), called with the terms of a batch, (N, 3) nats: a value an image.

    Called with the number of each image's set as well, (N,) or (N, 1), it passes over sets other than 0.

    Args:
        term: "reconstruction", "diffusion", "latent", or "bound" for their sum.
        dimensions: pixels times channels of an image, for bits per dimension; None for nats per image.

    Raises:
        ValueError: for an unknown term or fewer than one dimension.

    Source: Kingma et al. 2021 (VDM), eq. 11.
    """

    def __init__(self, term: str = BOUND, dimensions: int | None = None) -> None:
        super().__init__()
        if term not in (*TERMS, BOUND):
            raise ValueError(f"term must be one of {(*TERMS, BOUND)}, got {term!r}.")
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}.")
        self.term = term
        self.dimensions = dimensions

    @property
    def label(self) -> str:
        """Such as ``diffusion [bits/dim]``."""
        return f"{self.term} [{'nats' if self.dimensions is None else 'bits/dim'}]"

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        nats = term_of(y_pred, self.term)
        values = nats if self.dimensions is None else bits_per_dimension(nats, self.dimensions)
        number = torch.zeros_like(values) if y is None else y.reshape(len(values)).to(values)
        return torch.stack([values, number], dim=1)

    def per_case(self) -> Tensor:
        """The term of each image of set 0, (n,), float64."""
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError(f"{self.label}: no images seen.")
        return buffer[buffer[:, 1] == 0, 0]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Returns the mean over images."""
        return self.per_case().mean()

    def report(self) -> dict[str, Any]:
        """Unit and dimensions."""
        unit = "nats per image" if self.dimensions is None else "bits per dimension"
        return {"unit": unit, "dimensions": self.dimensions}
