from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from torch import Tensor, nn

from common.diffusion.schedules import NoiseSchedule
from common.diffusion.seeds import case_seeds, network_divisor, sample_seed
from common.diffusion.steps import DDIM, Ancestral, DPMSolverPP2M
from common.inferers.sampler import DiffusionSampler
from common.utils.images import pad_to_multiple
from tests.fixtures import oblique_affine, two_part_mask

SCHEDULE = NoiseSchedule("cosine", 50)
SHAPE = (9, 6, 7)


class Recorder(nn.Module):
    """A deterministic network that keeps what it was called with; predicts x_0 from x_t, condition and class."""

    def __init__(self, divisor: int = 4) -> None:
        super().__init__()
        self.divisor = divisor
        self.calls: list[dict[str, Any]] = []

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor | None = None) -> Tensor:
        self.calls.append({"x": x, "t": timesteps, "class": class_labels, "training": self.training})
        assert not torch.is_grad_enabled()
        assert all(side % self.divisor == 0 for side in x.shape[2:])
        condition = x[:, 1:].mean(1, keepdim=True) if x.shape[1] > 1 else 0
        shift = 0 if class_labels is None else 0.1 * class_labels.reshape(-1, 1, 1, 1, 1)
        return 0.5 * torch.sin(x[:, :1]) + 0.3 * condition + shift


def conditions(cases: int = 3) -> Tensor:
    return torch.stack(
        [
            torch.stack([torch.from_numpy(two_part_mask(SHAPE, seed=i) == v) * 2.0 - 1 for v in (1, 2)])
            for i in range(cases)
        ]
    )


def sampler(**options: Any) -> DiffusionSampler:
    return DiffusionSampler(
        SCHEDULE, **{"num_inference_steps": 4, "prediction_type": "sample", "progress": False, **options}
    )


def test_image_has_the_shape_of_an_awkward_condition_and_the_range() -> None:
    image = sampler()(conditions(), Recorder())
    assert image.shape == (3, 1, *SHAPE)
    assert image.dtype == torch.float32
    assert float(image.abs().max()) <= 1
    assert float(image.std()) > 0.05


def test_every_step_by_default() -> None:
    network = Recorder()
    sampler(num_inference_steps=None)(conditions(1), network)
    assert [int(call["t"][0]) for call in network.calls] == list(reversed(range(50)))


@pytest.mark.parametrize("rule", [Ancestral(), DDIM(0.5), DPMSolverPP2M()], ids=["ancestral", "ddim", "2m"])
def test_a_case_is_the_same_in_any_batch_and_order(rule: Any) -> None:
    draw = sampler(step_rule=rule)
    batch = conditions()
    together = draw(batch, Recorder())
    turned = draw(batch.flip(0), Recorder()).flip(0)
    alone = torch.cat([draw(batch[i : i + 1], Recorder()) for i in range(3)])
    assert torch.allclose(together, turned, atol=1e-6)
    assert torch.allclose(together, alone, atol=1e-6)
    assert float((together[0] - together[1]).abs().max()) > 0.1


def test_seed_changes_the_image_and_seeds_repeat_it() -> None:
    batch = conditions()
    first = sampler(seed=1)
    image = first(batch, Recorder())
    other = sampler(seed=2)
    assert float((other(batch, Recorder()) - image).abs().max()) > 0.1
    assert torch.equal(other(batch, Recorder(), seeds=first.last_seeds), image)
    assert other.last_seeds == first.last_seeds
    assert torch.equal(other(batch, Recorder(), seeds=torch.tensor(first.last_seeds)), image)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sampler()(conditions(1), Recorder())
    assert torch.equal(torch.get_rng_state(), before)


def test_case_seeds_depend_on_condition_class_and_seed_alone() -> None:
    batch, labels = conditions(), torch.tensor([0, 1, 2])
    seeds = case_seeds(0, batch, labels)
    assert case_seeds(0, batch.flip(0), labels.flip(0)) == seeds[::-1]
    assert not set(seeds) & set(case_seeds(1, batch, labels))
    assert case_seeds(0, batch[:1], labels[1:2]) != seeds[:1]
    with pytest.warns(UserWarning, match="same condition"):
        case_seeds(0, batch[[0, 0]])


def test_padding_is_outside_the_mask_and_cropped_back() -> None:
    network = Recorder(divisor=4)
    batch = conditions(1)
    sampler()(batch, network)
    seen = network.calls[0]["x"][:, 1:]
    assert seen.shape[2:] == (12, 8, 8)
    assert torch.equal(seen[:, :, 1:10, 1:7, :7], batch)
    assert float((seen + 1).sum()) == pytest.approx(float((batch + 1).sum()))


def test_padding_and_crop_of_multiples_are_nothing() -> None:
    tensor = torch.rand(1, 1, 8, 4, 4)
    padded, crop = pad_to_multiple(tensor, 4, -1.0)
    assert torch.equal(padded, tensor)
    assert torch.equal(padded[crop], tensor)


