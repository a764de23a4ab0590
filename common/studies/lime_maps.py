"""LIME explanations of a classifier's decision on an image, and numbers that say what an explanation is worth."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from monai.transforms import FillHoles, KeepLargestConnectedComponent
from skimage.filters import threshold_otsu
from skimage.segmentation import slic
from torch import Tensor, nn

from ..utils.packages import FOR_METRICS, import_optional


@dataclass(frozen=True)
class Explanation:
    """
    What LIME says of one image.

    Attributes:
        label: class index that is explained, the one that the network finds.
        probability: of it.
        segments: superpixel of each pixel, (rows, columns), 0 to S - 1.
        weights: of each superpixel in LIME's linear model of the probability, (S,).
        fit: weighted R² of the linear model; where it is low, the weights say little.

    >>> Explanation(0, 0.9, np.array([[0, 0], [1, 2]]), np.array([0.2, 0.6, -0.5]), 1.0).map.round(3).tolist()
    [[0.125, 0.125], [0.75, 0.0]]
    """

    label: int
    probability: float
    segments: np.ndarray
    weights: np.ndarray
    fit: float

    @property
    def map(self) -> np.ndarray:
        """Positive weights spread over their superpixels, (rows, columns), adding up to 1, or all 0."""
        positive = np.maximum(self.weights, 0)
        sizes = np.bincount(self.segments.ravel(), minlength=len(self.weights))
        total = positive.sum()
        return (positive / np.maximum(sizes, 1) / (total or 1.0))[self.segments]


def explain(
    network: nn.Module,
    image: Tensor,
    segments: np.ndarray,
    seed: int = 0,
    num_samples: int = 500,
    batch_size: int = 50,
    device: str | torch.device = "cpu",
) -> Explanation:
    """
    LIME's explanation of the class that a network finds in an image.

    Args:
        network: (N, C, H, W) in [-1, 1] -> (N, classes) logits, in eval mode.
        image: (C, H, W) in [-1, 1], C = 1 or 3.
        segments: see ``superpixels``; those that are hidden take their mean colour.
        seed: of the images with hidden superpixels.
        num_samples: number of such images.
        batch_size: images a step.
        device: of the network.

    Raises:
        ImportError: without the lime package.

    Source: Ribeiro et al. 2016, by the lime package; Nafi et al. 2024, section 4.7.
    """
    channels, picture = len(image), as_picture(image)

    @torch.inference_mode()
    def probabilities(pictures: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(pictures[..., :channels]).permute(0, 3, 1, 2).float()
        return network(batch.to(device)).float().softmax(1).double().cpu().numpy()

    label = int(probabilities(picture[None])[0].argmax())
    lime_image = import_optional("lime.lime_image", "An explanation", FOR_METRICS)
    explainer = lime_image.LimeImageExplainer(feature_selection="none", random_state=seed)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar, one an image
        found = explainer.explain_instance(
            picture,
            probabilities,
            labels=(label,),
            top_labels=None,
            num_samples=num_samples,
            batch_size=batch_size,
            segmentation_fn=lambda _: segments,
            random_seed=seed,
        )
    weights = np.zeros(int(segments.max()) + 1)
    for segment, weight in found.local_exp[label]:
        weights[segment] = weight
    return Explanation(label, float(probabilities(picture[None])[0, label]), segments, weights, float(found.score))


def as_picture(image: Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1], C = 1 or 3, as (H, W, 3) float64, in [-1, 1]."""
    return np.repeat(image.detach().cpu().double().permute(1, 2, 0).numpy(), 3 // len(image), axis=2)


def superpixels(image: Tensor, number: int = 60) -> np.ndarray:
    """
    About ``number`` superpixels of an image by SLIC, the same in every run.

    Args:
        image: (C, H, W) in [-1, 1].
        number: wanted; fewer come back where the image is small.

    Returns:
        (rows, columns), 0 to S - 1.

    Source: Achanta et al. 2012, by scikit-image.
    """
    found = slic((as_picture(image) + 1) / 2, number, compactness=10, sigma=1, start_label=0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def foreground(image: Tensor, largest: bool = True) -> np.ndarray:
    """
    Head, or stained nuclei: the upper side of Otsu's threshold.

    Args:
        image: (C, H, W) in [-1, 1]. Grey is thresholded by its square root, so that dim tissue belongs to the head too;
            colour by how purple it is (mean of red and blue less green), since nuclei are, and red cells hardly.
        largest: its largest connected part only, holes filled.

    Returns:
        (H, W), bool.

    Source: Otsu 1979.
    """
    values = (image.detach().cpu().float() + 1) / 2
    quantity = (values[0] + values[2]) / 2 - values[1] if len(values) == 3 else values[0].clamp(min=0).sqrt()
    if float(quantity.max()) == float(quantity.min()):
        return np.zeros(tuple(quantity.shape), bool)
    mask: Any = (quantity > float(threshold_otsu(quantity.numpy())))[None].to(torch.uint8)
    if largest:
        mask = FillHoles(applied_labels=[1])(KeepLargestConnectedComponent(applied_labels=[1])(mask))
    return np.asarray(mask)[0].astype(bool)


def share_inside(explanation: Explanation, mask: np.ndarray) -> float:
    """Share of the positive weight that lies in ``mask``; NaN where no weight is positive."""
    spread = explanation.map
    return float(spread[mask].sum()) if spread.any() else float("nan")


def stability(explanations: Sequence[Explanation], top: int = 5) -> tuple[float, float]:
    """
    Agreement of explanations of one image with other seeds.

    Args:
        explanations: at least two, with the same superpixels.
        top: so many superpixels of the largest weight are compared.

    Returns:
        Mean over pairs of the correlation of the weights, and of the overlap (intersection over union) of the top ones.
    """
    correlations, overlaps = [], []
    for one, other in combinations(explanations, 2):
        correlations.append(correlation(one.weights, other.weights))
        chosen = [set(np.argsort(-e.weights, kind="stable")[:top].tolist()) for e in (one, other)]
        overlaps.append(len(chosen[0] & chosen[1]) / len(chosen[0] | chosen[1]))
    return float(np.mean(correlations)), float(np.mean(overlaps))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two arrays; NaN where one is constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])
