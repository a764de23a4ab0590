"""Sampling, reconstruction, interpolation and likelihood with a variational diffusion model, as inferers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from ..diffusion.schedules import gamma_steps
from ..diffusion.seeds import case_seeds, check_seeds, flat_classes, noise_source, sample_seed, unwrapped, with_metadata
from ..diffusion.steps import Ancestral, Noise, StepRule, denoise
from ..diffusion.variational import TERMS, VariationalBound
from ..networks.gamma import alpha_sigma
from ..utils.progress import steps_of


class VariationalDenoiser(Inferer):
    """
    Latents at a time, denoised in steps of equal time and decoded: what the three inferers below have in common.

    Args:
        step_rule: how to go from t to s; ``Ancestral()`` (Kingma et al. 2021, eq. 31 to 33) by default, ``DDIM()`` for
            the deterministic way, ``DPMSolverPP2M()`` for few steps.
        num_inference_steps: N, at least 1, whatever the number in training; for the whole way from time 1 to 0, so
            fewer for a shorter one.
        seed: mixed into every case's seed.
        clip_sample: limit the estimate of f to [-1, 1] in every step; for latents that are pixels.
        progress: show a progress bar with the time left, where none over all images is open.
        start: time from which is denoised, in [0, 1].

    Raises:
        ValueError: when ``num_inference_steps`` < 1 or ``start`` lies outside [0, 1].

    >>> VariationalDenoiser(num_inference_steps=10, start=0.5).last_seeds
    []
    """

    def __init__(
        self,
        step_rule: StepRule | None = None,
        num_inference_steps: int = 250,
        seed: int = 0,
        clip_sample: bool = False,
        progress: bool = True,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}.")
        if not 0 <= start <= 1:
            raise ValueError(f"start must lie in [0, 1], got {start}.")
        self.step_rule: StepRule = Ancestral() if step_rule is None else step_rule
        self.num_inference_steps = num_inference_steps
        self.seed = seed
        self.clip_sample = clip_sample
        self.progress = progress
        self.start = start
        self.last_seeds: list[int] = []

    @property
    def settings(self) -> dict[str, Any]:
        """What an image depends on beside rule, steps, start and seed, for its record."""
        return {"clip_sample": self.clip_sample}

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: nn.Module,
        class_labels: Tensor | None = None,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            inputs: the cases, see the class.
            network: a ``VariationalDiffusionModel``; in eval mode during the call.
            class_labels: (N,) or (N, 1) integer, or None.
            seeds: one integer a case instead of those that ``seed`` and the case give.

        Returns:
            (N, images a case, H, W) in [0, 1], float32, on the network's device, with the metadata of ``inputs``.

        Raises:
            ValueError: for inputs of the wrong shape, number or range.
            RuntimeError: when the network predicts NaN or infinity, with the step.
        """
        model, given = inner_model(network), convert_to_tensor(inputs)
        classes = flat_classes(class_labels, given)
        images = []
        with torch.no_grad(), eval_mode(network):
            latents = self._latents(model, given)
            self.last_seeds = self._seeds(given) if seeds is None else check_seeds(seeds, len(given))
            for f in latents:
                noise = noise_source(self.last_seeds, f)
                z = self._noised(model, f, noise)
                z_0 = self._denoise(model, z, None if classes is None else classes.to(z.device), noise)
                images.append(model.decode(z_0))
        return with_metadata(torch.cat(images, dim=1), inputs, self.last_seeds)

    def _latents(self, model: Any, given: Tensor) -> list[Tensor]:
        """The means f, (N, *latent), of each image of the result."""
        raise NotImplementedError

    def _seeds(self, given: Tensor) -> list[int]:
        """A seed for each case."""
        return case_seeds(self.seed, given, expect_equal=True)

    def _noised(self, model: Any, f: Tensor, noise: Noise) -> Tensor:
        """z at time ``start``; images of one case share the noise."""
        alpha, sigma = alpha_sigma(model.gamma(torch.full((), self.start, device=f.device)))
        return alpha * f + sigma * noise()

    def _denoise(self, model: Any, z: Tensor, class_labels: Tensor | None, noise: Noise) -> Tensor:
        """z_0 from z at time ``start``."""

        def predict(z: Tensor, gamma_t: float) -> Tensor:
            return model.eps_hat(z, torch.tensor(gamma_t, dtype=z.dtype, device=z.device), class_labels).float()

        steps = gamma_steps(model.gamma, self.num_inference_steps, self.start)
        run = denoise(z, steps, predict, self.step_rule, noise, clip=self.clip_sample)
        for _, z in steps_of(run, len(steps), self.progress):  # noqa: B007
            pass
        return z


