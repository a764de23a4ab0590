"""Each rule: analytic (Gaussian data, known denoiser), limits, and a golden full loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

from common.diffusion.schedules import SPACINGS, NoiseSchedule, Step
from common.diffusion.steps import DDIM, PREDICTION_TYPES, Ancestral, DPMSolverPP2M, StepRule, denoise, to_x0_and_eps
from common.inferers.sampler import DiffusionSampler

COSINE = NoiseSchedule("cosine", 250)
MEAN = -0.3
RULES: dict[str, StepRule] = {
    "beta_tilde": Ancestral("beta_tilde"),
    "beta": Ancestral("beta"),
    "ddim": DDIM(),
    "ddim_half": DDIM(0.5),
    "dpm": DPMSolverPP2M(),
}


def draws(seed: int, like: Tensor) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(like.shape, generator=generator, dtype=like.dtype)


def run(
    rule: StepRule,
    predict: Callable[[Tensor, int], Tensor],
    steps: int,
    x: Tensor,
    prediction_type: str = "sample",
    schedule: NoiseSchedule = COSINE,
    clip: bool = False,
    spacing: str = "logsnr",
) -> Tensor:
    """The last x of the sampling loop."""
    *_, (_, image) = denoise(x, schedule.steps(steps, spacing), predict, rule, draws(1, x), prediction_type, clip)
    return image


def denoiser(std: float) -> Callable[[Tensor, int], Tensor]:
    """E[x_0 | x_t] of N(MEAN, std^2) data."""

    def predict(x: Tensor, t: int) -> Tensor:
        a = float(COSINE.alpha_bar[t])
        return MEAN + a**0.5 * std**2 / (a * std**2 + 1 - a) * (x - a**0.5 * MEAN)

    return predict


# Largest relative error of the standard deviation with the exact denoiser. These are the rules' own errors on data of
# std 0.2 and 0.5, not those of the implementation: beta_tilde, "beta" and DDIM are of first order, 2M of second.
TOLERANCE = {
    "beta_tilde": {5: 0.53, 10: 0.32, 20: 0.18, 50: 0.08, 100: 0.05, 250: 0.045},
    "beta": {5: 1.2, 10: 0.45, 20: 0.2, 50: 0.08, 100: 0.04, 250: 0.02},
    "ddim": {5: 0.39, 10: 0.2, 20: 0.1, 50: 0.045, 100: 0.03, 250: 0.02},
    "dpm": {5: 0.13, 10: 0.035, 20: 0.015, 50: 0.01, 100: 0.01, 250: 0.01},
}


@pytest.mark.parametrize("std", [0.2, 0.5])
@pytest.mark.parametrize("name", list(TOLERANCE))
def test_analytic_mean_and_std_with_the_exact_denoiser(name: str, std: float) -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x - x.mean()) / x.std()
    for steps, tolerance in TOLERANCE[name].items():
        image = run(RULES[name], denoiser(std), steps, x)
        assert float(image.mean()) == pytest.approx(MEAN, abs=0.02 * std), steps
        assert float(image.std()) == pytest.approx(std, rel=tolerance), steps


@pytest.mark.parametrize(("steps", "spacing"), [*((n, s) for n in (2, 5, 20) for s in SPACINGS), (250, "logsnr")])
@pytest.mark.parametrize("rule", [Ancestral(), DDIM(), DDIM(0.5), DDIM(1.0)], ids=["ancestral", "0", "0.5", "1"])
def test_analytic_exact_at_every_n_when_x0_is_drawn_from_its_posterior(
    rule: StepRule, steps: int, spacing: str
) -> None:
    """With x_0 ~ p(x_0 | x_t) in place of its mean, both rules keep every marginal, however long the steps are."""
    std = 0.2
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    extra = draws(302, x)

    def predict(x: Tensor, t: int) -> Tensor:
        a = float(COSINE.alpha_bar[t])
        spread = (std**2 * (1 - a) / (a * std**2 + 1 - a)) ** 0.5
        return denoiser(std)(x, t) + spread * extra()

    image = run(rule, predict, steps, x, spacing=spacing)
    assert float(image.mean()) == pytest.approx(MEAN, abs=0.04 * std)
    assert float(image.std()) == pytest.approx(std, rel=0.02)


def curved(x: Tensor, t: int) -> Tensor:
    """A deterministic stand-in for a network, not linear in x or t."""
    return 0.7 * torch.sin(x + 0.01 * t) + 0.1 * x.roll(1, -1)


@pytest.mark.parametrize("schedule", [COSINE, NoiseSchedule("linear", 100)], ids=["cosine", "linear"])
@pytest.mark.parametrize("variance", ["beta_tilde", "beta"])
def test_limit_all_steps_is_the_papers_algorithm(variance: str, schedule: NoiseSchedule) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = run(Ancestral(variance), curved, schedule.num_train_timesteps, x, "epsilon", schedule)
    noise = draws(1, x)
    betas = schedule.betas.tolist()
    for t in reversed(range(len(betas))):  # Med-DDPM, Algorithm 2 and eq. 3
        alpha_bar = float(torch.prod(1 - schedule.betas[: t + 1]))
        x = (x - betas[t] / (1 - alpha_bar) ** 0.5 * curved(x, t)) / (1 - betas[t]) ** 0.5
        if t > 0:
            previous = float(torch.prod(1 - schedule.betas[:t]))
            sigma2 = betas[t] if variance == "beta" else betas[t] * (1 - previous) / (1 - alpha_bar)
            x = x + sigma2**0.5 * noise()
    assert torch.allclose(ours, x, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(("variance", "theirs"), [("beta_tilde", "fixed_small"), ("beta", "fixed_large")])
def test_limit_all_steps_agrees_with_monai(variance: str, theirs: str, prediction_type: str) -> None:
    schedule = NoiseSchedule("linear", 100)
    reference = DDPMScheduler(
        100,
        schedule="linear_beta",
        beta_start=1e-4,
        beta_end=0.02,
        variance_type=theirs,
        clip_sample=True,
        prediction_type=prediction_type,
    )
    x = torch.randn(1, 1, 200, generator=torch.Generator().manual_seed(0))
    ours = run(Ancestral(variance), curved, 100, x, prediction_type, schedule, clip=True)
    generator = torch.Generator().manual_seed(1)
    for t in reversed(range(100)):
        x, _ = reference.step(curved(x, t), t, x, generator=generator)
    assert torch.allclose(ours, x, atol=2e-3)


@pytest.mark.parametrize("steps", [1, 7, 250])
def test_limit_ddim_of_eta_one_is_ancestral(steps: int) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ddim, ancestral = (run(rule, curved, steps, x, clip=True) for rule in (DDIM(1.0), Ancestral()))
    assert torch.allclose(ddim, ancestral, atol=1e-6)


def test_limit_2m_is_ddim_while_x0_hat_stays_the_same() -> None:
    x, x_0 = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = None
    for step in (Step(3, 2, 0.01, 0.2), Step(2, 1, 0.2, 0.6), Step(1, 0, 0.6, 0.9)):
        eps = (x - step.alpha_bar_t**0.5 * x_0) / (1 - step.alpha_bar_t) ** 0.5
        ddim, _ = DDIM()(x, x_0, eps, step, draws(0, x))
        x, state = DPMSolverPP2M()(x, x_0, eps, step, draws(0, x), state)
        assert torch.allclose(x, ddim, atol=1e-12)


def test_2m_runs_share_no_state() -> None:
    rule = DPMSolverPP2M()
    x = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = run(rule, curved, 6, x)
    run(rule, curved, 3, -x)
    assert torch.equal(run(rule, curved, 6, x), first)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("total", [250, 1000])
def test_2m_is_stable_on_cosine_schedules(total: int, spacing: str) -> None:
    schedule = NoiseSchedule("cosine", total)
    x = torch.randn(500, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 5, 20, total):
        image = run(DPMSolverPP2M(), curved, steps, x, "epsilon", schedule, clip=True, spacing=spacing)
        assert float(image.abs().max()) <= 1, steps


def test_refuses_unknown_options() -> None:
    with pytest.raises(ValueError, match="variance must be"):
        Ancestral("learned")
    with pytest.raises(ValueError, match="eta must lie"):
        DDIM(1.5)
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        to_x0_and_eps(torch.zeros(1), torch.zeros(1), 0.5, "score")


def noisy(alpha_bar: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 2, 1, 4, 5, generator=generator, dtype=torch.float64)
    return x_0, eps, alpha_bar**0.5 * x_0 + (1 - alpha_bar) ** 0.5 * eps


@pytest.mark.parametrize("alpha_bar", [0.999, 0.5, 4e-8])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_true_prediction_gives_true_image_and_noise(prediction_type: str, alpha_bar: float) -> None:
    x_0, eps, x_t = noisy(alpha_bar)
    v = alpha_bar**0.5 * eps - (1 - alpha_bar) ** 0.5 * x_0
    prediction = {"epsilon": eps, "sample": x_0, "v_prediction": v}[prediction_type]
    x0_hat, eps_hat = to_x0_and_eps(prediction, x_t, alpha_bar, prediction_type)
    assert torch.allclose(x0_hat, x_0, atol=1e-8)
    assert torch.allclose(eps_hat, eps, atol=1e-8)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_clipping_keeps_image_and_noise_consistent(prediction_type: str) -> None:
    _, _, x_t = noisy(0.3)
    x0_hat, eps_hat = to_x0_and_eps(3 * torch.ones_like(x_t), x_t, 0.3, prediction_type, clip=True)
    assert float(x0_hat.abs().max()) == 1
    assert torch.allclose(0.3**0.5 * x0_hat + 0.7**0.5 * eps_hat, x_t, atol=1e-12)


# Sum and sum of squares of the image after 10 steps; frozen, to be read beside the analytic tests above.
GOLDEN: dict[tuple[str, str], tuple[float, float]] = {
    ("beta_tilde", "epsilon"): (-75.8589, 119.563),
    ("beta_tilde", "sample"): (-58.4861, 20.4911),
    ("beta_tilde", "v_prediction"): (-32.2367, 42.0895),
    ("beta", "epsilon"): (-57.6058, 135.221),
    ("beta", "sample"): (-58.8192, 23.0811),
    ("beta", "v_prediction"): (-33.5538, 94.4829),
    ("ddim", "epsilon"): (-144.677, 201.951),
    ("ddim", "sample"): (-40.2118, 22.9454),
    ("ddim", "v_prediction"): (-48.4683, 35.0366),
    ("ddim_half", "epsilon"): (-116.058, 185.301),
    ("ddim_half", "sample"): (-43.0372, 21.5513),
    ("ddim_half", "v_prediction"): (-41.2364, 42.3545),
    ("dpm", "epsilon"): (-117.631, 194.388),
    ("dpm", "sample"): (-58.5741, 24.4577),
    ("dpm", "v_prediction"): (-36.1442, 55.5306),
}


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", list(RULES))
def test_golden_full_loop(name: str, prediction_type: str) -> None:
    image = golden_image(name, prediction_type)
    assert (float(image.sum()), float(image.square().sum())) == pytest.approx(GOLDEN[name, prediction_type], rel=1e-3)


def golden_image(name: str, prediction_type: str) -> Tensor:
    sampler = DiffusionSampler(COSINE, RULES[name], 10, prediction_type, progress=False)
    condition = torch.linspace(-1, 1, 2 * 6 * 7 * 8).reshape(1, 2, 6, 7, 8)

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        return 0.7 * torch.sin(x[:, :1] + x[:, 1:2] * x[:, 2:]) + 0.002 * timesteps.reshape(-1, 1, 1, 1, 1)

    return sampler(condition, network, seeds=[7]).double()


@pytest.mark.parametrize("rule", [Ancestral(), DDIM(), DPMSolverPP2M()])
def test_what_is_known_stays_and_the_rest_is_drawn(rule):
    steps = NoiseSchedule("cosine", 250).steps(10, "linspace")
    image = torch.linspace(-1, 1, 8).reshape(1, 1, 8)
    where = torch.tensor([True, False] * 4).reshape(1, 1, 8)
    noise = torch.Generator().manual_seed(0)
    seen = []
    for step, x in denoise(
        torch.randn(1, 1, 8, generator=noise),
        steps,
        lambda x, t: torch.zeros_like(x),
        rule,
        lambda: torch.randn(1, 1, 8, generator=noise),
        "sample",
        known=(image, where),
    ):
        seen.append((step, x))
    assert torch.equal(seen[-1][1][where], image[where])
    assert (seen[-1][1][~where] == 0).all()  # what the network says there
    step, x = seen[-2]  # nearly clean: the known voxels are near their image
    assert ((x - image)[where].abs() < 6 * (1 - step.alpha_bar_s) ** 0.5).all()


def test_what_is_known_for_a_share_of_the_steps_is_drawn_in_the_others():
    steps = NoiseSchedule("cosine", 250).steps(10, "linspace")
    image, noise = torch.ones(1, 1, 4), torch.randn(1, 1, 4, generator=torch.Generator().manual_seed(0))
    known = (image, torch.tensor([[[1.0, 0.5, 0.0, 0.5]]]))
    states = [noise]
    levels = []
    for step, x in denoise(
        noise, steps, lambda x, t: torch.zeros_like(x), DDIM(), lambda: noise, "sample", known=known
    ):
        states.append(x)
        levels.append(((1 - step.alpha_bar_s) / (1 - step.alpha_bar_t)) ** 0.5)
    # DDIM adds the estimate to the noise that is left, and the network's estimate is 0
    added = [after - level * before for level, before, after in zip(levels, states, states[1:], strict=False)]
    from_image = torch.stack(added)[:, 0, 0].abs() > 1e-4
    half = [True] * 5 + [False] * 5
    assert from_image.T.tolist() == [[True] * 10, half, [False] * 10, half]
