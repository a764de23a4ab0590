from __future__ import annotations

import pytest
import torch
from monai.networks.nets import ControlNet, DiffusionModelUNet

from common.networks.convolution import SmallVolumeConv3d
from common.networks.device import native_bf16, resolve_memory_format, resolve_precision
from common.networks.unet import ConditionalDiffusionUNet
from tests.networks.paper import config_network

SMALL = {"channels": (8, 16), "attention_levels": (False, True), "num_head_channels": 8, "num_res_blocks": 1}
SMALL |= {"norm_num_groups": 4}
PLAIN = {"precision": "fp32", "memory_format": "contiguous"}


def network(spatial_dims: int = 3, in_channels: int = 3, out_channels: int = 1, **changes) -> ConditionalDiffusionUNet:
    torch.manual_seed(0)
    made = ConditionalDiffusionUNet(spatial_dims, in_channels, out_channels, **{**SMALL, **PLAIN, **changes}).eval()
    for parameter in made.parameters():  # the last convolutions start at zero, which would hide every difference
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def inputs(*sides: int, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, *sides, generator=generator), torch.tensor([3, 400])


@pytest.mark.parametrize("sides", [(8, 12), (4, 8, 6)])
def test_without_switches_it_is_monais_network(sides):
    ours = network(len(sides))
    theirs = DiffusionModelUNet(len(sides), 3, 1, **SMALL).eval()
    theirs.load_state_dict(ours.state_dict())
    x, t = inputs(*sides)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [{"upsample_mode": "linear"}, {"max_period": 1000}])
def test_upsampling_and_period_change_the_prediction_but_no_key(change):
    plain, changed = network(), network(**change)
    changed.load_state_dict(plain.state_dict())
    x, t = inputs(4, 8, 6)
    with torch.no_grad():
        assert (plain(x, t) - changed(x, t)).abs().max() > 1e-3


