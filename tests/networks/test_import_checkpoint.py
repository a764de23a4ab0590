from __future__ import annotations

import pytest
import torch

from common.networks.import_checkpoint import convert_released, import_checkpoint
from common.networks.unet import ConditionalDiffusionUNet
from common.networks.weights import load_weights
from common.utils.commands import run_commands
from tests import forks
from tests.fixtures import REPOSITORY
from tests.networks.paper import config_network
from tests.networks.released import State, released_forward, released_state

# The paper's networks: whole head, four modalities.
OVERLAYS = ("paper.json", "brats")
# A tenth of the width, the same levels, blocks and attention.
NARROW = {"channels": [8, 8, 16, 24, 32], "num_head_channels": [8, 8, 16, 24, 32], "norm_num_groups": 8}
FP32 = {"precision": "fp32", "memory_format": "contiguous"}


def reference(network: ConditionalDiffusionUNet) -> State:
    """Random weights of the released network that ``network`` stands for."""
    sizes = network.in_channels, network.out_channels, network.block_out_channels
    return released_state(*sizes, network.num_res_blocks[0], network.attention_levels)


def compare(
    overlay: str, swap_axes: bool, dtype: torch.dtype = torch.float32, size=(16, 32, 48), **changes
) -> tuple[float, float]:
    """Largest difference between the released and the converted network's output, and the output's deviation."""
    network = config_network(overlay, **FP32, **changes).eval().to(dtype)
    state = {key: value.to(dtype) for key, value in reference(network).items()}
    network.load_state_dict(convert_released(network, state, "test", swap_axes))
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, network.in_channels, *size, generator=generator).to(dtype), torch.tensor([3, 249])
    with torch.no_grad():
        wanted = released_forward(state, x, t, changes.get("norm_num_groups", 32))
        found = network(x.transpose(2, 4), t).transpose(2, 4) if swap_axes else network(x, t)
    assert 0.1 < wanted.std() < 10
    return float((found - wanted).abs().max()), float(wanted.std())


@pytest.mark.parametrize("swap_axes", [False, True])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_converted_network_predicts_what_the_released_one_does(overlay, swap_axes):
    difference, deviation = compare(overlay, swap_axes, **NARROW)
    assert difference < 1e-5 * deviation


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_converted_network_of_full_width_predicts_what_the_released_one_does(overlay):
    difference, _ = compare(overlay, swap_axes=False, size=(16, 16, 32))
    assert difference < 1e-5
    # In fp32 rounding is about as large as a hundred-thousandth of the output; without it nothing may be left.
    difference, deviation = compare(overlay, swap_axes=True, dtype=torch.float64, size=(16, 16, 32))
    assert difference < 1e-6 * deviation


@pytest.mark.parametrize(("overlay", "tensors", "parameters"), zip(OVERLAYS, (246, 338), (40_226_433, 57_562_564)))
def test_the_papers_networks_have_the_published_size(overlay, tensors, parameters):
    with torch.device("meta"):
        state = config_network(overlay).state_dict()
    assert (len(state), sum(value.numel() for value in state.values())) == (tensors, parameters)


def checkpoint_of(state: dict[str, torch.Tensor], path) -> str:
    ema = {f"denoise_fn.{name}": value for name, value in state.items()} | {"betas": torch.ones(250)}
    torch.save({"step": 3, "model": {}, "ema": ema}, path)
    return str(path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_file_is_converted_for_the_network_of_the_config(overlay, tmp_path):
    network = config_network(overlay, **NARROW)
    source, out = checkpoint_of(reference(network), tmp_path / "released.pt"), tmp_path / "models" / "model.pt"
    said = import_checkpoint(source, str(out))
    assert f"'in_channels': {network.in_channels}, 'out_channels': {network.out_channels}, 'channels': [8, 8," in said
    load_weights(network, out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        import_checkpoint(source, str(out))
    import_checkpoint(source, str(out), overwrite=True)


def test_partial_and_other_checkpoints_are_refused_by_key(tmp_path):
    state = reference(config_network("paper.json", **NARROW))
    out, source = str(tmp_path / "model.pt"), tmp_path / "released.pt"

    def refused(content: State, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            import_checkpoint(checkpoint_of(content, source), out)
        assert not (tmp_path / "model.pt").exists()

    partial = {name: value for name, value in state.items() if not name.startswith("output_blocks.2.0.emb")}
    refused(partial, r"2 keys missing, first denoise_fn\.output_blocks\.2\.0\.emb_layers\.1\.weight")
    refused(state | {"label_emb.weight": torch.ones(1)}, r"1 keys unexpected, first denoise_fn\.label_emb\.weight")
    refused(state | {"time_embed.2.bias": torch.ones(5)}, r"time_embed\.2\.bias is \(5,\), expected \(32,\)")
    refused({"out.2.bias": torch.ones(1)}, r"denoise_fn\.input_blocks\.0\.0\.weight is missing")
    ends = {name: state[name] for name in ("input_blocks.0.0.weight", "out.2.weight")}
    refused(ends, r"denoise_fn\.input_blocks\.1 is missing")
    shallow = {name: value for name, value in state.items() if not name.startswith("input_blocks.7.")}
    refused(shallow, r"denoise_fn\.input_blocks\.7 is missing")
    torch.save({"network": {}}, source)
    with pytest.raises(ValueError, match=r"no entry 'ema'; it holds \['network'\]"):
        import_checkpoint(str(source), out)


def test_command_reports_a_file_that_is_not_there(tmp_path):
    arguments = ["--checkpoint", "absent.pt", "--out", "x.pt"]
    run = forks.module("common.networks.import_checkpoint", arguments, REPOSITORY).wait()
    assert run.returncode != 0
    assert "No weights at absent.pt" in run.stderr


def test_a_mistake_on_the_command_line_ends_in_one_line(tmp_path, capsys):
    command = [str(tmp_path / "none.pt"), str(tmp_path / "out.pt")]
    assert run_commands(import_checkpoint, "common.networks.import_checkpoint", command) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ")
    assert "none.pt" in said
