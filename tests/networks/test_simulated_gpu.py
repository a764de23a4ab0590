"""What the simulated GPU of the tests allows and refuses is what PyTorch does."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from tests.simulated_gpu import simulated_gpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(autouse=True)
def gpu():
    with simulated_gpu():
        yield


def test_what_is_made_or_moved_there_is_there():
    volume, meta = torch.zeros(2, 3, device="cuda"), MetaTensor(torch.ones(2, 3)).to("cuda")
    there = [
        volume,
        volume + 1,
        torch.zeros_like(volume),
        volume.new_ones(2),
        volume[torch.tensor([1])],
        meta,
        2 * meta,
    ]
    there += [torch.tensor([1], device="cuda"), torch.as_tensor(1, device="cuda"), torch.ones(1).to(volume)]
    there += [meta.to(dtype=torch.float32, device=meta.device), meta.to(torch.float64), meta.clone().to("cuda")]
    assert {str(one.device) for one in there} == {"cuda:0"}
    assert type(2 * meta) is MetaTensor
    here = [volume.cpu(), meta.cpu(), torch.from_numpy(np.ones(3)), torch.ones(2, 3), volume.to("cpu", torch.float64)]
    assert not any(one.is_cuda for one in here)


@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: there + here,
        lambda there, here: torch.cat([there, here]),
        lambda there, here: torch.where(there > 0, here, torch.nan),
        lambda there, here: here[there.long()],
        lambda there, here: torch.nn.functional.linear(here, there),
    ],
    ids=["sum", "cat", "where", "index", "product"],
)
def test_tensors_of_two_devices_are_refused(mix):
    here = torch.ones(3, 3)
    mix(here, here)
    mix(here.cuda(), here.cuda())
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        mix(here.cuda(), here)
    assert (here.cuda() + torch.tensor(1.0)).is_cuda, "a single number goes with all"


def test_numpy_sees_nothing_of_it():
    for make in (lambda value: value.numpy(), np.asarray):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            make(torch.ones(2, device="cuda"))
    assert np.asarray(torch.ones(2, device="cuda").cpu()).tolist() == [1, 1]


def test_a_network_trains_there_and_its_weights_are_copied_saved_and_loaded():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)).to("cuda")
    first, _ = network(torch.rand(2, 1, 8, 8, device="cuda")).split(2, dim=1)
    first.sum().backward()  # PyTorch fills in zeros for the other half
    torch.optim.Adam(network.parameters()).step()
    assert all(parameter.grad.is_cuda for parameter in network.parameters())
    assert all(value.is_cuda for value in copy.deepcopy(network).state_dict().values())
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    for place in ("cpu", "cuda"):
        file.seek(0)
        state = torch.load(file, map_location=place, weights_only=True)
        assert {value.device.type for value in state.values()} == {place}
    with torch.autocast("cuda", torch.bfloat16):
        assert network(torch.rand(2, 1, 8, 8, device="cuda")).dtype == torch.bfloat16