def gradients(changed: ConditionalDiffusionUNet) -> list[torch.Tensor]:
    x, t = inputs(4, 8, 6)
    changed.zero_grad()
    changed(x, t).square().mean().backward()
    return [parameter.grad.clone() for parameter in changed.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("change", [{"use_checkpointing": True}, {"memory_format": "channels_last"}])
def test_switches_change_neither_prediction_nor_gradients(change):
    plain, changed = network(), network(**change)
    x, t = inputs(4, 8, 6)
    with torch.no_grad():
        torch.testing.assert_close(changed(x, t), plain(x, t), rtol=1e-4, atol=1e-5)
    wanted, found = gradients(plain), gradients(changed)
    assert len(wanted) == len(found) > 20
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bf16_predicts_nearly_the_same_in_the_inputs_dtype():
    x, t = inputs(4, 8, 6)
    with torch.no_grad():
        wanted, found = network()(x, t), network(precision="bf16")(x, t)
    assert found.dtype is torch.float32
    assert 0 < (found - wanted).std() < 0.05 * wanted.std()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_converted_weights_run_in_their_own_dtype(dtype):
    """Whatever ``precision`` says; under autocast to bf16, float16 weights were an error."""
    x, t = inputs(4, 8, 6)
    converted = network(precision="auto", memory_format="auto").to(dtype)
    with torch.no_grad():
        wanted, found = network()(x, t), converted(x, t)
    assert found.dtype is torch.float32
    assert (found - wanted).std() < 0.02 * wanted.std()
    assert converted.running_precision() == {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "fp64")


@pytest.mark.parametrize("overlay", ["paper.json", "brats"])
def test_the_papers_networks_run_in_every_precision_of_the_machine(overlay):
    made = config_network(overlay).eval()
    for parameter in made.parameters():
        if not parameter.any():  # the last convolutions start at zero
            torch.nn.init.normal_(parameter, std=0.02)
    x = torch.randn(1, made.in_channels, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    precisions = ["fp32", "auto"] + ["bf16"] * has_bf16
    outputs = []
    for made.precision in precisions:
        with torch.no_grad():
            outputs.append(made(x, torch.tensor([100])))
    assert made.running_precision("cpu") == precisions[-1 if has_bf16 else 0]
    for found in outputs:
        assert (found - outputs[0]).std() < 0.03 * outputs[0].std()


def test_controlnet_steers_the_network_as_it_does_monais():
    ours, theirs = network(), DiffusionModelUNet(3, 3, 1, **SMALL).eval()
    theirs.load_state_dict(ours.state_dict())
    control = ControlNet(3, 3, conditioning_embedding_num_channels=(8,), **SMALL).eval()
    for parameter in control.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = inputs(4, 8, 6)
    with torch.no_grad():
        down, middle = control(x, t, controlnet_cond=x[:, :1])
        extra = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        found = ours(x, t, **extra)
        torch.testing.assert_close(found, theirs(x, t, **extra), rtol=1e-5, atol=1e-6)
        assert (found - ours(x, t)).abs().max() > 1e-3


def test_a_context_that_would_be_ignored_is_refused():
    x, t = inputs(4, 8, 6)
    context = torch.randn(2, 1, 16)
    with pytest.raises(ValueError, match="with_conditioning=False takes no context"):
        network()(x, t, context=context)
    conditioned = network(with_conditioning=True, cross_attention_dim=16)
    with pytest.raises(ValueError, match="with_conditioning=True needs a context"):
        conditioned(x, t)
    with torch.no_grad():
        assert not torch.equal(conditioned(x, t, context=context), conditioned(x, t, context=context + 1))


def test_fp16_predicts_and_does_not_train():
    x, t = inputs(4, 8, 6)
    with torch.no_grad():
        assert network(precision="fp16")(x, t).isfinite().all()
    with pytest.raises(ValueError, match="'fp16' is for inference"):
        network(precision="fp16").train()(x, t)


@pytest.mark.parametrize(("spatial_dims", "sides"), [(2, (8, 16)), (3, (8, 16, 24))])
def test_folded_input_keeps_the_shape_and_asks_for_larger_multiples(spatial_dims, sides):
    folded = network(spatial_dims, in_channels=3, out_channels=2, patch_size=2)
    assert folded.divisor == 4
    x, t = inputs(*sides)
    with torch.no_grad():
        assert folded(x, t).shape == (2, 2, *sides)
        with pytest.raises(ValueError, match="multiple of 4, got"):
            folded(x[..., :-2], t)


@pytest.mark.parametrize(("spatial_dims", "sides"), [(2, (8, 16)), (3, (8, 16, 24))])
def test_refiner_starts_as_the_identity_and_then_corrects_at_full_resolution(spatial_dims, sides):
    plain = network(spatial_dims, patch_size=2)
    refined = network(spatial_dims, patch_size=2, refine_channels=8)
    refined.load_state_dict(plain.state_dict(), strict=False)
    last = refined.refiner.conv_out.conv
    torch.nn.init.zeros_(last.weight), torch.nn.init.zeros_(last.bias)
    x, t = inputs(*sides)
    with torch.no_grad():
        torch.testing.assert_close(refined(x, t), plain(x, t))
        torch.nn.init.normal_(last.weight)
        assert (refined(x, t) - plain(x, t)).std() > 0.1


@pytest.mark.parametrize(("sides", "classes"), [((16, 24), 3), ((16, 8, 24), None)])
def test_torchscript_gives_the_same_for_other_sides_batches_and_defaults(sides, classes):
    made = network(len(sides), patch_size=2, refine_channels=8, num_class_embeds=classes, channels=(16, 32))
    scripted = torch.jit.script(made)
    x, t = inputs(*sides)
    x, t = torch.cat([x, x[:1] / 2]), torch.tensor([3, 400, 90])
    labels = {} if classes is None else {"class_labels": torch.tensor([2, 0, 1])}
    with torch.no_grad():
        torch.testing.assert_close(scripted(x, t, **labels), made(x, t, **labels))
        torch.testing.assert_close(scripted(x), made(x))
        assert not torch.allclose(made(x), made(x, t, **labels), atol=1e-3)
        if classes:
            with pytest.raises(torch.jit.Error, match="class_labels is required"):
                scripted(x, t)
    with pytest.raises(ValueError, match="timesteps are required in training"):
        made.train()(x)


def test_class_labels_matter_and_are_required():
    labelled = network(num_class_embeds=3)
    x, t = inputs(4, 8, 6)
    with torch.no_grad():
        first, second = (labelled(x, t, class_labels=torch.tensor([c, c])) for c in (0, 1))
        assert not torch.allclose(first, second)
        with pytest.raises(ValueError, match="class_labels is required"):
            labelled(x, t)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": 2, "refine_channels": 12}, "multiple of 8, got 12"),
        ({"patch_size": 2, "refine_channels": 8, "channels": (4, 8)}, "channels\\[0\\] must be a multiple of 8"),
        ({"upsample_mode": "cubic"}, "upsample_mode"),
        ({"precision": "fp8"}, "precision"),
        ({"memory_format": "blocked"}, "memory_format"),
    ],
)
def test_unknown_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        network(**change)


