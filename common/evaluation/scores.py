"""The bound as a score: its terms beside simpler scores, and the curves and the table of an evaluation."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.inferers import Inferer
from PIL import Image
from torch import Tensor

from ..diffusion.variational import TERMS, bits_per_dimension
from ..metrics.likelihood import BOUND, OutOfDistributionROC, roc_auc, roc_curve
from ..utils.files import write_csv
from ..visualize.pictures import save_figure


class ControlledInferer(Inferer):
    """
    The terms of a bound, and beside them scores that need no model, called as ``inferer(inputs, network)``.

    A likelihood follows such simple things as how grey or how detailed an image is (Serrà et al. 2020). What the model
    has learned shows where it tells sets apart better than they do.

    Args:
        inferer: gives (N, 3) nats.
        controls: name -> called with images (N, 1, H, W) in [0, 1], gives (N,), higher for the less usual.

    >>> inferer = ControlledInferer(lambda x, network: torch.zeros(len(x), 3), {"mean": lambda x: x.mean((1, 2, 3))})
    >>> inferer(torch.ones(1, 1, 4, 4), None).tolist()
    [[0.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self, inferer: Inferer, controls: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.inferer = inferer
        self.controls = dict(controls)

    def __call__(self, inputs: Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Returns (N, 3 + number of controls), float64."""
        terms = self.inferer(inputs, network, *args, **kwargs).double()
        extra = [control(inputs).to(terms)[:, None] for control in self.controls.values()]
        return torch.cat([terms, *extra], dim=1)


def png_bits(images: Tensor) -> Tensor:
    """Bits of each image (N, 1, H, W) in [0, 1] as an 8-bit PNG, (N,): how complex it is (Serrà et al. 2020)."""
    sizes = []
    for image in images.detach().cpu().float():
        file = io.BytesIO()
        Image.fromarray(np.rint(image[0].numpy() * 255).astype(np.uint8)).save(file, format="PNG", optimize=True)
        sizes.append(8.0 * file.tell())
    return torch.tensor(sizes, dtype=torch.float64)


class RocFigure:
    """
    Handler that draws the curves of the bound as a score when the evaluation is complete.

    Args:
        metrics: name -> metric; others than ``OutOfDistributionROC`` of the bound are passed over.
        output_dir: folder of ``roc.png``.

    >>> from ..metrics.likelihood import score_metrics
    >>> RocFigure(score_metrics(["held out", "virus"], dimensions=256), "evaluation").path.name
    'roc.png'
    """

    def __init__(self, metrics: Mapping[str, Any], output_dir: str | Path) -> None:
        rocs = [metric for metric in metrics.values() if isinstance(metric, OutOfDistributionROC)]
        self.metrics = [metric for metric in rocs if metric.term == BOUND]
        self.path = Path(output_dir) / "roc.png"

    def attach(self, engine: Engine) -> None:
        """Draw when ``engine`` has run."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the figure."""
        figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
        axis = figure.subplots()
        for metric in self.metrics:
            inside, outside = metric.scores()
            axis.plot(*roc_curve(inside, outside), label=f"{metric.name}, area {roc_auc(inside, outside):.3f}")
        axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel="false alarms (held-out images of the kind trained on)", ylabel="found", aspect="equal")
        axis.legend(loc="lower right", fontsize=8)
        save_figure(figure, self.path)


class ScoreTable:
    """
    Handler that writes the terms of each image of an evaluation to ``scores.csv``.

    Args:
        output_dir: folder of the file.
        dimensions: pixels times channels of an image.

    >>> ScoreTable("evaluation", dimensions=64 * 64).path.name
    'scores.csv'
    """

    COLUMNS = ("case", "class", *(f"{term}_nats" for term in (*TERMS, BOUND)), "bits_per_dimension")

    def __init__(self, output_dir: str | Path, dimensions: int) -> None:
        self.path = Path(output_dir) / "scores.csv"
        self.dimensions = dimensions
        self._rows: list[list[Any]] = []

    def attach(self, engine: Engine) -> None:
        """Collect from ``engine``, a MONAI evaluator whose predictions are terms, (3,) nats; write at its end."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._rows.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def collect(self, engine: Any) -> None:
        """Keep the terms of a decollated batch."""
        for case, output in zip(engine.state.batch, engine.state.output):
            terms = torch.as_tensor(output["pred"]).double().cpu()
            bound = terms.sum()
            bits = bits_per_dimension(bound, self.dimensions)
            self._rows.append([case["case"], case.get("class", ""), *terms.tolist(), float(bound), float(bits)])

    def __call__(self, engine: Engine) -> None:
        """Write the table, the least likely image first."""
        rows = sorted(self._rows, key=lambda row: -row[-1])
        write_csv(self.path, self.COLUMNS, rows)
