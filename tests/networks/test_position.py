from __future__ import annotations

import pytest
import torch

from common.networks.position import mask_coordinates
from common.networks.unet import ConditionalDiffusionUNet

SMALL = {"channels": (8, 16), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 8}


def mask(sides: tuple[int, ...] = (12, 16), start: tuple[int, ...] = (3, 5)) -> torch.Tensor:
    """Two labels side by side, one-hot, (1, 2, *sides)."""
    labels = torch.zeros(1, 2, *sides)
    box = (slice(start[0], start[0] + 4), slice(start[1], start[1] + 6))
    labels[(0, 0, *box)] = 1
    labels[0, :, start[0], start[1]] = torch.tensor([0.0, 1.0])
    return labels


def test_coordinates_have_mean_0_and_deviation_1_inside_and_are_0_outside() -> None:
    labels = mask()
    inside = labels.sum(1, keepdim=True) > 0
    for found in mask_coordinates(labels).split(1, dim=1):
        values = found[inside]
        assert float(values.mean()) == pytest.approx(0, abs=1e-6)
        assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-6)
        assert not found[~inside].any()


def test_coordinates_move_with_the_mask_and_do_not_know_the_field_of_view() -> None:
    there, here = mask_coordinates(mask(start=(6, 9))), mask_coordinates(mask())
    assert torch.allclose(there, here.roll((3, 4), dims=(2, 3)), atol=1e-6)
    padded = mask_coordinates(torch.nn.functional.pad(mask(), (5, 0, 0, 7)))
    assert torch.allclose(padded[:, :, :12, 5:], here, atol=1e-6)


def test_a_dropped_mask_has_no_position() -> None:
    both = torch.cat([mask(), torch.zeros_like(mask())])
    found = mask_coordinates(both)
    assert torch.isfinite(found).all()
    assert not found[1].any()
    assert torch.equal(found[:1], mask_coordinates(mask()))


def test_the_network_reads_the_coordinates_of_its_mask() -> None:
    torch.manual_seed(0)
    network = ConditionalDiffusionUNet(2, 3, 1, mask_channels=2, refine_channels=8, precision="fp32", **SMALL).eval()
    assert network.conv_in.conv.in_channels == 5
    assert network.example_inputs()["x"].shape[1] == 3
    torch.nn.init.ones_(network.out[-1].conv.weight)
    noisy = torch.rand(1, 1, 12, 16)
    first = network(torch.cat([noisy, mask()], 1), torch.tensor([3]))
    with torch.no_grad():
        network.conv_in.conv.weight[:, -2:] = 0
    assert not torch.allclose(first, network(torch.cat([noisy, mask()], 1), torch.tensor([3])))


@pytest.mark.parametrize("channels", [-1, 4])
def test_refuses_more_channels_of_a_mask_than_there_are(channels: int) -> None:
    with pytest.raises(ValueError, match=r"mask_channels must lie in \[0, 3\]"):
        ConditionalDiffusionUNet(2, 3, 1, mask_channels=channels, **SMALL)
