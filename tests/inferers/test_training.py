from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.diffusion.schedules import NoiseSchedule
from common.inferers.training import PREDICTION_TYPES, ConditionalPrepareBatch, TrainingInferer

SCHEDULE = NoiseSchedule("cosine", 250)


def batch(cases: int = 4, dtype: torch.dtype = torch.float32) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(cases, 1, 3, 4, 5, generator=generator, dtype=dtype) * 2 - 1,
        "label": torch.randint(2, (cases, 2, 3, 4, 5), generator=generator) * 2.0 - 1,
        "class": torch.arange(cases)[:, None] % 3,
    }


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_target_and_noisy_image_give_back_image_and_noise(prediction_type):
    data = batch(dtype=torch.float64)
    prepare = ConditionalPrepareBatch(SCHEDULE, prediction_type, "label")
    image, target, args, kwargs = prepare(data)
    noise, t = kwargs["noise"], kwargs["timesteps"]
    alpha_bar = SCHEDULE.alpha_bar[t].reshape(-1, 1, 1, 1, 1)
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t = alpha * image + sigma * noise
    given = {
        "epsilon": lambda: ((x_t - sigma * target) / alpha, target),
        "sample": lambda: (target, (x_t - alpha * target) / sigma),
        "v_prediction": lambda: (alpha * x_t - sigma * target, sigma * x_t + alpha * target),
    }
    x_0, eps = given[prediction_type]()
    assert args == ()
    torch.testing.assert_close(image, data["image"])
    torch.testing.assert_close(x_0, image, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(eps, noise, atol=1e-6, rtol=1e-6)


def test_every_noise_level_is_drawn():
    prepare = ConditionalPrepareBatch(NoiseSchedule("linear", 4), condition_name="label")
    torch.manual_seed(0)
    levels = torch.cat([prepare(batch())[3]["timesteps"] for _ in range(50)])
    assert torch.bincount(levels, minlength=4).min() > 30
    assert int(levels.max()) == 3


def test_the_share_of_dropped_conditions():
    cases = 2000
    data = {"image": torch.zeros(cases, 1, 2, 2, 2), "label": torch.ones(cases, 2, 2, 2, 2)}
    prepare = ConditionalPrepareBatch(SCHEDULE, condition_name="label", condition_dropout=0.1)
    torch.manual_seed(0)
    condition = prepare(data)[3]["condition"].flatten(1)
    dropped = (condition == 0).all(1)
    assert bool((dropped | (condition == 1).all(1)).all()), "a case is dropped as a whole or not at all"
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.025)
    assert bool((data["label"] == 1).all()), "the batch itself is left as it was"


def test_nothing_is_dropped_without_dropout():
    data = batch()
    kwargs = ConditionalPrepareBatch(SCHEDULE, condition_name="label")(data)[3]
    assert torch.equal(kwargs["condition"], data["label"])
    assert "class_labels" not in kwargs


def test_mask_and_class_are_dropped_together():
    data = batch(400)
    prepare = ConditionalPrepareBatch(
        SCHEDULE, condition_name="label", class_name="class", condition_dropout=0.5, null_class=3
    )
    torch.manual_seed(0)
    kwargs = prepare(data)[3]
    no_mask = (kwargs["condition"] == 0).flatten(1).all(1)
    no_class = kwargs["class_labels"] == 3
    assert torch.equal(no_mask, no_class)
    assert 120 < int(no_class.sum()) < 280
    assert torch.equal(kwargs["class_labels"][~no_class], data["class"].flatten()[~no_class])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_type": "noise"}, "prediction_type must be one of"),
        ({"condition_dropout": 1.0}, r"\[0, 1\)"),
        ({"class_name": "class", "condition_dropout": 0.1}, "null_class is required"),
        ({"timestep_power": 0.0}, "timestep_power must be positive"),
        ({"max_weight": -1.0}, "max_weight must be positive"),
    ],
)
def test_options_outside_their_range(options, message):
    with pytest.raises(ValueError, match=message):
        ConditionalPrepareBatch(SCHEDULE, **options)


def test_metadata_stays_outside_the_training_step():
    data = batch()
    image, target, _, kwargs = ConditionalPrepareBatch(SCHEDULE, condition_name="label")(
        {key: MetaTensor(value) for key, value in data.items()}
    )
    assert not any(isinstance(value, MetaTensor) for value in (image, target, kwargs["condition"]))


def test_the_network_sees_noisy_image_condition_step_and_class():
    data = batch()
    prepare = ConditionalPrepareBatch(SCHEDULE, condition_name="label", class_name="class")
    image, _, _, kwargs = prepare(data)
    seen: dict = {}

    def network(x, timesteps, class_labels):
        seen.update(x=x, timesteps=timesteps, class_labels=class_labels)
        return x[:, :1]

    prediction = TrainingInferer(SCHEDULE)(image, network, **kwargs)
    x_t = SCHEDULE.add_noise(image, kwargs["noise"], kwargs["timesteps"])
    torch.testing.assert_close(prediction, x_t)
    assert torch.equal(seen["x"][:, 1:], data["label"])
    assert torch.equal(seen["timesteps"], kwargs["timesteps"])
    assert torch.equal(seen["class_labels"], data["class"].flatten())


def test_small_timesteps_are_drawn_more_often():
    prepare = ConditionalPrepareBatch(NoiseSchedule("linear", 100), timestep_power=2.0)
    torch.manual_seed(0)
    drawn = prepare.get_timesteps(torch.zeros(20000, 1))
    assert (int(drawn.min()), int(drawn.max())) == (0, 99)
    for level in (4, 25, 64):  # P(t < T a) = sqrt(a)
        assert float((drawn < level).float().mean()) == pytest.approx((level / 100) ** 0.5, abs=0.015)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_weight_of_x_0_is_capped(prediction_type):
    cases, cap = 400, 5.0
    data = {"image": torch.zeros(cases, 1, 2, 2, dtype=torch.float64)}
    prepare = ConditionalPrepareBatch(SCHEDULE, prediction_type, max_weight=cap)
    torch.manual_seed(0)
    image, target, _, kwargs = prepare(data)
    t = kwargs["timesteps"]
    alpha_bar = SCHEDULE.alpha_bar[t]
    alpha, sigma = (scale.reshape(-1, 1, 1, 1) for scale in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
    error = 0.1  # of x_0; what each prediction would be with it
    x_t, x0_hat = sigma * kwargs["noise"], torch.full_like(image, error)
    eps_hat = (x_t - alpha * x0_hat) / sigma
    wrong = {"sample": x0_hat, "epsilon": eps_hat, "v_prediction": alpha * eps_hat - sigma * x0_hat}[prediction_type]
    prediction = TrainingInferer(SCHEDULE)(image, lambda x, timesteps: wrong, **kwargs)
    loss = (prediction - target).square().mean((1, 2, 3)) / error**2
    snr = alpha_bar / (1 - alpha_bar)
    uncapped = {"sample": torch.ones_like(snr), "epsilon": snr, "v_prediction": 1 + snr}[prediction_type]
    torch.testing.assert_close(loss, uncapped.clamp(max=cap), rtol=1e-5, atol=1e-7)
    assert prediction_type == "sample" or bool((uncapped > cap).any() and (uncapped < cap).any())
