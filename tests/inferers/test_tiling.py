"""Slices, sizes and tiles do not change what a network says where they need not."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.diffusion.schedules import NoiseSchedule
from common.diffusion.steps import DPMSolverPP2M
from common.inferers.sampler import DiffusionSampler
from common.inferers.tiling import SliceSampler, TiledNetwork


class Local(nn.Module):
    """Predicts each pixel from itself, so that tiles cannot matter; sides must be multiples of 4."""

    divisor = 4

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, timesteps):
        assert len(timesteps) == len(x)
        assert not any(side % self.divisor for side in x.shape[2:])
        self.seen.append(tuple(x.shape))
        return torch.tanh(0.5 * x[:, :1] + x[:, 1:2]) * (1 + timesteps[:, None, None, None] / 1000)


def sampler(**options):
    given = {"step_rule": DPMSolverPP2M(), "num_inference_steps": 4, "progress": False, **options}
    return DiffusionSampler(NoiseSchedule("linear", 50), **given)


def condition(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("size", [(40, 24), (33, 50), (16, 16), (7, 61)])
def test_tiles_give_what_the_whole_gives(size):
    inputs = condition(1, 1, *size)
    whole = SliceSampler(sampler())(inputs, Local())
    network = Local()
    tiled = SliceSampler(sampler(), tile=(16, 20), overlap=0.3, batch_size=3)(inputs, network)
    assert tiled.shape == (1, 1, *size)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-5)
    assert all(a <= 16 and b <= 20 and n <= 3 for n, _, a, b in network.seen)


def test_blended_tiles_have_no_seams():
    class Shifted(Local):
        def forward(self, x, timesteps):
            ramp = torch.linspace(-0.5, 0.5, x.shape[2])[None, None, :, None]
            return super().forward(x * 0, timesteps) + ramp

    inputs = torch.zeros(1, 1, 48, 16)
    blended = TiledNetwork(Shifted(), (32, 16), 0.5)(torch.cat([inputs, inputs], 1), torch.zeros(1))
    steps = blended[0, 0, 1:, 0] - blended[0, 0, :-1, 0]
    assert float(steps.abs().max()) < 0.3, "a cut from one tile to the next would be a step of 0.5"


def test_slices_are_sampled_as_if_alone_whatever_the_batch():
    inputs = condition(2, 1, 12, 9, 5)
    together = SliceSampler(sampler(), batch_size=4)(inputs, Local())
    assert together.shape == (2, 1, 12, 9, 5)
    for case in range(2):
        for index in range(5):
            alone = SliceSampler(sampler(), batch_size=1)(inputs[case : case + 1, ..., index], Local())
            torch.testing.assert_close(together[case, ..., index], alone[0], atol=1e-6, rtol=1e-6)


def test_a_slice_has_the_seed_and_image_of_the_plain_sampler():
    inputs = MetaTensor(condition(1, 1, 12, 8), meta={"filename_or_obj": "a.png"})
    plain, sliced = sampler(seed=3)(inputs, Local()), SliceSampler(sampler(seed=3))(inputs, Local())
    torch.testing.assert_close(sliced.as_tensor(), plain.as_tensor())
    assert sliced.meta["filename_or_obj"] == "a.png"
    assert sliced.meta["seed"] == plain.meta["seed"]


def test_samples_are_channels_and_slices_without_a_hole_are_left_out():
    inputs = torch.cat([condition(1, 1, 8, 8, 4), torch.full((1, 1, 8, 8, 4), -1.0)], 1)
    inputs[:, 1, 2:4, 2:4, 2] = 1
    network = Local()
    drawn = SliceSampler(sampler(num_samples=3), only_where=1)(inputs, network)
    assert drawn.shape == (1, 3, 8, 8, 4)
    assert [bool(drawn[..., index].any()) for index in range(4)] == [False, False, True, False]
    assert not torch.equal(drawn[:, 0, ..., 2], drawn[:, 1, ..., 2])
    assert {shape[0] for shape in network.seen} == {1}


def test_the_mode_of_the_network_is_left_as_it_was():
    for training in (True, False):
        network = Local().train(training)
        SliceSampler(sampler(), tile=8)(condition(1, 1, 16, 16), network)
        assert network.training is training


def test_wrong_tiles_and_shapes_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 4, got \(10, 8\)"):
        SliceSampler(sampler(), tile=(10, 8))(condition(1, 1, 16, 16), Local())
    with pytest.raises(ValueError, match=r"inputs must be .* got \(1, 16, 16\)"):
        SliceSampler(sampler())(condition(1, 16, 16), Local())
    with pytest.raises(ValueError, match="overlap"):
        SliceSampler(sampler(), overlap=1.0)
