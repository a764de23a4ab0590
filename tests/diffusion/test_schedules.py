from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from common.diffusion.schedules import SPACINGS, NoiseSchedule, gamma_steps, step_pairs
from common.networks.gamma import FixedLinearGamma

COSINE = NoiseSchedule("cosine", 250)


def test_linear_matches_closed_form() -> None:
    betas = NoiseSchedule("linear", 5, beta_start=0.1, beta_end=0.3).betas
    assert torch.allclose(betas, torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3], dtype=torch.float64), atol=1e-15)


def test_scaled_linear_is_linear_in_its_root() -> None:
    roots = NoiseSchedule("scaled_linear", 100).betas.sqrt()
    assert torch.allclose(roots.diff(), roots.diff()[:1].expand(99), atol=1e-15)
    assert float(roots[0] ** 2) == pytest.approx(1e-4)
    assert float(roots[-1] ** 2) == pytest.approx(0.02)


@pytest.mark.parametrize("total", [250, 1000])
def test_cosine_alpha_bar_matches_equation_17(total: int) -> None:
    schedule = NoiseSchedule("cosine", total)

    def f(t: int) -> float:
        return math.cos((t / total + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [f(t + 1) / f(0) for t in range(total - 1)]
    assert torch.allclose(schedule.alpha_bar[:-1], torch.tensor(expected, dtype=torch.float64), rtol=1e-9)
    assert float(schedule.betas[-1]) == pytest.approx(0.999)


@pytest.mark.parametrize("shift", [-4.0, 2.0])
def test_a_shift_is_added_to_log_snr_at_every_level(shift: float) -> None:
    shifted = NoiseSchedule("cosine", 250, log_snr_shift=shift)
    difference = torch.logit(shifted.alpha_bar) - torch.logit(COSINE.alpha_bar)
    assert torch.allclose(difference[:-1], torch.full((249,), shift, dtype=torch.float64), atol=1e-2)
    assert float(shifted.betas[-1]) == pytest.approx(0.999)
    assert torch.equal(NoiseSchedule("cosine", 250, log_snr_shift=0.0).betas, COSINE.betas)


@pytest.mark.parametrize(("ours", "theirs"), [("linear", "linear_beta"), ("scaled_linear", "scaled_linear_beta")])
def test_agrees_with_monai(ours: str, theirs: str) -> None:
    reference = DDPMScheduler(1000, schedule=theirs, beta_start=1e-4, beta_end=0.02).alphas_cumprod
    assert torch.allclose(NoiseSchedule(ours, 1000).alpha_bar.float(), reference, rtol=1e-4)


def test_tables_are_float64_and_keep_their_precision_after_add_noise() -> None:
    schedule = NoiseSchedule()
    before = schedule.alpha_bar.clone()
    noisy = schedule.add_noise(torch.zeros(2, 1, 3, 3).half(), torch.ones(2, 1, 3, 3).half(), torch.tensor([0, 249]))
    assert noisy.dtype == torch.float16
    assert schedule.alpha_bar.dtype == torch.float64
    assert torch.equal(schedule.alpha_bar, before)


def test_noisy_image_and_velocity_give_back_the_image() -> None:
    schedule = NoiseSchedule()
    image, noise = torch.randn(3, 1, 4, 4, dtype=torch.float64), torch.randn(3, 1, 4, 4, dtype=torch.float64)
    t = torch.tensor([0, 100, 249])
    alpha, sigma = schedule.coefficients(t, image)
    x_t, v = schedule.add_noise(image, noise, t), schedule.get_velocity(image, noise, t)
    assert torch.allclose(alpha * x_t - sigma * v, image, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "total", "options", "message"),
    [
        ("square", 10, {}, "schedule must be one of"),
        ("linear", 0, {}, "at least 1"),
        ("linear", 10, {"beta_end": 1.5}, r"lie in \(0, 1\)"),
    ],
)
def test_refuses_bad_arguments(name: str, total: int, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(name, total, **options)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_pairs_run_from_full_noise_to_clean(spacing: str) -> None:
    for schedule in (COSINE, NoiseSchedule("linear", 1000), NoiseSchedule("linear", 3)):
        total = schedule.num_train_timesteps
        for steps in sorted({1, 2, 3, min(total, 10), total // 2 + 1, total - 1, total}):
            pairs = step_pairs(schedule.alpha_bar, steps, spacing)
            assert len(pairs) == steps
            assert pairs[0][0] == total - 1
            assert pairs[-1][1] == -1
            assert all(t > s for t, s in pairs)
            assert [s for _, s in pairs[:-1]] == [t for t, _ in pairs[1:]]
        assert pairs == [(t, t - 1) for t in reversed(range(total))]


def test_spacings_of_few_steps() -> None:
    levels = {spacing: [t for t, _ in step_pairs(COSINE.alpha_bar, 5, spacing)] for spacing in SPACINGS}
    assert levels["trailing"] == [249, 199, 149, 99, 49]
    assert levels["linspace"] == [249, 187, 124, 62, 0]
    strides = (0.5 * torch.logit(COSINE.alpha_bar))[levels["logsnr"][1:]].diff()
    assert float(strides.std() / strides.mean()) < 0.1


@pytest.mark.parametrize(("steps", "spacing"), [(0, "logsnr"), (251, "linspace"), (5, "leading")])
def test_refuses_numbers_of_steps_and_unknown_spacings(steps: int, spacing: str) -> None:
    with pytest.raises(ValueError, match=r"\[1, 250\].*got|spacing must be one of"):
        step_pairs(COSINE.alpha_bar, steps, spacing)


@pytest.mark.parametrize("start", [0.0, 0.01, 0.5, 1.0])
def test_steps_of_a_variational_model_are_equal_strides_of_time(start: float) -> None:
    steps = gamma_steps(FixedLinearGamma(-6.0, 4.0), 10, start)
    assert len(steps) == (0 if start == 0 else max(round(10 * start), 1))
    assert all(first.s == second.t for first, second in pairwise(steps))
    for step in steps:
        assert step.alpha_bar_t == pytest.approx(1 / (1 + math.exp(step.t)))
        assert step.t - step.s == pytest.approx(10 * start / len(steps), rel=1e-5)
