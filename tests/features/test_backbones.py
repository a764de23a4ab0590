"""Published networks from files and hubs, and their preprocessing."""

from __future__ import annotations

import hashlib

import pytest
import torch
from monai.networks.nets import resnet as monai_resnet
from torch import nn

from common.features.backbones import caffe_style, radimagenet_resnet50, zscored
from common.features.features import FeatureNetwork
from common.features.registry import REGISTRY
from common.networks.classifiers import import_torchvision


def pictures(n: int = 2, channels: int = 1, side: int = 12) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


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
    with pytest.raises(ValueError, match=r"inception\.pth as weights of inception_tv .* 14 keys missing \(AuxLogits"):
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

    def hub(repo_id, filename):
        asked.append((repo_id, filename))
        if filename != resnet10_file.name:
            raise OSError("no such file there")
        return str(resnet10_file)

    monkeypatch.setattr(monai_resnet, "hf_hub_download", hub)
    network = FeatureNetwork("med3d_resnet10")
    repo = "TencentMedicalNet/MedicalNet-Resnet10"
    assert asked == [(repo, "resnet_10_23dataset.pth"), (repo, "resnet_10.pth")]
    assert network.describe()["weights"] == "resnet_10.pth"
    assert network.sha256 == hashlib.sha256(resnet10_file.read_bytes()).hexdigest()
    assert network(torch.rand(1, 1, 16, 16, 16)).shape == (1, 512)
    assert len(network.maps(torch.rand(1, 1, 16, 16, 16))) == 5


def test_zscore_of_a_constant_image_is_zero():
    assert float(zscored(torch.full((2, 1, 4, 4, 4), 0.3)).abs().max()) < 1e-6
