"""Gradients of convolutions in bf16: where a volume is thin, some CPUs compute them from memory that nothing wrote."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import PatchDiscriminator

from common.features.segmenter import build_segmenter
from common.networks.convolution import SmallVolumeConv3d, with_small_volumes

SHAPES = [(3, 1, 1, (2, 5, 4)), (3, 1, 1, (6, 5, 4)), (4, 2, 1, (5, 2, 4)), (4, 1, 1, (3, 6, 5)), (5, 1, 2, (3, 4, 4))]


@pytest.mark.parametrize(("kernel", "stride", "padding", "sides"), SHAPES)
def test_gradients_in_bf16_are_near_those_in_fp32(kernel, stride, padding, sides):
    torch.manual_seed(0)
    convolution = SmallVolumeConv3d(32, 32, kernel, stride, padding)
    volume = torch.randn(2, 32, *sides)
    expected = torch.autograd.grad(convolution(volume).square().sum(), convolution.parameters())
    for _ in range(5):
        left_over = [torch.full((1 << 20,), torch.nan) for _ in range(4)]
        del left_over
        with torch.autocast("cpu", torch.bfloat16):
            drawn = convolution(volume)
        assert drawn.dtype == torch.bfloat16
        found = torch.autograd.grad(drawn.float().square().sum(), convolution.parameters())
        for ours, theirs in zip(found, expected):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0.03 * float(theirs.abs().max()))


def test_segmenters_and_discriminators_have_these_convolutions_and_their_own_names():
    plain = PatchDiscriminator(3, 8, 2, num_layers_d=2)
    names = list(plain.state_dict())
    for network in (build_segmenter(), with_small_volumes(plain)):
        kinds = {type(module) for module in network.modules() if isinstance(module, torch.nn.Conv3d)}
        assert kinds == {SmallVolumeConv3d}
    assert list(plain.state_dict()) == names