class VariationalSampler(VariationalDenoiser):
    """
    Draw images from noise; ``inputs`` are case numbers, (N,) or (N, 1) integer, or images for shape and seed alone.

    Args:
        image_size: (H, W) of the images, where ``inputs`` are case numbers.
        kwargs: step_rule, num_inference_steps, seed, clip_sample and progress of ``VariationalDenoiser``.

    Source: Kingma et al. 2021 (VDM), section 3.3, eq. 31 to 33.

    >>> from ..networks.vdm_dense import dense_vdm
    >>> model = dense_vdm((8, 8), features=8, score_features=8)
    >>> VariationalSampler((8, 8), num_inference_steps=2, progress=False)(torch.arange(3), model).shape
    torch.Size([3, 1, 8, 8])
    """

    def __init__(self, image_size: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image_size = None if image_size is None else tuple(image_size)

    def _latents(self, model: Any, given: Tensor) -> list[Tensor]:
        """Empty tensors of the latent's shape."""
        if given.is_floating_point():
            if given.ndim != 4:
                raise ValueError(f"Float inputs must be images, (N, 1, H, W), got {tuple(given.shape)}.")
            size = tuple(given.shape[2:])
        elif self.image_size is None:
            raise ValueError("image_size is required where inputs are case numbers.")
        else:
            size = self.image_size
        return [model.gamma.endpoints()[0].new_empty(len(given), *model.latent_shape(size))]

    def _seeds(self, given: Tensor) -> list[int]:
        if given.is_floating_point():
            return case_seeds(self.seed, given)  # here, equal images would be drawn once more
        return [sample_seed(self.seed, int(number) + 1) for number in given.flatten()]

    def _noised(self, model: Any, f: Tensor, noise: Noise) -> Tensor:
        return noise()


class VariationalReconstructor(VariationalDenoiser):
    """
    Noise an image up to a time and denoise it again; ``inputs`` are images, (N, 1, H, W), float in [0, 1].

    Args:
        start: time up to which the image is noised, in [0, 1]: at 0 it is only encoded and decoded, at 1 nothing of it
            is left.
        kwargs: as ``VariationalSampler``.

    Raises:
        ValueError: when ``start`` lies outside [0, 1].

    >>> from ..networks.vdm_dense import dense_vdm
    >>> model = dense_vdm((8, 8), features=8, score_features=8)
    >>> VariationalReconstructor(0.3, num_inference_steps=4, progress=False)(torch.rand(2, 1, 8, 8), model).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, start: float = 0.5, **kwargs: Any) -> None:
        super().__init__(start=start, **kwargs)

    def _latents(self, model: Any, given: Tensor) -> list[Tensor]:
        return [model.encode(given)]


class VariationalInterpolator(VariationalDenoiser):
    """
    Images between two images, given as two channels, (N, 2, H, W): their latents at one time, mixed and denoised.

    Both are noised by the same eps, so that a mixture (1 - w) z_a + w z_b is as noisy as its ends; all mixtures of a
    pair share the noise of the way back.

    Args:
        weights: w of each image of the result; 0 is the first image, 1 the second.
        start: time of the mixing, in [0, 1]; at 0 the latents z_0 are mixed and decoded.
        kwargs: as ``VariationalSampler``.

    Raises:
        ValueError: when ``start`` lies outside [0, 1] or there are no weights.

    Source: Ho et al. 2020 (DDPM), section 4.3 (mixing under one noise).

    >>> from ..networks.vdm_dense import dense_vdm
    >>> model = dense_vdm((8, 8), features=8, score_features=8)
    >>> inferer = VariationalInterpolator((0.0, 0.5, 1.0), num_inference_steps=4, progress=False)
    >>> inferer(torch.rand(1, 2, 8, 8), model).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(
        self, weights: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0), start: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(start=start, **kwargs)
        if not weights:
            raise ValueError("weights must have at least one entry.")
        self.weights = tuple(float(w) for w in weights)

    def _latents(self, model: Any, given: Tensor) -> list[Tensor]:
        if given.ndim != 4 or given.shape[1] != 2:
            raise ValueError(f"Pairs of images must be (N, 2, H, W), got {tuple(given.shape)}.")
        first, second = (model.encode(given[:, channel : channel + 1]) for channel in (0, 1))
        return [torch.lerp(first, second, weight) for weight in self.weights]


class BoundInferer(Inferer):
    """
    The three terms of each image as a likelihood score: the same image and ``seed`` give the same score in any batch.

    Args:
        timesteps: see ``VariationalBound``.
        times: times drawn for each image, at equal strides; the estimate's standard deviation falls with them.
        seed: mixed into every image's own seed.

    Raises:
        ValueError: as ``VariationalBound``.

    >>> from ..networks.vdm_dense import dense_vdm
    >>> model = dense_vdm((8, 8), features=8, score_features=8)
    >>> BoundInferer(times=4)(torch.rand(2, 1, 8, 8), model).shape
    torch.Size([2, 3])
    """

    def __init__(self, timesteps: int | None = None, times: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.bound = VariationalBound(timesteps, times=times, minimise_variance=False)
        self.seed = seed

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: nn.Module,
        class_labels: Tensor | None = None,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            inputs: (N, 1, H, W), float in [0, 1].
            network: a ``VariationalDiffusionModel``.
            class_labels: (N,) integer or None.
            seeds: one integer an image instead of those that ``seed`` and the image give.

        Returns:
            (N, 3): reconstruction, diffusion and latent, nats; minus their sum bounds log p(x) from below.
        """
        x = convert_to_tensor(inputs)
        classes = flat_classes(class_labels, x)
        numbers = case_seeds(self.seed, x, classes, seeds, expect_equal=True)
        rows = []
        with torch.no_grad():
            for index, number in enumerate(numbers):
                one = slice(index, index + 1)
                generator = torch.Generator().manual_seed(number)
                terms = self.bound(network, x[one], None if classes is None else classes[one], generator)
                rows.append(torch.cat([terms[name] for name in TERMS]))
        return torch.stack(rows)


def inner_model(network: Any) -> Any:
    """The ``VariationalDiffusionModel`` itself, also behind DDP or ``torch.compile``; a TypeError if there is none."""
    model = unwrapped(network, "eps_hat")
    if model is None:
        raise TypeError(f"This inferer needs a VariationalDiffusionModel, got {type(network).__name__}.")
    return model
