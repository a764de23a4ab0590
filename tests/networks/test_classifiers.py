"""The eight classifiers: sizes as published, grey and colour, and ImageNet weights that are never made up."""

from __future__ import annotations

import pytest
import torch

from common.networks.classifiers import ARCHITECTURES, chosen_architectures, cnn, import_torchvision

# Of a thousand classes, as torchvision's documentation of the weights has them; GoogLeNet without auxiliary outputs.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "alexnet": 61_100_840,
    "densenet121": 7_978_856,
    "mobilenet_v2": 3_504_872,
    "googlenet": 6_624_904,
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_has_the_published_size(architecture):
    with torch.device("meta"):
        network = cnn(architecture, 1000)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[architecture]


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_of_other_sizes_pass_and_others_are_refused(channels):
    network = cnn("mobilenet_v2", 3, channels).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, channels, 64, 80)).shape == (2, 3)
    for wrong in ((2, 4 - channels, 64, 64), (2, channels, 63, 64)):
        with pytest.raises(ValueError, match="sides of at least 64"):
            network(torch.zeros(wrong))


def test_grey_is_read_as_the_same_image_in_colour():
    networks = [cnn("mobilenet_v2", 2, channels).eval() for channels in (1, 3)]
    networks[1].load_state_dict(networks[0].state_dict())
    grey = torch.rand(1, 1, 64, 64) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(networks[0](grey), networks[1](grey.expand(1, 3, 64, 64)))


@pytest.mark.parametrize("architecture", ["densenet121", "mobilenet_v2"])
def test_weights_of_imagenet_are_kept_but_for_the_last_layer(architecture, tmp_path):
    published = import_torchvision().models.get_model(architecture, weights=None).state_dict()
    # As the old file of DenseNet has them.
    old = {
        name.replace("norm1.", "norm.1.").replace("conv1.", "conv.1.") if "denselayer" in name else name: value
        for name, value in published.items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(old, tmp_path / f"{architecture}-0123.pth")
    torch.save({}, tmp_path / f"{architecture}_bn-0123.pth")
    found = cnn(architecture, 5, imagenet=tmp_path).cnn.state_dict()
    assert found["classifier.weight" if architecture == "densenet121" else "classifier.1.weight"].shape[0] == 5
    kept = [name for name in published if not name.startswith("classifier")]
    assert all(torch.equal(found[name], published[name]) for name in kept)


def test_flat_mobilenet_without_its_last_layer(tmp_path):
    """The layout of the network's first PyTorch version, in which blocks are flat lists of layers."""
    published = import_torchvision().models.mobilenet_v2(weights=None).state_dict()
    flat = {}
    for block in range(19):
        start = f"features.{block}."
        names = [name for name in published if name.startswith(start)]
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        if 1 <= block <= 17:  # convolution, normalisation, activation, ...; the last pair has no activation
            numbers = [0, 1, 3, 4] if block == 1 else [0, 1, 3, 4, 6, 7]
            new = dict(zip(layers, (f"{start}conv.{number}" for number in numbers), strict=True))
        else:
            new = {layer: layer for layer in layers}
        flat.update({f"{new[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": published[n] for n in names})
    torch.save(flat, tmp_path / "wts.pt")
    found = cnn("mobilenet_v2", 4, imagenet=tmp_path / "wts.pt").cnn.state_dict()
    assert found["classifier.1.weight"].shape == (4, 1280)
    assert all(torch.equal(found[name], value) for name, value in published.items() if name.startswith("features"))
    torch.save({**flat, "classifier.1.bias": torch.zeros(1000)}, tmp_path / "half.pt")
    with pytest.raises(ValueError, match=r"does not fit.*classifier\.1\.weight"):
        cnn("mobilenet_v2", 4, imagenet=tmp_path / "half.pt")


def test_missing_weights_and_wrong_names_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"resnet18-\*\.pth"):
        cnn("resnet18", 2, imagenet=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        cnn("mobilenet_v2", 2, imagenet=tmp_path / "none.pth")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not fit"):
        cnn("mobilenet_v2", 2, imagenet=tmp_path / "other.pth")
    with pytest.raises(ValueError, match="resnet19"):
        cnn("resnet19", 2)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        cnn("resnet18", 2, channels=2)


def test_architectures_by_name():
    assert chosen_architectures("all") == list(ARCHITECTURES)
    assert chosen_architectures("vgg16, resnet18") == ["vgg16", "resnet18"]
    with pytest.raises(ValueError, match="lenet"):
        chosen_architectures("resnet18,lenet")
