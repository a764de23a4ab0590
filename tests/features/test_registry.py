"""The registry: its entries, what it says without a connection, networks of one's own."""

from __future__ import annotations

import hashlib
from urllib.error import URLError

import pytest
import torch
from monai.networks.nets import resnet as monai_resnet
from torch import nn

from common.features.features import FeatureNetwork
from common.features.registry import REGISTRY, SHIPPED, NetworkSpec, spec_of


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
    of_2d = {name for name, spec in REGISTRY.items() if spec.spatial_dims == 2}
    assert of_2d == {"inception_fid", "inception_tv", "radimagenet_resnet50", "vgg16", "cxr_v1", "brain_v1"}
    assert {f"med3d_resnet{depth}" for depth in (10, 18, 34, 50)} < set(REGISTRY) - of_2d
    assert REGISTRY["inception_fid"].sha256 == "6726825d"
    for spec in REGISTRY.values():
        assert spec.source
        assert spec.licence
        assert spec.channels in (1, 3, 4)  # four modalities are one image
        assert spec.maps is not None


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
