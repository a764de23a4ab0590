from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.networks import lean as lean_module
from common.networks import unet
from common.networks.lean import convolve
from common.networks.unet import ConditionalDiffusionUNet


@pytest.mark.parametrize("sides", [(7, 20, 12), (13, 36, 8)])
def test_convolution_in_slabs_is_the_plain_one(sides):
    """Two inputs whose groups straddle the border between them, a mean far from zero, sides that no slab divides."""
    torch.manual_seed(0)
    inputs = [torch.randn(2, channels, *sides) + 3 for channels in (5, 7)]
    norm, conv, added = nn.GroupNorm(4, 12), nn.Conv3d(12, 6, 3, padding=1), torch.randn(2, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    laid_out = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
    with torch.no_grad():
        found = convolve(laid_out, norm, conv, added)
        plain = convolve(laid_out, None, conv)
        wanted = conv.double()(F.silu(norm.double()(torch.cat(inputs, 1).double()))) + added[:, :, None, None, None]
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5)
        torch.testing.assert_close(plain.double(), conv(torch.cat(inputs, 1).double()), rtol=0, atol=5e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_lean_inference_predicts_what_the_plain_pass_does(blocks, monkeypatch):
    arguments = {"channels": (8, 8, 16), "num_res_blocks": blocks, "attention_levels": (False, False, True)}
    arguments |= {"num_head_channels": 8, "norm_num_groups": 4, "upsample_mode": "linear", "precision": "fp32"}
    torch.manual_seed(0)
    network = ConditionalDiffusionUNet(3, 3, 2, **arguments).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    monkeypatch.setattr(lean_module, "_FEWEST_CHANNELS", 8)
    called = []
    lean = unet.lean_denoise
    monkeypatch.setattr(unet, "lean_denoise", lambda *args: called.append(1) or lean(*args))
    x, t = torch.randn(1, 3, 32, 64, 36), torch.tensor([400])
    with torch.no_grad():
        found = network(x, t)
        network.lean_inference = False
        wanted = network(x, t)
    assert called == [1]
    assert (found - wanted).abs().max() < 5e-5 * wanted.std()
    assert (found - wanted).std() < 5e-6 * wanted.std()
