from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from common.networks.import_checkpoint import convert_released, import_checkpoint, load_generative_weights
from common.networks.med_ddpm import ARGUMENTS, med_ddpm
from common.networks.state_dict import load_weights
from tests.fixtures import REPOSITORY
from tests.networks.released import released_forward, released_state

# A tenth of the width, the same levels, blocks and attention.
NARROW = {"channels": (8, 8, 16, 24, 32), "num_head_channels": (8, 8, 16, 24, 32), "norm_num_groups": 8}


def reference(variant: str, channels: tuple[int, ...]) -> dict[str, torch.Tensor]:
    arguments = ARGUMENTS[variant]
    sizes = arguments["in_channels"], arguments["out_channels"], channels
    return released_state(*sizes, arguments["num_res_blocks"], arguments["attention_levels"])


def compare(variant: str, swap_axes: bool, dtype: torch.dtype = torch.float32, **changes) -> tuple[float, float]:
    """Largest difference between the released and the converted network's output, and the output's deviation."""
    arguments = ARGUMENTS[variant] | changes
    state = {key: value.to(dtype) for key, value in reference(variant, arguments["channels"]).items()}
    network = med_ddpm(variant, precision="fp32", memory_format="contiguous", **changes).eval()
    network = network.to(dtype)
    network.load_state_dict(convert_released(network, state, "test", swap_axes))
    x = torch.randn(2, ARGUMENTS[variant]["in_channels"], 16, 32, 48, generator=torch.Generator().manual_seed(1)).to(
        dtype
    )
    t = torch.tensor([3, 249])
    with torch.no_grad():
        wanted = released_forward(state, x, t, arguments["norm_num_groups"])
        found = network(x.transpose(2, 4), t).transpose(2, 4) if swap_axes else network(x, t)
    assert 0.1 < wanted.std() < 10
    return float((found - wanted).abs().max()), float(wanted.std())


@pytest.mark.parametrize("swap_axes", [False, True])
@pytest.mark.parametrize("variant", ["head", "brats"])
def test_converted_network_predicts_what_the_released_one_does(variant, swap_axes):
    difference, deviation = compare(variant, swap_axes, **NARROW)
    assert difference < 1e-5 * deviation


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["head", "brats"])
def test_converted_network_of_full_width_predicts_what_the_released_one_does(variant):
    difference, _ = compare(variant, swap_axes=False)
    assert difference < 1e-5
    # In fp32 rounding is about as large as a hundred-thousandth of the output; without it nothing may be left.
    difference, deviation = compare(variant, swap_axes=True, dtype=torch.float64)
    assert difference < 1e-6 * deviation


@pytest.mark.parametrize(("variant", "tensors", "parameters"), [("head", 246, 40_226_433), ("brats", 338, 57_562_564)])
def test_presets_have_the_published_size(variant, tensors, parameters):
    with torch.device("meta"):
        state = med_ddpm(variant).state_dict()
    assert (len(state), sum(value.numel() for value in state.values())) == (tensors, parameters)


def checkpoint_of(state: dict[str, torch.Tensor], path) -> str:
    ema = {f"denoise_fn.{name}": value for name, value in state.items()} | {"betas": torch.ones(250)}
    torch.save({"step": 3, "model": {}, "ema": ema}, path)
    return str(path)


@pytest.fixture
def narrow_presets(monkeypatch):
    """Presets of a tenth of the width, so that whole checkpoints are small."""
    for variant in ARGUMENTS:
        monkeypatch.setitem(ARGUMENTS, variant, ARGUMENTS[variant] | NARROW)


