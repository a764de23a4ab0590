from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from skimage.exposure import equalize_hist

from common.metrics.features import REGISTRY, FeatureNetwork, NetworkSpec, equalise, unet_encoding
from common.metrics.fid import FrechetDistanceMetric, KernelDistanceMetric, fid, kid
from common.metrics.segmenter import build_segmenter

SMALL = {
    "small": NetworkSpec(
        build=lambda: build_segmenter(2, channels=(4, 6, 8)),
        encode=unet_encoding,
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
    spec = NetworkSpec(
        build=SMALL["small"].build, encode=unet_encoding, divisor=4, source="", licence="", sha256="0" * 64
    )
    label = FeatureNetwork("named", weights, registry={"named": spec}).label
    assert label.startswith("named-")
    assert len(label) == len("named-") + 8


def test_streamed_metrics_equal_the_functions(weights):
    network = FeatureNetwork("small", weights, registry=SMALL)
    generated, real = volumes(6, 2), volumes(6, 3)
    streamed = FrechetDistanceMetric(network), KernelDistanceMetric(network)
    for index in range(0, 6, 2):
        for metric in streamed:
            metric(generated[index : index + 2], real[index : index + 2])
    with pytest.warns(UserWarning, match="singular"):
        assert float(streamed[0].aggregate()) == pytest.approx(fid(network(generated), network(real)), rel=1e-6)
    assert float(streamed[1].aggregate()) == pytest.approx(kid(network(generated), network(real)), rel=1e-4)
    streamed[0].reset()
    with pytest.raises(ValueError, match="no images seen"):
        streamed[0].aggregate()


@pytest.mark.parametrize(("depth", "size"), [(10, 512)])
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
    with pytest.raises(ValueError, match="does not hold the weights of hippocampus_segmenter"):
        FeatureNetwork("hippocampus_segmenter", weights)
    network = FeatureNetwork("small", weights, registry=SMALL)
    with pytest.raises(ValueError, match="one channel, got 2"):
        network(torch.zeros(1, 2, 8, 8, 8))
    with pytest.raises(ValueError, match="NaN"):
        network(torch.full((1, 1, 8, 8, 8), float("nan")))
