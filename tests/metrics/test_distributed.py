"""Two gloo processes give what one process gives, also when they have seen different numbers of images."""

from __future__ import annotations

import contextlib
import functools
import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from common.evaluation.catalogue import metrics_by_name
from common.evaluation.report import MetricsReport
from common.features.features import FeatureNetwork
from common.features.registry import NetworkSpec
from common.features.segmenter import Segmenter

NAMES = ["mse", "mae", "psnr", "ssim", "perceptual", "ms_ssim_paired", "ms_ssim", "ms_ssim_real", "mmd", "mmd_rbf"]
NAMES += ["mmd_features", "fid", "kid", "precision", "recall", "density", "coverage", "acutance", "acutance_real"]
NAMES += ["grain", "grain_real", "mask_dice"]
CASES = 17
DEALT = {"even": 9, "uneven": 5}  # cases of the first process


class Stand(nn.Module):
    """Two feature maps and a vector, by fixed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.conv(x).flatten(2).mean(2), x.flatten(2).std(2)], dim=1)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, self.conv(x)]


class Reader(nn.Module):
    """Background and one label by a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.level - x, x - self.level], dim=1)


def metrics(folder: Path) -> dict:
    """Every class that an evaluate.json can name."""
    spec = NetworkSpec(build=Stand, source="this test", licence="none", maps=lambda network, x: network.maps(x))
    features = FeatureNetwork("stand", folder / "stand.pt", registry={"stand": spec})
    reader = Segmenter(Reader(), folder / "reader.pt")
    few = {name: {"num_pairs": 6} for name in ("ms_ssim", "ms_ssim_real")}
    return metrics_by_name(NAMES, {"stand": features}, few, spacing=1.0, segmenter=reader, labels=["inside"])


def case(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Generated, real and mask, (1, 1, 12, 13, 11); like data, each of another seed."""
    noise = torch.randn(2, 1, 1, 12, 13, 11, generator=torch.Generator().manual_seed(number)) * 0.3
    inside = torch.zeros(1, 1, 12, 13, 11)
    inside[..., 3:9, 4 : 8 + number % 3, 2:9] = 1
    return (inside - 0.5 + noise[0]).clamp(-1, 1), (inside - 0.5 + 0.8 * noise[1]).clamp(-1, 1), inside


def collected(folder: Path, numbers: list[int]) -> dict:
    """The report's values and intervals after these cases."""
    made = metrics(folder)
    for number in numbers:
        pred, label, mask = case(number)
        for name, metric in made.items():
            metric(pred, mask if name == "mask_dice" else label)
    ratios = {"grain_ratio": ("grain", "grain_real"), "acutance_ratio": ("acutance", "acutance_real")}
    content = MetricsReport(made, folder, ratios=ratios).collect()
    return {name: (entry["value"], entry["interval95"]) for name, entry in content["metrics"].items()}


def process(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, timedelta(seconds=100), world_size=2, rank=rank)
    try:
        for name, first in DEALT.items():
            numbers = list(range(rank, CASES, 2))  # as a distributed sampler deals
            if name == "uneven":
                numbers = list(range(first, CASES)) if rank else list(range(first))
            torch.save(collected(Path(folder), numbers), f"{folder}/{name}{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


@functools.cache
def free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What one process, and each of two, found."""
    folder = tmp_path_factory.mktemp("metrics")
    torch.manual_seed(0)
    torch.save(Stand().state_dict(), folder / "stand.pt")
    torch.save(Reader().state_dict(), folder / "reader.pt")
    mp.start_processes(process, (str(folder), free_port()), nprocs=2, start_method="fork")
    found = {
        f"{name}{rank}": torch.load(folder / f"{name}{rank}.pt", weights_only=True) for name in DEALT for rank in (0, 1)
    }
    return {"one": collected(folder, list(range(CASES))), **found}


@pytest.mark.parametrize("dealt", DEALT)
def test_both_processes_report_the_same(results, dealt):
    assert results[f"{dealt}0"] == results[f"{dealt}1"]


@pytest.mark.parametrize("dealt", DEALT)
def test_values_are_those_of_one_process(results, dealt):
    one, two = results["one"], results[f"{dealt}0"]
    assert list(one) == list(two)
    assert len(one) == len(NAMES) + 2
    for name, (value, interval) in one.items():
        assert value is not None, name
        assert two[name][0] == pytest.approx(value, rel=1e-6, abs=1e-9), name
        assert (interval is None) == (two[name][1] is None), name


def test_intervals_of_whole_sets_do_not_hang_on_the_number_of_processes(results):
    for name in ("mmd[linear]", "ms_ssim", "kid[stand]", "fid[stand]"):
        assert results["even0"][name][1] == pytest.approx(results["one"][name][1], rel=1e-5), name