class Wrapper(nn.Module):
    """Holds a network as ``torch.compile`` does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network


def test_divisor_is_found_behind_wrappers() -> None:
    assert network_divisor(Recorder(8)) == 8
    assert network_divisor(nn.DataParallel(Recorder(8))) == 8
    assert network_divisor(Wrapper(nn.DataParallel(Recorder(8)))) == 8
    assert network_divisor(nn.Conv3d(1, 1, 1)) == 1
    assert network_divisor(lambda x, timesteps: x) == 1


@pytest.mark.parametrize("training", [True, False])
def test_network_is_in_eval_mode_and_put_back(training: bool) -> None:
    network = Recorder().train(training)
    sampler()(conditions(1), network)
    assert not any(call["training"] for call in network.calls)
    assert network.training == training


def test_guidance_one_costs_one_pass_and_two_extrapolates() -> None:
    batch = conditions(1)
    plain, guided, free = Recorder(), Recorder(), Recorder()
    sampler(num_inference_steps=1)(batch, plain)
    image = sampler(num_inference_steps=1, guidance_scale=2.0, clip_sample=False)(batch, guided)
    null = sampler(num_inference_steps=1, guidance_scale=0.0)(batch, free)
    assert [len(n.calls) for n in (plain, guided, free)] == [1, 2, 1]
    assert torch.equal(guided.calls[0]["x"], plain.calls[0]["x"])
    assert float(guided.calls[1]["x"][:, 1:].abs().max()) == 0
    assert float(free.calls[0]["x"][:, 1:].abs().max()) == 0
    conditional = sampler(num_inference_steps=1, clip_sample=False)(batch, Recorder())
    assert torch.allclose(image, null + 2 * (conditional - null), atol=1e-5)


def test_noise_scale_scales_what_is_left_of_the_noise() -> None:
    batch, runs = conditions(1), {}
    for scale in (1.0, 1.25):
        run = sampler(step_rule=DDIM(), num_inference_steps=2, intermediates=2, clip_sample=False, noise_scale=scale)
        run(batch, Recorder(divisor=1))
        runs[scale] = run.last_frames
    (s, plain), (_, scaled) = runs[1.0][0], runs[1.25][0]
    recorder = Recorder(divisor=1)
    sampler(num_inference_steps=1)(batch, recorder)
    x_t, t = recorder.calls[0]["x"][:, :1], int(recorder.calls[0]["t"][0])
    alpha, sigma = SCHEDULE.alpha_bar[t].sqrt().float(), (1 - SCHEDULE.alpha_bar[t]).sqrt().float()
    with torch.no_grad():
        eps = (x_t - alpha * Recorder(divisor=1)(torch.cat([x_t, batch], 1), torch.tensor([t]))) / sigma
    assert torch.allclose(scaled - plain, 0.25 * float(1 - SCHEDULE.alpha_bar[s]) ** 0.5 * eps, atol=1e-5)


@pytest.mark.parametrize("rule", [DDIM(), DPMSolverPP2M(), Ancestral()], ids=lambda rule: type(rule).__name__)
def test_noise_scale_leaves_more_variance(rule: Any) -> None:
    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        """The best eps for data of N(0, 0.5^2)."""
        alpha_bar = SCHEDULE.alpha_bar[timesteps[0]].float()
        return (1 - alpha_bar).sqrt() * x[:, :1] / (alpha_bar * 0.5**2 + 1 - alpha_bar)

    options = {"step_rule": rule, "num_inference_steps": 25, "prediction_type": "epsilon", "clip_sample": False}
    plain, more = (
        float(sampler(**options, noise_scale=scale)(torch.zeros(1, 1, 64, 64), network).std()) for scale in (1.0, 1.01)
    )
    assert plain == pytest.approx(0.5, abs=0.05)
    assert 1.01 * plain < more < 1.3 * plain


def test_class_labels_alone_and_with_a_condition() -> None:
    batch, labels = conditions(2), torch.tensor([[1], [2]])
    both, alone = Recorder(), Recorder()
    sampler(guidance_scale=3.0, null_class=4)(batch, both, class_labels=labels)
    assert both.calls[0]["class"].tolist() == [1, 2]
    assert both.calls[1]["class"].tolist() == [4, 4]
    assert both.calls[0]["x"].shape[1] == 3
    image = sampler(concatenate=False)(batch, alone, class_labels=labels)
    assert image.shape == (2, 1, *SHAPE)
    assert alone.calls[0]["x"].shape[1] == 1


def test_several_samples_and_their_maps() -> None:
    batch = conditions(2)
    drawn = sampler(num_samples=3).sample_many(batch, Recorder())
    assert drawn.samples.shape == (3, 2, 1, *SHAPE)
    single = sampler()
    assert torch.allclose(drawn.samples[0], single(batch, Recorder()), atol=1e-6)
    third = sampler()(batch, Recorder(), seeds=[sample_seed(seed, 2) for seed in single.last_seeds])
    assert torch.allclose(drawn.samples[2], third, atol=1e-6)
    assert drawn.seeds[2] == [sample_seed(seed, 2) for seed in single.last_seeds]
    assert float(drawn.std.min()) >= 0
    assert float(drawn.std.mean()) > 0.01
    a, b, c = drawn.samples
    assert torch.allclose(drawn.mean, (a + b + c) / 3, atol=1e-6)
    variance = ((a - drawn.mean) ** 2 + (b - drawn.mean) ** 2 + (c - drawn.mean) ** 2) / 2
    assert torch.allclose(drawn.std, variance.sqrt(), atol=1e-5)
    for output, expected in {
        "samples": torch.cat([a, b, c], 1),
        "mean": drawn.mean,
        "std": drawn.std,
        "mean_std": torch.cat([drawn.mean, drawn.std], 1),
    }.items():
        assert torch.allclose(sampler(num_samples=3, output=output)(batch, Recorder()), expected, atol=1e-6), output


def test_std_of_one_sample_is_zero() -> None:
    assert float(sampler(output="std")(conditions(1), Recorder()).abs().max()) == 0


def test_intermediate_frames_end_in_the_result() -> None:
    draw = sampler(num_inference_steps=10, intermediates=3, num_samples=2)
    image = draw(conditions(1), Recorder())
    levels = [s for s, _ in draw.last_frames]
    assert len(levels) == 3
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == -1
    assert torch.equal(draw.last_frames[-1][1], image[:, :1])
    assert draw.last_frames[0][1].shape == (1, 1, *SHAPE)


def test_metadata_survives_and_decollates_with_the_seed() -> None:
    cases = [
        {"image": MetaTensor(c, affine=torch.tensor(oblique_affine()) * (i + 1), meta={"filename_or_obj": f"{i}.nii"})}
        for i, c in enumerate(conditions(2))
    ]
    batch = list_data_collate(cases)
    draw = sampler()
    batch["pred"] = draw(batch["image"], Recorder())
    for index, case in enumerate(decollate_batch(batch)):
        assert torch.equal(case["pred"].affine, cases[index]["image"].affine)
        assert case["pred"].meta["filename_or_obj"] == f"{index}.nii"
        assert int(case["pred"].meta["seed"]) == draw.last_seeds[index]
        assert "seed" not in case["image"].meta
    assert not isinstance(draw(conditions(1), Recorder()), MetaTensor)


def test_nan_stops_with_the_step() -> None:
    class Broken(Recorder):
        def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor | None = None) -> Tensor:
            prediction = super().forward(x, timesteps)
            return prediction * float("nan") if len(self.calls) == 3 else prediction

    network = Broken().train()
    with pytest.raises(RuntimeError, match=r"NaN or infinity in step 3 of 4 \(t = \d+\)"):
        sampler()(conditions(1), network)
    assert network.training


def test_progress_bar_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    sampler(progress=True)(conditions(1), Recorder())
    assert "4/4" in capsys.readouterr().err
    sampler(progress=False)(conditions(1), Recorder())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 51}, r"\[1, 50\]"),
        ({"num_inference_steps": 0}, r"\[1, 50\]"),
        ({"spacing": "leading"}, "spacing"),
        ({"prediction_type": "noise"}, "prediction_type"),
        ({"output": "median"}, "output"),
        ({"num_samples": 0}, "num_samples"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"intermediates": -1}, "intermediates"),
    ],
)
def test_refuses_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**options)


def test_refuses_bad_inputs() -> None:
    batch = conditions(2)
    with pytest.raises(ValueError, match="null_class is required"):
        sampler(guidance_scale=2.0)(batch, Recorder(), class_labels=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="2 cases need as many class_labels, got 1"):
        sampler()(batch, Recorder(), class_labels=torch.tensor([0]))
    with pytest.raises(ValueError, match="2 cases, 1 seeds"):
        sampler()(batch, Recorder(), seeds=[0])
    with pytest.raises(ValueError, match="float"):
        sampler()(batch.long(), Recorder())
    with pytest.raises(ValueError, match=r"\(N, C, \*spatial\)"):
        sampler()(batch[0, 0, 0], Recorder())


def test_what_is_known_is_kept_outside_the_hole_and_needs_one():
    sampler = DiffusionSampler(NoiseSchedule("cosine", 250), num_inference_steps=3, progress=False)
    condition, known = torch.zeros(1, 2, 8, 8), torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    hole = torch.zeros(1, 1, 8, 8)
    hole[..., 2:5] = 1
    image = sampler(condition, lambda x, timesteps: x[:, :1], known=known, hole=hole)
    assert torch.equal(image[hole == 0], known[hole == 0])
    assert (image[hole == 1] != known[hole == 1]).any()
    with pytest.raises(ValueError, match="go together"):
        sampler(condition, lambda x, timesteps: x[:, :1], known=known)
    with pytest.raises(ValueError, match="of the shapes"):
        sampler(condition, lambda x, timesteps: x[:, :1], known=known, hole=hole[..., 1:])
    with pytest.raises(ValueError, match=r"hole: values in \[0, 1\] were expected, got 0 to 2"):
        sampler(condition, lambda x, timesteps: x[:, :1], known=known, hole=2 * hole)
