"""Weights of a network with fewer conditions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.networks.initial import load_initial
from common.networks.state_dict import save_weights
from common.networks.unet import ConditionalDiffusionUNet


def _network(conditions: int, refine_channels: int = 8) -> ConditionalDiffusionUNet:
    torch.manual_seed(conditions)
    network = ConditionalDiffusionUNet(
        2,
        1 + conditions,
        1,
        patch_size=2,
        refine_channels=refine_channels,
        channels=[8, 16],
        num_res_blocks=1,
        attention_levels=[False, False],
        norm_num_groups=4,
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # the last convolutions start at zero: nothing would be compared
    return network.eval()


@pytest.mark.parametrize("refine_channels", [0, 8])
@pytest.mark.parametrize("conditions", [1, 2, 3])
def test_more_conditions_predict_the_same(tmp_path: Path, refine_channels: int, conditions: int) -> None:
    old, new = _network(1, refine_channels), _network(conditions, refine_channels)
    load_initial(new, save_weights(old.state_dict(), tmp_path / "old.pt"))
    x, steps = torch.randn(2, 1 + conditions, 16, 16), torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(new(x, steps), old(x[:, :2], steps), rtol=1e-4, atol=1e-5)


def test_other_differences_are_refused(tmp_path: Path) -> None:
    file = save_weights(_network(1, refine_channels=0).state_dict(), tmp_path / "old.pt")
    with pytest.raises(ValueError, match="refiner"):
        load_initial(_network(2), file)
    with pytest.raises(ValueError, match=r"conv_in\.conv\.weight"):  # more conditions than the network has
        load_initial(_network(1), save_weights(_network(2).state_dict(), tmp_path / "more.pt"))
