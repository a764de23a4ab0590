from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.unet import ConditionalDiffusionUNet
from common.networks.weights import load_initial, load_weights, save_weights


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v * float("nan"), "4 keys with NaN or infinite values"),
        (lambda v: v / 0, "4 keys with NaN or infinite values"),
        (lambda v: v.long(), "4 keys of another type"),
        (lambda v: v.to(torch.complex64), "4 keys of another type"),
    ],
)
def test_values_that_no_network_can_have_are_refused(tmp_path, change, said):
    save_weights({name: change(value) for name, value in network().state_dict().items()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model.pt does not fit .*{said} \(0.weight, "):
        load_weights(network(), tmp_path / "model.pt")


def test_a_file_that_is_none_of_weights_is_not_said_to_be_opened_otherwise(tmp_path):
    (tmp_path / "a.pt").write_text("no weights")
    torch.save(network(), tmp_path / "b.pt")
    torch.jit.save(torch.jit.trace(network(), torch.zeros(1, 2)), tmp_path / "c.pt")
    for name in "abc":
        with pytest.raises(ValueError, match=rf"{name}.pt cannot be read .*\(not what torch.save writes") as error:
            load_weights(network(), tmp_path / f"{name}.pt")
        assert "weights_only" not in str(error.value)


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


def test_half_precision_is_for_matrices_alone_and_the_same_weights_give_the_same_bytes(tmp_path):
    source = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    files = [save_weights(source, tmp_path / f"{name}.pt", half=True) for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    dtypes = {name: value.dtype for name, value in torch.load(files[0], weights_only=True).items()}
    assert dtypes == {"0.weight": torch.float16} | dict.fromkeys(("0.bias", "1.weight", "1.bias"), torch.float32)
    assert load_weights(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), files[0])[0].weight.dtype is torch.float32


def denoiser(conditions: int, refine_channels: int = 8) -> ConditionalDiffusionUNet:
    torch.manual_seed(conditions)
    arguments = {"channels": [8, 16], "num_res_blocks": 1, "attention_levels": [False, False], "norm_num_groups": 4}
    arguments |= {"patch_size": 2, "refine_channels": refine_channels}
    made = ConditionalDiffusionUNet(2, 1 + conditions, 1, **arguments)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)  # the last convolutions start at zero: nothing would be compared
    return made.eval()


@pytest.mark.parametrize("refine_channels", [0, 8])
@pytest.mark.parametrize("conditions", [1, 2, 3])
def test_more_conditions_predict_the_same(tmp_path, refine_channels, conditions):
    old, new = denoiser(1, refine_channels), denoiser(conditions, refine_channels)
    load_initial(new, save_weights(old.state_dict(), tmp_path / "old.pt"))
    x, steps = torch.randn(2, 1 + conditions, 16, 16), torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(new(x, steps), old(x[:, :2], steps), rtol=1e-4, atol=1e-5)


def test_other_differences_are_refused(tmp_path):
    file = save_weights(denoiser(1, refine_channels=0).state_dict(), tmp_path / "old.pt")
    with pytest.raises(ValueError, match="refiner"):
        load_initial(denoiser(2), file)
    with pytest.raises(ValueError, match=r"conv_in\.conv\.weight"):  # more conditions than the network has
        load_initial(denoiser(1), save_weights(denoiser(2).state_dict(), tmp_path / "more.pt"))
