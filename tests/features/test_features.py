from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from skimage.exposure import equalize_hist
from torch import nn

from common.features.backbones import unet_maps
from common.features.features import FeatureNetwork, equalise
from common.features.registry import ALL, REGISTRY, NetworkSpec
from common.features.segmenter import Segmenter, build_segmenter
from common.metrics.frechet import FrechetDistanceMetric

SMALL = {
    "small": NetworkSpec(
        build=lambda: build_segmenter(2, channels=(4, 6, 8)),
        maps=unet_maps,
        levels=ALL,
        divisor=4,
        source="here",
        licence="x",
    )
}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    torch.save(SMALL["small"].build().state_dict(), tmp_path / "small.pt")
    return tmp_path / "small.pt"


def volumes(n: int, seed: int, size: tuple[int, ...] = (9, 12, 10)) -> torch.Tensor:
    return torch.rand(n, 1, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equalisation_is_scikit_images_and_a_constant_volume_becomes_zero():
    x = volumes(1, 0)
    expected = 2 * equalize_hist(x[0, 0].numpy()) - 1
    np.testing.assert_allclose(equalise(x)[0, 0], expected, atol=1e-6)
    assert float(equalise(torch.full((1, 1, 4, 4, 4), 0.7)).abs().max()) == 0


def test_equalised_features_do_not_see_a_gamma_curve(weights):
    x = volumes(1, 0)
    bent = ((x + 1) / 2) ** 3 * 2 - 1
    plain = FeatureNetwork("small", weights, registry=SMALL)
    equalised = FeatureNetwork("small", weights, equalise=True, registry=SMALL)
    change = [float((f(x) - f(bent)).norm() / f(x).norm()) for f in (plain, equalised)]
    assert change[1] < 0.2 * change[0]


def test_features_are_the_means_of_every_level(weights):
    network = FeatureNetwork("small", weights, registry=SMALL)
    assert network(volumes(3, 0)).shape == (3, 4 + 6 + 8)
    assert network(volumes(1, 1, (5, 7, 6))).shape == (1, 18)


def test_name_weights_and_preprocessing_stand_in_the_result(weights):
    metric = FrechetDistanceMetric(FeatureNetwork("small", weights, equalise=True, registry=SMALL))
    metric(list(volumes(3, 0)), list(volumes(3, 1)))
    with pytest.warns(UserWarning, match="3 images for 18 features"):
        report = metric.report()
    assert metric.label == "fid[small, equalised]"
    assert report["network"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert report["network"]["histogram_equalised"] is True
    assert report["n"] == {"generated": 3, "real": 3}


def test_other_weights_under_a_registered_name_get_another_label(weights):
    spec = dataclasses.replace(SMALL["small"], sha256="0" * 64)
    label = FeatureNetwork("named", weights, registry={"named": spec}).label
    assert label.startswith("named-")
    assert len(label) == len("named-") + 8


@pytest.mark.parametrize(("depth", "size"), [(10, 512), (18, 512), (50, 2048)])
def test_med3d_weights_load_from_a_users_file(tmp_path, depth, size):
    state = REGISTRY[f"med3d_resnet{depth}"].build().state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "resnet.pth")
    network = FeatureNetwork(f"med3d_resnet{depth}", tmp_path / "resnet.pth")
    features = network(volumes(1, 0, (16, 16, 16)))
    assert features.shape == (1, size)
    assert torch.allclose(features, network(3 * volumes(1, 0, (16, 16, 16)) + 1), atol=1e-4)  # scaled a volume


def test_bad_input(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match="TencentMedicalNet"):
        FeatureNetwork("med3d_resnet50", tmp_path / "resnet_50.pth")
    with pytest.raises(KeyError, match="med3d_resnet50"):
        FeatureNetwork("random", weights)
    with pytest.raises(ValueError, match="as weights of hippocampus_segmenter does not fit UNet"):
        FeatureNetwork("hippocampus_segmenter", weights)
    network = FeatureNetwork("small", weights, registry=SMALL)
    with pytest.raises(ValueError, match="one channel, got 2"):
        network(torch.zeros(1, 2, 8, 8, 8))
    with pytest.raises(ValueError, match="NaN"):
        network(torch.full((1, 1, 8, 8, 8), float("nan")))


def test_maps_are_the_levels_that_the_features_average(weights):
    network = FeatureNetwork("small", weights, registry=SMALL)
    x = volumes(2, 0, (8, 12, 8))
    torch.testing.assert_close(torch.cat([m.mean((2, 3, 4)) for m in network.maps(x)], 1), network(x))


def test_half_precision_weights_are_read_as_single(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    torch.save({k: v.half() for k, v in state.items()}, tmp_path / "half.pt")
    half = FeatureNetwork("small", tmp_path / "half.pt", registry=SMALL)
    assert next(half.network.parameters()).dtype == torch.float32
    torch.testing.assert_close(
        half(volumes(1, 0)), FeatureNetwork("small", weights, registry=SMALL)(volumes(1, 0)), rtol=0.05, atol=0.01
    )


def test_grey_is_repeated_for_a_network_of_three_channels():
    def build() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    spec = NetworkSpec(build, source="here", licence="x", spatial_dims=2, channels=3, hub=None)
    network = FeatureNetwork("a:b", registry={"a:b": spec})
    grey = torch.rand(2, 1, 5, 5)
    torch.testing.assert_close(network(grey), grey.mean((2, 3)).expand(-1, 3))
    assert network(torch.rand(2, 3, 5, 5)).shape == (2, 3)
    with pytest.raises(ValueError, match="one or 3 channels, got 2"):
        network(torch.rand(2, 2, 5, 5))
    with pytest.raises(ValueError, match="reads 2D images, got 3D"):
        network(torch.rand(1, 1, 4, 4, 4))


def test_files_of_another_network_are_refused_with_their_first_keys(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    key = next(iter(state))
    torch.save({**{k: v for k, v in state.items() if k != key}, "extra": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"1 keys missing \({key}\); 1 keys unexpected \(extra\)"):
        FeatureNetwork("small", tmp_path / "other.pt", registry=SMALL)
    torch.save({**state, key: torch.zeros(1)}, tmp_path / "shape.pt")
    with pytest.raises(ValueError, match=rf"of another shape \({key} is \(1,\), expected"):
        FeatureNetwork("small", tmp_path / "shape.pt", registry=SMALL)


@pytest.mark.parametrize(
    "damage", [lambda b: b"no weights", lambda b: b"", lambda b: b[:-200], lambda b: b[:300] + b[308:]]
)
def test_damaged_files_are_named(weights, tmp_path, damage):
    path = tmp_path / "damaged.pt"
    path.write_bytes(damage(weights.read_bytes()))
    for reads in (lambda: FeatureNetwork("small", path, registry=SMALL), lambda: Segmenter(build_segmenter(), path)):
        with pytest.raises(ValueError, match=r"damaged\.pt cannot be read as PyTorch weights"):
            reads()


def test_features_must_be_vectors(weights, tmp_path):
    spec = NetworkSpec(lambda: nn.Conv3d(1, 2, 1), source="here", licence="x")
    torch.save(spec.build().state_dict(), tmp_path / "conv.pt")
    with pytest.raises(ValueError, match=r"must give features \(N, d\)"):
        FeatureNetwork("conv", tmp_path / "conv.pt", registry={"conv": spec})(volumes(1, 0))
