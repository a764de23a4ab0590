"""Distillation of steps: analytic (Gaussian data), limits, a golden target."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.diffusion.schedules import NoiseSchedule, Step, coarsened
from common.diffusion.steps import DDIM, PREDICTION_TYPES, DPMSolverPP2M, prediction_of, to_x0_and_eps
from common.inferers.distillation import DistillationPrepareBatch
from common.inferers.sampler import DiffusionSampler

SCHEDULE = NoiseSchedule("cosine", 250)
STD = 0.2


class Exact(nn.Module):
    """E[x_0 | x_t] of N(c / 2, STD^2) data, c the condition in the second channel; for c = 0, of the mean 0."""

    def forward(self, x, timesteps):
        a = SCHEDULE.alpha_bar[timesteps].float().reshape(-1, 1, 1, 1)
        mean = x[:, 1:] / 2
        return mean + a.sqrt() * STD**2 / (a * STD**2 + 1 - a) * (x[:, :1] - a.sqrt() * mean)


def sampler(steps, rule=None, **options):
    given = {"prediction_type": "sample", "clip_sample": False, "progress": False, **options}
    return DiffusionSampler(SCHEDULE, rule or DDIM(), steps, **given)


def prepare(teacher, steps, prediction_type="sample", **options):
    return DistillationPrepareBatch(
        SCHEDULE, teacher, Exact(), steps, prediction_type, condition_name="condition", **options
    )


def batch(n=2, side=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    condition = torch.rand(n, 1, side, side, generator=generator)
    return {"image": torch.rand(n, 1, side, side, generator=generator), "condition": condition}


def drawn(prepared, seed=1):
    """A batch with x_t, the step and the target."""
    torch.manual_seed(seed)
    image, target, _, given = prepared(batch())
    step = next(one for one in prepared.steps if one.t == given["timesteps"][0])
    assert (given["timesteps"] == step.t).all()
    return SCHEDULE.add_noise(image, given["noise"], given["timesteps"]), step, target, given["condition"]


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_prediction_of_is_the_inverse(prediction_type):
    x_t, x0 = torch.randn(2, 5, dtype=torch.float64)
    prediction = prediction_of(x0, x_t, 0.3, prediction_type)
    torch.testing.assert_close(to_x0_and_eps(prediction, x_t, 0.3, prediction_type)[0], x0)


@pytest.mark.parametrize("step", [Step(200, 90, 0.1, 0.6), Step(90, -1, 0.6, 1.0)])
def test_the_estimate_between_two_levels_is_that_of_ddim(step):
    x_t, x0 = torch.randn(2, 5, dtype=torch.float64)
    eps = (x_t - step.alpha_bar_t**0.5 * x0) / (1 - step.alpha_bar_t) ** 0.5
    x_s, _ = DDIM()(x_t, x0, eps, step, noise=lambda: x_t)
    torch.testing.assert_close(DDIM.x0_between(x_t, x_s, step), x0)


def test_levels_are_every_so_many_of_the_teachers():
    whole = SCHEDULE.steps(20, "linspace")
    few = coarsened(whole, 4)
    assert [step.t for step in few] == [step.t for step in whole[::5]]
    assert [step.s for step in few] == [step.t for step in few[1:]] + [-1]
    assert coarsened(whole, 20) == whole
    assert sampler(4, spacing="linspace", levels=20).steps == few
    with pytest.raises(ValueError, match="20 steps cannot be taken in 3"):
        coarsened(whole, 3)


@pytest.mark.parametrize("rule", [DDIM(), DPMSolverPP2M()])
def test_analytic_a_student_that_knows_the_target_draws_the_teachers_images(rule):
    """From the same noise, N steps of the student end where N runs of the teacher, one in each step, do."""
    teacher, condition = sampler(24, rule, guidance_scale=1.3), batch(3, 8)["condition"]
    prepared = prepare(teacher, 4)

    class Student(nn.Module):
        def forward(self, x, timesteps):
            step = next(one for one in prepared.steps if one.t == timesteps[0])
            within = [one for one in teacher.steps if step.s < one.t <= step.t]
            *_, (_, x_s) = teacher.along(Exact(), x[:, :1], within, None, x[:, 1:])
            return DDIM.x0_between(x[:, :1], x_s, step)

    student = sampler(4, levels=24)
    image = student(condition, Student(), seeds=[1, 2, 3])
    expected = sampler(24, rule, guidance_scale=1.3)(condition, Exact(), seeds=[1, 2, 3])
    # DDIM has no memory, 2M forgets its own at the first level of each step
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5 if isinstance(rule, DDIM) else 0.03)
    plain = sampler(4)(condition, Exact(), seeds=[1, 2, 3])
    assert (plain - expected).abs().mean() > 5 * (image - expected).abs().mean()


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_limit_as_many_steps_as_the_teacher_is_its_own_guided_prediction(prediction_type):
    x_t, step, target, condition = drawn(prepare(sampler(10, guidance_scale=2.0), 10, prediction_type))
    timesteps = torch.full((2,), int(step.t))
    follow, ignore = (Exact()(torch.cat([x_t, one], 1), timesteps) for one in (condition, 0 * condition))
    expected = prediction_of(ignore + 2 * (follow - ignore), x_t, step.alpha_bar_t, prediction_type)
    torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-4)


def test_golden_target_and_weight():
    prepared = prepare(sampler(12, DPMSolverPP2M()), 3, "v_prediction", max_weight=1.5)
    torch.manual_seed(3)
    _, target, _, given = prepared(batch())
    assert int(given["timesteps"][0]) in [step.t for step in prepared.steps]
    assert float(target.sum()) == pytest.approx(GOLDEN_SUM, abs=1e-3)
    assert float(given["scale"].max()) <= 1
    assert not any(parameter.requires_grad for parameter in prepared.network.parameters())


GOLDEN_SUM = -0.10249