def test_auto_settings_follow_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr("common.networks.device.native_bf16", lambda device: True)
    assert resolve_precision("auto", cpu) is torch.bfloat16
    assert resolve_memory_format("auto", cpu, 3) is torch.channels_last_3d
    assert resolve_memory_format("auto", cpu, 3, torch.float32) is None, "GroupNorm is inaccurate there"
    assert resolve_memory_format("auto", cpu, 2, torch.float32) is torch.channels_last
    monkeypatch.setattr("common.networks.device.native_bf16", lambda device: False)
    assert resolve_precision("auto", cpu) is torch.float32
    assert resolve_memory_format("auto", cpu, 3) is None


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "name", "wins"),
    [
        (True, True, "Intel Xeon", True),
        (False, True, "AMD EPYC", True),
        (False, True, "Intel Xeon", False),
        (False, False, "AMD EPYC", False),
    ],
)
def test_auto_takes_bf16_where_the_cpu_is_faster_in_it(monkeypatch, amx, avx512_bf16, name, wins):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    assert native_bf16(torch.device("cpu")) is wins


@pytest.mark.slow
def test_compiled_in_place_it_predicts_the_same_under_the_same_keys():
    plain, compiled = network(), network()
    compiled.compile(backend="aot_eager")
    x, t = inputs(4, 8, 6)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, t), plain(x, t), rtol=1e-4, atol=1e-5)
    assert list(compiled.state_dict()) == list(plain.state_dict())


def test_an_image_as_narrow_as_the_divisor_runs_in_float32_on_a_cpu():
    """In bfloat16 its last strided convolution gives NaN on some CPUs, or garbage that no run repeats."""
    ours = network(2, 1, precision="bf16")
    x, t = inputs(128, ours.divisor, channels=1)
    with torch.no_grad():
        found = ours(x, t)
        ours.precision = "fp32"
        assert torch.equal(found, ours(x, t))


def test_a_single_small_volume_is_computed_as_one_of_two_and_in_less_time_than_by_unfolding():
    network = ConditionalDiffusionUNet(3, 3, 1, **{**SMALL, "patch_size": 2}, precision="fp32").eval()
    made = [module for module in network.modules() if isinstance(module, torch.nn.Conv3d)]
    assert {type(module) for module in made} == {SmallVolumeConv3d}
    volume, level = torch.rand(1, 3, 16, 16, 16), torch.tensor([9])
    with torch.no_grad(), torch.profiler.profile() as alone:
        single = network(volume, level)
    with torch.no_grad():
        double = network(volume.expand(2, -1, -1, -1, -1), level.expand(2))
    torch.testing.assert_close(single, double[:1], atol=1e-5, rtol=1e-5)
    if torch.backends.mkldnn.is_available():
        unfolding = [event for event in alone.events() if event.name == "aten::slow_conv3d_forward"]
        of_one_voxel = [module for module in made if max(module.kernel_size) == 1]
        assert len(unfolding) <= len(of_one_voxel)
    loss = network.train()(volume, level).sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
