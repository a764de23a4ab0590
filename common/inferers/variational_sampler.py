"""Sampling, reconstruction and interpolation with a variational diffusion model, as inferers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor
from tqdm import tqdm

from ..diffusion.cases import case_seeds, check_seeds, flat_classes, noise_source, sample_seed, unwrapped, with_metadata
from ..diffusion.conversion import to_x0_and_eps
from ..diffusion.steps import Ancestral, StepRule
from ..networks.gamma import alpha_sigma


class _Denoiser(Inferer):
    """
    From z_t to z_0 in N steps of equal time, and to the image.

    Args:
        step_rule: how to go from t to s; ``Ancestral()`` (Kingma et al. 2021, eq. 31 to 33) by default, ``DDIM()`` for
            the deterministic way, ``DPMSolverPP2M()`` for few steps.
        num_inference_steps: N, at least 1, whatever the number in training.
        seed: mixed into every case's seed.
        clip_sample: limit the estimate of f to [-1, 1] in every step; for latents that are pixels.
        progress: show a progress bar with the time left.

    Raises:
        ValueError: when ``num_inference_steps`` < 1.
    """

    def __init__(
        self,
        step_rule: StepRule | None = None,
        num_inference_steps: int = 250,
        seed: int = 0,
        clip_sample: bool = False,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, got {num_inference_steps}.")
        self.step_rule: StepRule = Ancestral() if step_rule is None else step_rule
        self.num_inference_steps = num_inference_steps
        self.seed = seed
        self.clip_sample = clip_sample
        self.progress = progress
        self.last_seeds: list[int] = []

    def _denoise(
        self,
        model: Any,
        z: Tensor,
        start: float,
        class_labels: Tensor | None,
        noise: Callable[[], Tensor],
    ) -> Tensor:
        """z_0 from z at time ``start``; N steps for the whole way, so fewer for a shorter one."""
        steps = round(start * self.num_inference_steps)
        if start > 0:
            steps = max(steps, 1)
        state = None
        pairs = list(self._levels(model, start, steps))
        for number, (gamma_t, gamma_s) in enumerate(tqdm(pairs, desc="Sampling", disable=not self.progress), start=1):
            eps_hat = model.eps_hat(z, gamma_t.to(z), class_labels).float()
            if not bool(torch.isfinite(eps_hat).all()):
                raise RuntimeError(
                    f"The network predicted NaN or infinity in step {number} of {steps} (gamma = {float(gamma_t):.3g})."
                    " Check its weights and precision."
                )
            alpha_bar_t, alpha_bar_s = (float(torch.sigmoid(-gamma)) for gamma in (gamma_t, gamma_s))
            x0_hat, eps_hat = to_x0_and_eps(eps_hat, z, alpha_bar_t, "epsilon", self.clip_sample)
            z, state = self.step_rule(z, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, state)
        return z

    @staticmethod
    def _levels(model: Any, start: float, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(gamma_t, gamma_s) of each step, float64 scalars on the CPU."""
        if steps == 0:
            return
        t = torch.linspace(start, 0, steps + 1, device=model.gamma.endpoints()[0].device)
        gammas = model.gamma(t).double().cpu()
        yield from pairwise(gammas)


