"""Training of a network that does in few steps, without guidance, what another does in many with it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.schedules import NoiseSchedule, coarsened
from ..diffusion.steps import DDIM, prediction_of
from .sampler import DiffusionSampler
from .training import ConditionalPrepareBatch


class DistillationPrepareBatch(ConditionalPrepareBatch):
    """
    Batches whose target leads in one step of DDIM to where a teacher comes in several, under its guidance.

    A batch has one level, drawn from the student's. The teacher takes the noisy images from there to the end of the
    student's step, by its own rule; the target is the x_0 with which DDIM does the same, as the student's prediction.

    Args:
        schedule: the noise schedule, of the student and its teacher.
        teacher: the sampler of the teacher, with its number of steps, rule and guidance.
        network: with the teacher's weights; a copy of it is kept, so that it can be the student that is trained.
        num_inference_steps: of the student, a divisor of the teacher's.
        kwargs: of ``ConditionalPrepareBatch``; levels are drawn evenly, whatever its ``timestep_power``.

    Raises:
        ValueError: for a number of steps that is no divisor, or as ``ConditionalPrepareBatch``.

    Source: Salimans & Ho 2022 (Progressive distillation), Algorithm 2, with any number of teacher steps; Meng et al.
        2023 (On distillation of guided diffusion models), section 3.1, for one guidance scale.

    >>> teacher = DiffusionSampler(NoiseSchedule(), num_inference_steps=4, concatenate=False, progress=False)
    >>> network = torch.nn.Identity()
    >>> network.forward = lambda x, timesteps: 0 * x
    >>> prepare = DistillationPrepareBatch(teacher.schedule, teacher, network, 2, condition_name="label")
    >>> image, target, _, arguments = prepare({"image": torch.zeros(2, 1, 4, 4), "label": torch.ones(2, 3, 4, 4)})
    >>> target.shape, int(arguments["timesteps"][0]) in [step.t for step in prepare.steps]
    (torch.Size([2, 1, 4, 4]), True)
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        teacher: DiffusionSampler,
        network: nn.Module,
        num_inference_steps: int,
        prediction_type: str = "epsilon",
        condition_name: str | None = None,
        max_weight: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schedule, prediction_type, condition_name, max_weight=max_weight, **kwargs)
        self.teacher = teacher
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.steps = coarsened(teacher.steps, num_inference_steps)

    def get_timesteps(self, images: Tensor) -> Tensor:
        """(N,) integer, all the same level of the student."""
        chosen = self.steps[int(torch.randint(len(self.steps), ()))]
        return torch.full((len(images),), int(chosen.t), device=images.device)

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:  # type: ignore[override]
        """As ``ConditionalPrepareBatch``, with the target of distillation."""
        images, _, positional, given = super().__call__(*args, **kwargs)
        x_t = self.schedule.add_noise(images, given["noise"], given["timesteps"])
        step = next(one for one in self.steps if one.t == int(given["timesteps"][0]))
        within = [one for one in self.teacher.steps if step.s < one.t <= step.t]
        condition = given.get("condition", images)
        with torch.no_grad():
            classes = given.get("class_labels")
            noise = lambda: torch.randn_like(x_t)  # noqa: E731
            *_, (_, x_s) = self.teacher.along(self.network, x_t, within, noise, condition, classes)
        x0 = DDIM.x0_between(x_t, x_s, step)
        target = prediction_of(x0, x_t, step.alpha_bar_t, self.prediction_type)
        return images, target * given.get("scale", 1.0), positional, given
