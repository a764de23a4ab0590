"""The registry: its entries, published networks from files and hubs, networks of one's own."""

from __future__ import annotations

import hashlib
from urllib.error import URLError

import pytest
import torch
from monai.networks.nets import resnet as monai_resnet
from torch import nn

from common.features.backbones import PREPROCESSING, caffe_style, radimagenet_resnet50, zscored
from common.features.features import REGISTRY, FeatureNetwork, NetworkSpec
from common.features.registry import SHIPPED, names, spec_of
from common.networks.torchvision import import_torchvision


class Means(nn.Module):
    """A user's network: means of four parts of an image."""

    spatial_dims = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, nn.functional.avg_pool2d(x, 2)]


def means_spec() -> NetworkSpec:
    return NetworkSpec(Means, source="a test", licence="none", spatial_dims=2)


def no_network() -> str:
    return "nothing"


def pictures(n: int = 2, channels: int = 1, side: int = 12) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_entry_says_where_it_comes_from_and_what_it_reads():
    assert {f"med3d_resnet{depth}" for depth in (10, 18, 34, 50)} < set(names(3))
    assert set(names(2)) == {"inception_fid", "inception_tv", "radimagenet_resnet50", "cxr_v1", "brain_v1"}
    assert sorted(names(2) + names(3)) == names() == sorted(REGISTRY)
    for spec in REGISTRY.values():
        assert spec.source
        assert spec.licence
        assert spec.channels in (1, 3)
        assert spec.preprocessing in PREPROCESSING
        assert spec.maps is not None


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    pytest.importorskip("pytorch_fid")
    torch.manual_seed(0)
    network = REGISTRY["inception_fid"].build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save({key: value.half() for key, value in network.state_dict().items()}, path)
    return path