class VariationalSampler(_Denoiser):
    """
    Draw images from noise, called as ``sampler(inputs, network)``.

    Args:
        image_size: (H, W) of the images, where ``inputs`` are case numbers.
        kwargs: as ``_Denoiser``: step_rule, num_inference_steps, seed, clip_sample, progress.

    Source: Kingma et al. 2021 (VDM), section 3.3, eq. 31 to 33.
    """

    def __init__(self, image_size: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image_size = None if image_size is None else tuple(image_size)

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: torch.nn.Module,
        class_labels: Tensor | None = None,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            inputs: case numbers, (N,) or (N, 1) integer; or images, (N, 1, H, W), for shape and seed alone.
            network: a ``VariationalDiffusionModel``; in eval mode during the call.
            class_labels: (N,) or (N, 1) integer, or None.
            seeds: one integer a case instead of those that ``seed`` and the case number give.

        Returns:
            (N, 1, H, W) in [0, 1], float32, on the network's device.

        Raises:
            ValueError: for inputs of the wrong shape or number.
            RuntimeError: when the network predicts NaN or infinity, with the step.
        """
        model = inner_model(network)
        given = convert_to_tensor(inputs)
        if given.is_floating_point():
            if given.ndim != 4:
                raise ValueError(f"Float inputs must be images, (N, 1, H, W), got {tuple(given.shape)}.")
            size, numbers = tuple(given.shape[2:]), case_seeds(self.seed, given)
        else:
            if self.image_size is None:
                raise ValueError("image_size is required where inputs are case numbers.")
            size = self.image_size
            numbers = [sample_seed(self.seed, int(number) + 1) for number in given.flatten()]
        self.last_seeds = numbers if seeds is None else check_seeds(seeds, len(given))
        classes = flat_classes(class_labels, given)
        like = model.gamma.endpoints()[0].new_empty(len(numbers), *model.latent_shape(size))
        noise = noise_source(self.last_seeds, like)
        with torch.no_grad(), eval_mode(network):
            z_0 = self._denoise(model, noise(), 1.0, None if classes is None else classes.to(like.device), noise)
            return with_metadata(model.decode(z_0), inputs, self.last_seeds)


class VariationalReconstructor(_Denoiser):
    """
    Noise an image up to a time and denoise it again.

    Args:
        start: time up to which the image is noised, in [0, 1]: at 0 it is only encoded and decoded, at 1 nothing of it
            is left.
        kwargs: as ``_Denoiser``: step_rule, num_inference_steps (for the whole way from 1 to 0), seed, clip_sample,
            progress.

    Raises:
        ValueError: when ``start`` lies outside [0, 1].
    """

    def __init__(self, start: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_time(start)
        self.start = start

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: torch.nn.Module,
        class_labels: Tensor | None = None,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            inputs: (N, 1, H, W), float in [0, 1].
            network: a ``VariationalDiffusionModel``; in eval mode during the call.
            class_labels: (N,) or (N, 1) integer, or None.
            seeds: one integer an image instead of those that ``seed`` and the image give.

        Returns:
            (N, 1, H, W) in [0, 1], float32.

        Raises:
            ValueError: for images that the model does not take.
            RuntimeError: when the network predicts NaN or infinity, with the step.
        """
        model, x = inner_model(network), convert_to_tensor(inputs)
        classes = flat_classes(class_labels, x)
        with torch.no_grad(), eval_mode(network):
            f = model.encode(x)
            self.last_seeds = case_seeds(self.seed, x) if seeds is None else check_seeds(seeds, len(x))
            noise = noise_source(self.last_seeds, f)
            z_0 = self._denoise(model, _noised(model, f, self.start, noise), self.start, classes, noise)
            return with_metadata(model.decode(z_0), inputs, self.last_seeds)


class VariationalInterpolator(_Denoiser):
    """
    Images between two images: their latents at one time, mixed and denoised.

    Both are noised by the same eps, so that a mixture (1 - w) z_a + w z_b is as noisy as its ends; all mixtures of a
    pair share the noise of the way back.

    Args:
        weights: w of each image of the result; 0 is the first image, 1 the second.
        start: time of the mixing, in [0, 1]; at 0 the latents z_0 are mixed and decoded.
        kwargs: as ``VariationalReconstructor``.

    Raises:
        ValueError: when ``start`` lies outside [0, 1] or there are no weights.

    Source: Ho et al. 2020 (DDPM), section 4.3 (mixing under one noise).
    """

    def __init__(
        self, weights: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0), start: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        _check_time(start)
        if not weights:
            raise ValueError("weights must have at least one entry.")
        self.weights = tuple(float(w) for w in weights)
        self.start = start

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: torch.nn.Module,
        class_labels: Tensor | None = None,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            inputs: the pairs as two channels, (N, 2, H, W), float in [0, 1].
            network: a ``VariationalDiffusionModel``; in eval mode during the call.
            class_labels: (N,) or (N, 1) integer, or None.
            seeds: one integer a pair instead of those that ``seed`` and the pair give.

        Returns:
            (N, len(weights), H, W) in [0, 1], float32.

        Raises:
            ValueError: for inputs that are no pairs, or images that the model does not take.
            RuntimeError: when the network predicts NaN or infinity, with the step.
        """
        model, x = inner_model(network), convert_to_tensor(inputs)
        if x.ndim != 4 or x.shape[1] != 2:
            raise ValueError(f"Pairs of images must be (N, 2, H, W), got {tuple(x.shape)}.")
        classes = flat_classes(class_labels, x)
        self.last_seeds = case_seeds(self.seed, x) if seeds is None else check_seeds(seeds, len(x))
        images = []
        with torch.no_grad(), eval_mode(network):
            first, second = (model.encode(x[:, channel : channel + 1]) for channel in (0, 1))
            for weight in self.weights:
                noise = noise_source(self.last_seeds, first)
                z = _noised(model, torch.lerp(first, second, weight), self.start, noise)
                images.append(model.decode(self._denoise(model, z, self.start, classes, noise)))
        return with_metadata(torch.cat(images, dim=1), inputs, self.last_seeds)


def inner_model(network: Any) -> Any:
    """The ``VariationalDiffusionModel`` itself, also behind DDP or ``torch.compile``; a TypeError if there is none."""
    model = unwrapped(network, "eps_hat")
    if model is None:
        raise TypeError(f"This inferer needs a VariationalDiffusionModel, got {type(network).__name__}.")
    return model


def _noised(model: Any, f: Tensor, time: float, noise: Callable[[], Tensor]) -> Tensor:
    """z at ``time`` for the latents' means f."""
    alpha, sigma = alpha_sigma(model.gamma(torch.full((), time, device=f.device)))
    return alpha * f + sigma * noise()


def _check_time(start: float) -> None:
    if not 0 <= start <= 1:
        raise ValueError(f"start must lie in [0, 1], got {start}.")
