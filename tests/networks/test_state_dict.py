from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.state_dict import load_weights, save_weights


def network(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))


def test_plain_state_dict_and_checkpoint_entry_load(tmp_path):
    source = network()
    save_weights(source.state_dict(), tmp_path / "new" / "model.pt")
    torch.save({"ema": source.state_dict(), "step": 3}, tmp_path / "checkpoint.pt")
    for path, key in ((tmp_path / "new" / "model.pt", None), (tmp_path / "checkpoint.pt", "ema")):
        loaded = load_weights(network(), path, key)
        assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), source.state_dict().values()))


def test_other_network_is_refused_and_left_alone(tmp_path):
    save_weights(network(4).state_dict(), tmp_path / "model.pt")
    target = network(3)
    before = target[2].bias.clone()
    with pytest.raises(ValueError, match=r"model.pt .*0\.weight is \(4, 2\), expected \(3, 2\)"):
        load_weights(target, tmp_path / "model.pt")
    assert torch.equal(target[2].bias, before)


def test_missing_and_unexpected_keys_are_named(tmp_path):
    state = network().state_dict()
    state["stranger"] = state.pop("2.bias")
    save_weights(state, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"1 keys missing \(2\.bias\); 1 keys unexpected \(stranger\)"):
        load_weights(network(), tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ({"network": {}}, "ema", "no entry 'ema'.*network"),
        ({"ema": {"a": torch.ones(1)}}, None, r"key=, one of \['ema'\]"),
        ([1, 2], None, "no state dict but list"),
    ],
)
def test_wrong_content_is_explained(tmp_path, content, key, message):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        load_weights(network(), tmp_path / "model.pt", key)


def test_missing_truncated_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        load_weights(network(), tmp_path / "absent.pt")
    path = save_weights(network().state_dict(), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match=r"No weights at .*absent\.pt\. Beside it: model\.pt\."):
        load_weights(network(), tmp_path / "absent.pt")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"model\.pt cannot be read"):
        load_weights(network(), path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.pt cannot be read"):
        load_weights(network(), path)
    torch.save(network(), path)
    with pytest.raises(ValueError, match=r"model\.pt cannot be read"):
        load_weights(network(), path)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = save_weights(network().state_dict(), tmp_path / "model.pt")
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_weights({"a": lambda: None}, path)  # type: ignore[dict-item]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