def test_inception_is_that_of_pytorch_fid_from_a_file_without_a_download(inception_file, monkeypatch):
    def no_download(*args, **kwargs):
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_download)
    network = FeatureNetwork("inception_fid", inception_file)
    grey = pictures(1, side=40)
    features = network(grey)

    from pytorch_fid import inception

    monkeypatch.setattr(inception, "fid_inception_v3", lambda: network.network)
    theirs = inception.InceptionV3([0, 3]).eval()
    with torch.no_grad():
        level, expected = theirs((grey.expand(-1, 3, -1, -1) + 1) / 2)
    assert features.shape == (1, 2048)
    torch.testing.assert_close(features, expected.flatten(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.maps(grey)[0], level, rtol=1e-4, atol=1e-5)
    digest = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    assert network.label == f"inception_fid-{digest[:8]}"  # not the published weights, and it shows
    assert network.describe()["sha256"] == digest
    assert "299" in network.describe()["preprocessing"]


def test_weights_of_another_inception_are_refused_with_their_first_keys(inception_file):
    with pytest.raises(
        ValueError, match=r"inception\.pth does not hold the weights of inception_tv: missing: AuxLogits"
    ):
        FeatureNetwork("inception_tv", inception_file)


def test_torchvisions_inception_has_the_layers_that_its_file_has():
    import_torchvision()
    with torch.device("meta"):
        network = REGISTRY["inception_tv"].build()
    assert not network.transform_input  # images come in [-1, 1] already
    assert network.fc.out_features == 1000
    assert network.AuxLogits is not None


def test_radimagenet_is_keras_resnet_and_sees_bgr_less_the_mean():
    network = radimagenet_resnet50()
    assert all(m.bias is not None for m in network.modules() if isinstance(m, nn.Conv2d))
    assert network.layer2[0].conv1.stride == (2, 2)
    assert network.layer2[0].conv2.stride == (1, 1)
    assert network.layer1[0].downsample[1].eps == pytest.approx(1.001e-5)
    red = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(caffe_style(red).flatten(), torch.tensor([-0.406, -0.456, 1 - 0.485]))


def test_radimagenet_loads_from_a_file(tmp_path):
    torch.save({k: v.half() for k, v in radimagenet_resnet50().state_dict().items()}, tmp_path / "rad.pth")
    network = FeatureNetwork("radimagenet_resnet50", tmp_path / "rad.pth")
    grey = pictures(1, side=32)
    torch.testing.assert_close(network(grey), network.maps(grey)[-1].mean((2, 3)))
    assert network(grey).shape == (1, 2048)


@pytest.fixture(scope="module")
def resnet10_file(tmp_path_factory):
    state = REGISTRY["med3d_resnet10"].build().state_dict()
    path = tmp_path_factory.mktemp("hub") / "resnet_10.pth"
    torch.save({"state_dict": {f"module.{key}": value.half() for key, value in state.items()}}, path)
    return path


def test_med3d_comes_from_monais_hub_loader_when_no_file_is_given(resnet10_file, monkeypatch):
    asked = []

    def hub(repo_id, filename, local_files_only=False):
        asked.append((repo_id, filename, local_files_only))
        if filename != resnet10_file.name:
            raise OSError("no such file there")
        return str(resnet10_file)

    monkeypatch.setattr(monai_resnet, "hf_hub_download", hub)
    network = FeatureNetwork("med3d_resnet10")
    assert asked[0] == ("TencentMedicalNet/MedicalNet-Resnet10", "resnet_10_23dataset.pth", False)
    assert asked[-1] == ("TencentMedicalNet/MedicalNet-Resnet10", "resnet_10.pth", True)
    assert network.describe()["weights"] == "resnet_10.pth"
    assert network.sha256 == hashlib.sha256(resnet10_file.read_bytes()).hexdigest()
    assert network(torch.rand(1, 1, 16, 16, 16)).shape == (1, 512)
    assert len(network.maps(torch.rand(1, 1, 16, 16, 16))) == 5


def test_without_a_connection_the_error_names_file_and_place(monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(monai_resnet, "hf_hub_download", offline)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(
        FileNotFoundError, match=r"TencentMedicalNet/MedicalNet-Resnet50 \(file resnet_50_23dataset.pth"
    ):
        FeatureNetwork("med3d_resnet50")
    with pytest.raises(FileNotFoundError, match=r"no route.*pt_inception-2015-12-05-6726825d.pth"):
        FeatureNetwork("inception_fid")
    with pytest.raises(FileNotFoundError, match=r"RadImageNet-ResNet50_notop.pth"):
        FeatureNetwork("radimagenet_resnet50")
    with pytest.raises(FileNotFoundError, match=r"train_segmenter.json"):
        FeatureNetwork("hippocampus_segmenter")


def test_any_module_by_its_factory():
    network = FeatureNetwork(f"{__name__}:Means")
    x = pictures()
    torch.testing.assert_close(network(x)[:, 0], 2 * x[:, 0, :6, :6].mean((1, 2)))
    assert network.label == f"{__name__}:Means"
    assert [m.shape[-1] for m in network.maps(x)] == [12, 6]
    assert network.describe()["sha256"] == FeatureNetwork(f"{__name__}:Means").sha256
    with pytest.raises(ValueError, match="reads 2D images, got 3D"):
        network(torch.zeros(1, 1, 4, 4, 4))


def test_a_factory_may_return_an_entry(tmp_path):
    state = Means().state_dict()
    torch.save({"scale": state["scale"] * 3}, tmp_path / "means.pt")
    name = f"{__name__}:means_spec"
    assert spec_of(name).licence == "none"
    torch.testing.assert_close(
        FeatureNetwork(name, tmp_path / "means.pt")(pictures()), 3 * FeatureNetwork(name)(pictures())
    )
    with pytest.raises(ValueError, match="no feature maps"):
        FeatureNetwork(name).maps(pictures())


def test_bad_names_and_factories():
    with pytest.raises(ValueError, match=r"No feature network at nowhere_at_all:x"):
        spec_of("nowhere_at_all:x")
    with pytest.raises(ValueError, match="must return a torch module or a NetworkSpec, got str"):
        spec_of(f"{__name__}:no_network")
    with pytest.raises(KeyError, match="module:factory"):
        spec_of("inception")
    with pytest.raises(ValueError, match="preprocessing must be one of"):
        NetworkSpec(Means, source="", licence="", preprocessing="whatever")


def test_shipped_files_are_small_and_are_the_registered_ones():
    for name, spec in REGISTRY.items():
        if spec.file is not None:
            path = SHIPPED / spec.file
            assert path.stat().st_size < 2e6, name
            assert hashlib.sha256(path.read_bytes()).hexdigest() == spec.sha256, name


def test_zscore_of_a_constant_image_is_zero():
    assert float(zscored(torch.full((2, 1, 4, 4, 4), 0.3)).abs().max()) < 1e-6