@pytest.mark.parametrize("variant", ["head", "brats"])
def test_file_is_detected_converted_and_loads(variant, narrow_presets, tmp_path):
    source = checkpoint_of(reference(variant, NARROW["channels"]), tmp_path / "released.pt")
    out = tmp_path / "models" / "model.pt"
    assert f"Med-DDPM {variant}" in import_checkpoint(source, str(out))
    load_weights(med_ddpm(variant), out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        import_checkpoint(source, str(out))
    import_checkpoint(source, str(out), overwrite=True)


def test_partial_other_and_unknown_checkpoints_are_refused_by_key(narrow_presets, tmp_path):
    state = reference("head", NARROW["channels"])
    out, source = str(tmp_path / "model.pt"), tmp_path / "released.pt"

    def refused(content: dict[str, torch.Tensor], message: str, **kwargs) -> None:
        with pytest.raises(ValueError, match=message):
            import_checkpoint(checkpoint_of(content, source), out, **kwargs)
        assert not (tmp_path / "model.pt").exists()

    partial = {name: value for name, value in state.items() if not name.startswith("output_blocks.2.0.emb")}
    refused(partial, r"2 keys missing, first denoise_fn\.output_blocks\.2\.0\.emb_layers\.1\.weight")
    refused(state | {"label_emb.weight": torch.ones(1)}, r"1 keys unexpected, first denoise_fn\.label_emb\.weight")
    refused(state | {"time_embed.2.bias": torch.ones(5)}, r"time_embed\.2\.bias is \(5,\), expected \(32,\)")
    refused(state, r"keys missing, first denoise_fn\.input_blocks\.2\.", variant="brats")
    refused({"out.2.bias": torch.ones(1)}, r"denoise_fn\.input_blocks\.0\.0\.weight is missing")
    five = torch.ones(8, 5, 3, 3, 3)
    refused(
        state | {"input_blocks.0.0.weight": five}, "from 5 to 1 channels; known variants: head 3 to 1, brats 8 to 4"
    )
    refused(state, "variant must be one of", variant="knee")
    torch.save({"network": {}}, source)
    with pytest.raises(ValueError, match=r"no entry 'ema', but \['network'\]"):
        import_checkpoint(str(source), out)


def test_command_reports_a_file_that_is_not_there(tmp_path):
    command = [
        sys.executable,
        "-m",
        "common.networks.import_checkpoint",
        "--checkpoint",
        "absent.pt",
        "--out",
        "model.pt",
    ]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode != 0
    assert "No weights at absent.pt" in run.stderr


def generative_state(network: DiffusionModelUNet) -> dict[str, torch.Tensor]:
    """The network's weights under the keys of monai-generative 0.2.3, with its unused projections."""
    old = {}
    for name, value in network.state_dict().items():
        for part in ("to_q", "to_k", "to_v"):
            name = name.replace(f".attn.{part}.", f".{part}.")
        old[name.replace(".postconv.", ".conv.")] = value
        if name.endswith(".to_q.weight"):
            old[name.replace("to_q", "proj_attn")] = torch.ones_like(value)
            old[name.replace("to_q.weight", "proj_attn.bias")] = torch.ones(len(value))
    return old


def test_monai_generative_weights_load_strictly_and_as_monai_loads_them(tmp_path):
    arguments = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": (8, 16), "num_res_blocks": 1}
    arguments |= {"num_head_channels": 8, "norm_num_groups": 8, "attention_levels": (False, True), "include_fc": False}
    source, ours, theirs = (DiffusionModelUNet(**arguments) for _ in range(3))
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    old = generative_state(source)
    assert set(old) != set(source.state_dict())
    torch.save({"model": old}, tmp_path / "old.pt")
    load_generative_weights(ours, tmp_path / "old.pt", "model")
    theirs.load_old_state_dict(dict(old))
    for name, value in source.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
        assert torch.equal(theirs.state_dict()[name], value)
    torch.save({name: value for name, value in old.items() if name != "out.2.conv.bias"}, tmp_path / "part.pt")
    with pytest.raises(ValueError, match=r"1 keys missing \(out\.2\.conv\.bias\)"):
        load_generative_weights(ours, tmp_path / "part.pt")
