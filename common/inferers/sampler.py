"""Sampling as an inferer: given the condition, return the generated image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor

from ..diffusion.schedules import NoiseSchedule, Step, coarsened
from ..diffusion.seeds import (
    case_seeds,
    flat_classes,
    network_divisor,
    noise_source,
    sample_seed,
    with_metadata,
)
from ..diffusion.steps import PREDICTION_TYPES, Ancestral, Noise, StepRule, denoise
from ..utils.images import pad_to_multiple
from ..utils.progress import steps_of

OUTPUTS = ("samples", "mean", "std", "mean_std")


@dataclass
class Samples:
    """
    Several images for each condition.

    Attributes:
        samples: (num_samples, N, C, *spatial), in [-1, 1] where x0_hat is clipped.
        seeds: seed of each image, num_samples lists of N.
        frames: (s, x_s) of the first sample on its way, x_s (N, C, *spatial) on the CPU; s = -1 is the result.

    >>> drawn = Samples(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), seeds=[[0], [1]])
    >>> drawn.mean.item(), round(drawn.std.item(), 4)
    (0.5, 0.7071)
    """

    samples: Tensor
    seeds: list[list[int]]
    frames: list[tuple[float, Tensor]] = field(default_factory=list)

    @property
    def mean(self) -> Tensor:
        """Voxel-wise mean over the samples, (N, C, *spatial)."""
        return self.samples.mean(0)

    @property
    def std(self) -> Tensor:
        """Voxel-wise standard deviation over the samples, (N, C, *spatial); 0 for a single sample."""
        return self.samples.std(0, correction=min(1, len(self.samples) - 1))


@dataclass(eq=False)
class DiffusionSampler(Inferer):
    """
    Denoise from pure noise to an image under a condition, called as ``sampler(inputs, network)``.

    The same case and ``seed`` give the same image (up to rounding), whatever the batch size, order or device: the noise
    of a case comes from its own generator, seeded by ``seed`` and the case's condition.

    Args:
        schedule: alpha_bar_t that the network was trained with.
        step_rule: how to go from t to s; the papers' ``Ancestral()`` by default.
        num_inference_steps: N in [1, T]; None for T, every step.
        prediction_type: what the network predicts: "epsilon", "sample" or "v_prediction".
        out_channels: channels of the image.
        spacing: of the levels visited, see ``step_pairs``.
        levels: None, or a multiple of N: the steps are every so many of a run in this number, see ``coarsened``.
        concatenate: the condition is concatenated to x_t; False for a network conditioned by class alone, where
            ``inputs`` gives no more than the shape and the seed.
        clip_sample: limit x0_hat to [-1, 1] in every step.
        noise_scale: what eps_hat in x_s is multiplied by in every step but the last. A network trained by squared
            error takes away a little detail with the noise; slightly more than 1 leaves some of it.
        guidance_scale: w of classifier-free guidance: 1 follows the condition as trained (one forward pass a step),
            more exaggerates it (two), 0 ignores it. A dropped condition is 0 in all its channels.
        null_class: class index that stands for "no class"; needed to guide a class-conditional network.
        seed: mixed into every case's seed.
        num_samples: images drawn for each condition.
        output: what a call returns as channels: "samples" (num_samples x C), "mean" (C), "std" (C), or "mean_std" (2C).
        intermediates: number of frames, the result among them, kept in ``last_frames``.
        progress: show a progress bar with the time left, where none over all images is open.

    Attributes:
        steps: the N steps from noise to image.
        last_seeds: N seeds that the last call used.
        last_frames: (s, x_s) pairs of the last call, see ``Samples.frames``.

    Raises:
        ValueError: for options outside their range.

    Source: Med-DDPM, Algorithm 2; Ho & Salimans 2022, eq. 6 (guidance); Karras et al. 2022 (EDM), section 4, S_noise,
        which scales fresh noise where ``noise_scale`` scales what is left of it, so that it works without any.

    >>> sampler = DiffusionSampler(NoiseSchedule("cosine", 250), num_inference_steps=3, progress=False)
    >>> image = sampler(torch.zeros(1, 2, 8, 8), lambda x, timesteps: x[:, :1])
    >>> image.shape, sampler.steps[-1].s
    (torch.Size([1, 1, 8, 8]), -1)
    """

    schedule: NoiseSchedule
    step_rule: StepRule | None = None
    num_inference_steps: int | None = None
    prediction_type: str = "epsilon"
    out_channels: int = 1
    spacing: str = "logsnr"
    levels: int | None = None
    concatenate: bool = True
    clip_sample: bool = True
    noise_scale: float = 1.0
    guidance_scale: float = 1.0
    null_class: int | None = None
    seed: int = 0
    num_samples: int = 1
    output: str = "samples"
    intermediates: int = 0
    progress: bool = True
    steps: list[Step] = field(init=False, repr=False)
    last_seeds: list[int] = field(init=False, repr=False, default_factory=list)
    last_frames: list[tuple[float, Tensor]] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        for name, choices in (("prediction_type", PREDICTION_TYPES), ("output", OUTPUTS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}.")
        leasts = {"out_channels": 1, "num_samples": 1, "intermediates": 0, "guidance_scale": 0, "noise_scale": 0}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        self.steps = self.schedule.steps(self.levels or self.num_inference_steps, self.spacing)
        if self.levels is not None:
            self.steps = coarsened(self.steps, self.num_inference_steps or self.levels)
        self.step_rule = Ancestral() if self.step_rule is None else self.step_rule

    @property
    def settings(self) -> dict[str, Any]:
        """What an image depends on beside rule, steps, guidance and seed, for its record."""
        names = ("levels", "clip_sample", "noise_scale")
        return {
            "level_spacing": self.spacing,
            **{name: getattr(self, name) for name in names},
            **self.schedule.settings,
        }

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: Callable[..., Tensor],
        class_labels: Tensor | None = None,
        seeds: Sequence[int] | Tensor | None = None,
        known: Tensor | None = None,
        hole: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            inputs: the condition, (N, C', *spatial), on the device to sample on; sides of any length.
            network: called with ``x``, ``timesteps`` and, if given, ``class_labels``; in eval mode during the call.
            class_labels: (N,) or (N, 1) integer, or None.
            seeds: one integer a case instead of those that ``seed`` and the condition give.
            known: an image to be kept outside ``hole``, (N, out_channels, *spatial) in [-1, 1]; None to draw it all.
            hole: where it is drawn anew, (N, 1, *spatial): 1 in all steps, 0 in none, and between in the last share
                of the steps, so that what is drawn goes over into what is known.

        Returns:
            (N, channels of ``output``, *spatial), float32; with the metadata of ``inputs`` (and ``meta["seed"]``) if
            that is a ``MetaTensor``.

        Raises:
            ValueError: for inputs of the wrong shape or number.
            RuntimeError: when the network predicts NaN or infinity, with the step.
        """
        drawn = self.sample_many(inputs, network, class_labels, seeds, known, hole)
        if self.output == "samples":
            image = torch.cat(list(drawn.samples), dim=1)
        else:
            maps = {"mean": [drawn.mean], "std": [drawn.std], "mean_std": [drawn.mean, drawn.std]}
            image = torch.cat(maps[self.output], dim=1)
        return with_metadata(image, inputs, drawn.seeds[0])

    def sample_many(
        self,
        inputs: Tensor,
        network: Callable[..., Tensor],
        class_labels: Tensor | None = None,
        seeds: Sequence[int] | Tensor | None = None,
        known: Tensor | None = None,
        hole: Tensor | None = None,
    ) -> Samples:
        """As a call, but returns all ``num_samples`` images of each case, with their seeds, mean and deviation."""
        if inputs.ndim < 3 or not inputs.is_floating_point():
            raise ValueError(f"inputs must be a float (N, C, *spatial), got {inputs.dtype} {tuple(inputs.shape)}.")
        plain = convert_to_tensor(inputs)
        class_labels = flat_classes(class_labels, plain)
        if class_labels is not None and self.guidance_scale != 1 and self.null_class is None:
            raise ValueError("null_class is required to guide a class-conditional network (guidance_scale != 1).")
        self.last_seeds = case_seeds(self.seed, plain, class_labels, seeds)
        divisor = network_divisor(network)
        condition, crop = pad_to_multiple(plain.float(), divisor)
        kept = None
        if (known is None) != (hole is None):
            raise ValueError("known and hole go together: one of them is missing.")
        if known is not None and hole is not None:
            image, inside = _checked_known(known, hole, (len(plain), self.out_channels, *plain.shape[2:]))
            kept = pad_to_multiple(image, divisor, 0.0)[0], 1 - pad_to_multiple(inside, divisor, 1.0)[0]
        all_seeds = [[sample_seed(seed, index) for seed in self.last_seeds] for index in range(self.num_samples)]
        images, frames = [], []
        runs = (self._run(network, condition, class_labels, sample_seeds, kept) for sample_seeds in all_seeds)
        number, total = len(self.steps), len(self.steps) * self.num_samples
        with eval_mode(network):  # type: ignore[arg-type]
            for done, (step, x) in enumerate(steps_of(chain.from_iterable(runs), total, self.progress), start=1):
                if self._is_frame(done):
                    frames.append((step.s, x[crop].cpu()))
                if done % number == 0:
                    images.append(x[crop])
        self.last_frames = frames
        return Samples(torch.stack(images), all_seeds, frames)

    def _run(
        self,
        network: Callable[..., Tensor],
        condition: Tensor,
        class_labels: Tensor | None,
        seeds: list[int],
        known: tuple[Tensor, Tensor] | None,
    ) -> Iterator[tuple[Step, Tensor]]:
        """Each step with its x_s, from noise to image."""
        noise = noise_source(seeds, condition.new_empty(len(condition), self.out_channels, *condition.shape[2:]))
        return self.along(network, noise(), self.steps, noise, condition, class_labels, known)

    def along(
        self,
        network: Callable[..., Tensor],
        x: Tensor,
        steps: Sequence[Step],
        noise: Noise,
        condition: Tensor,
        class_labels: Tensor | None = None,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> Iterator[tuple[Step, Tensor]]:
        """Each of ``steps`` with its x_s, from ``x`` at the level of the first; for ``known``, see ``denoise``."""

        def predict(x: Tensor, t: int) -> Tensor:
            return self._predict(network, x, t, condition, class_labels)

        rule: StepRule = self.step_rule  # type: ignore[assignment]
        options = self.prediction_type, self.clip_sample, self.noise_scale, known
        return denoise(x, steps, predict, rule, noise, *options)

    def _predict(
        self, network: Callable[..., Tensor], x: Tensor, t: int, condition: Tensor, class_labels: Tensor | None
    ) -> Tensor:
        """The prediction under guidance, float32, the shape of ``x``."""
        timesteps = torch.full((len(x),), t, device=x.device, dtype=torch.long)

        def forward(condition: Tensor, class_labels: Tensor | None) -> Tensor:
            x_in = torch.cat([x, condition], dim=1) if self.concatenate else x
            extra = {} if class_labels is None else {"class_labels": class_labels}
            return network(x_in, timesteps=timesteps, **extra).float()

        w = self.guidance_scale
        conditional = forward(condition, class_labels) if w != 0 else None
        if w == 1 and conditional is not None:
            return conditional
        null_class = None if class_labels is None else torch.full_like(class_labels, self.null_class or 0)
        unconditional = forward(torch.zeros_like(condition), null_class)
        if conditional is None:
            return unconditional
        # eq. 6 in the form with w = 1 unguided; every prediction type is affine in eps, so it holds for all of them
        return unconditional + w * (conditional - unconditional)

    def _is_frame(self, done: int) -> bool:
        """True for ``intermediates`` of the step counts 1 to N, evenly spaced, N among them."""
        count = min(self.intermediates, len(self.steps))
        return any(done == round(len(self.steps) * k / count) for k in range(1, count + 1))


def _checked_known(known: Tensor, hole: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Both as plain float32 tensors."""
    found, wanted = (tuple(known.shape), tuple(hole.shape)), (shape, (shape[0], 1, *shape[2:]))
    if found != wanted:
        raise ValueError(f"known and hole of the shapes {wanted} were expected, got {found}.")
    inside = convert_to_tensor(hole).float()
    if not (inside.min() >= 0 and inside.max() <= 1):  # NaN fails too
        raise ValueError(f"hole: values in [0, 1] were expected, got {inside.min():g} to {inside.max():g}.")
    return convert_to_tensor(known).float(), inside
