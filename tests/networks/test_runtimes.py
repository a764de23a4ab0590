from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from common.bundle import open_bundle
from common.inferers.variational import VariationalSampler
from common.networks import runtimes, sessions
from common.networks.onnx_export import digest, export
from common.networks.runtimes import RuntimeNetwork, check_runtime, on_runtime
from common.networks.unet import ConditionalDiffusionUNet
from common.networks.vdm_dense import dense_vdm
from common.utils import packages
from common.utils.files import sha256_of
from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import restoration
from tests.fixtures import REPOSITORY

WHY = "requirements-runtimes.txt is not installed"
SMALL = {"channels": (8, 16), "attention_levels": (False, True), "num_head_channels": 8, "num_res_blocks": 1}
SMALL |= {"norm_num_groups": 4, "precision": "fp32", "memory_format": "contiguous"}
SHAPES = {"med_cdiff_xray_denoise": (3, 2, 32, 40), "med_ddpm_3d": (2, 3, 16, 24, 16)}


def needs(*packages):
    for package in (*packages, "onnx"):
        pytest.importorskip(package, reason=WHY)


def random_network(spatial_dims=2, **changes):
    torch.manual_seed(0)
    made = ConditionalDiffusionUNet(spatial_dims, 3, 1, **{**SMALL, **changes}).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made


class Scaled(nn.Module):
    """A network that is exported in no time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x, timesteps):
        return self.conv(x) * (1 + timesteps.to(x).reshape(-1, 1, 1, 1))


def call(network):
    with torch.no_grad():
        return network(torch.linspace(0, 1, 3 * 64).reshape(1, 3, 8, 8), timesteps=torch.tensor([3]))


@pytest.fixture
def here(monkeypatch):
    """Runtimes are tried in this process, which is quicker; one test has the process of its own."""

    def tried(inputs, **session):
        return sessions.open_session(**session, shapes={n: v.shape for n, v in inputs.items()})(inputs), 1e-9

    monkeypatch.setattr(runtimes, "try_out", tried)


@pytest.mark.parametrize("bundle", SHAPES)
def test_a_shipped_network_is_the_same_in_fp32(bundle, here, tmp_path):
    needs("onnxruntime", "openvino")
    network = open_bundle(REPOSITORY / "bundles" / bundle, precision="fp32").network.eval()
    x = torch.randn(SHAPES[bundle], generator=torch.Generator().manual_seed(0))  # no cube, and several images
    for runtime in ("onnxruntime", "openvino"):
        compare(network, runtime, x, tmp_path)
    assert len(list(tmp_path.glob("*.onnx"))) == 1  # both read one file, for every size


def compare(network, runtime, x, folder):
    record = {}
    running = on_runtime(network, runtime, folder, record)
    with torch.no_grad():
        first = running(x, timesteps=torch.full((len(x),), 200))
        assert torch.equal(first, network(x, timesteps=torch.full((len(x),), 200)))  # PyTorch's own
        for timesteps, given in ((torch.tensor([3]), x[:1]), (torch.arange(len(x)), x.flip(2))):
            expected = network(given, timesteps=timesteps)
            difference = (running(given, timesteps=timesteps) - expected).square().mean().sqrt() / expected.std()
            assert difference < 2e-6
    assert record["runtime"].startswith(f"{runtime} 2" if runtime == "openvino" else f"{runtime} 1")
    assert record["precision"] == "fp32"
    assert 0 < record["difference"] < 2e-6


@pytest.mark.parametrize(("own", "of_runtime"), [("bf16", "fp32"), ("fp32", "bf16"), ("bf16", "bf16")])
def test_a_runtime_is_compared_with_pytorch_in_the_precision_that_it_computes_in(
    tmp_path, monkeypatch, own, of_runtime
):
    network, other = (random_network(precision=precision) for precision in (own, of_runtime))
    monkeypatch.setattr(RuntimeNetwork, "_file", lambda self, inputs: tmp_path / "x.onnx")
    monkeypatch.setattr(RuntimeNetwork, "_compute", lambda self, runtime, inputs: other(**inputs))
    monkeypatch.setattr(runtimes, "try_out", lambda inputs, **session: (call(other).numpy(), 1e-9))
    running = RuntimeNetwork(network, "onnxruntime", tmp_path)  # which computes in fp32
    if of_runtime == "bf16":
        with pytest.raises(RuntimeError, match=r"differs from PyTorch's by .*, 0\.001 is allowed"):
            call(running)
    else:
        torch.testing.assert_close(call(running), call(network))
        assert running.record["difference"] < 2e-6
        assert network.running_precision() == own


def test_a_folder_that_cannot_be_written_is_enough_where_the_file_lies_there(tmp_path, here, monkeypatch):
    needs("onnxruntime")
    network = Scaled()
    monkeypatch.setattr(
        type(network),
        "example_inputs",
        lambda self: {"x": torch.zeros(1, 3, 8, 8), "timesteps": torch.zeros(1).long()},
        raising=False,
    )
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match="Use --export_dir with a folder that can be written, or --runtime torch"):
        call(RuntimeNetwork(network, "onnxruntime", tmp_path / "file"))

    def full(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(runtimes, "write_json", full)
    running = RuntimeNetwork(network, "onnxruntime", tmp_path / "exported")
    torch.testing.assert_close(call(running), call(network))
    assert not list((tmp_path / "exported").glob("*_tried.json"))


def test_classes_and_variational_models_run_too(tmp_path, here):
    needs("onnxruntime")
    network, classes = random_network(num_class_embeds=3), torch.tensor([2, 0])
    x, t = torch.rand(2, 3, 8, 12), torch.tensor([3, 9])
    running = on_runtime(network, "onnxruntime", tmp_path)
    with torch.no_grad():
        running(x, timesteps=t, class_labels=classes)
        assert running.chosen == "onnxruntime"
        for labels in (classes, classes.flip(0)):
            expected = network(x, timesteps=t, class_labels=labels)
            torch.testing.assert_close(running(x, timesteps=t, class_labels=labels), expected, rtol=1e-4, atol=1e-5)
    model = dense_vdm((8, 8), features=8, score_features=8)
    nn.init.normal_(model.score.linear_out.weight)
    draw = VariationalSampler((8, 8), num_inference_steps=3, progress=False)
    running = on_runtime(model, "onnxruntime", tmp_path)
    drawn = draw(torch.arange(2), running)
    assert running.score.chosen == "onnxruntime"
    torch.testing.assert_close(drawn, draw(torch.arange(2), model), rtol=1e-4, atol=1e-5)
    assert not isinstance(model.score, RuntimeNetwork)


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit of a weight"])
def test_an_exported_network_that_was_damaged_is_made_again(tmp_path, here, caplog, damage):
    needs("onnxruntime")
    network = Scaled()
    expected = call(network)
    call(RuntimeNetwork(network, "onnxruntime", tmp_path))
    path, tried = next(tmp_path.glob("*.onnx")), next(tmp_path.glob("*_tried.json"))
    content = bytearray(path.read_bytes())
    content[content.index(network.conv.bias.detach().numpy().tobytes())] ^= 1
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b""}.get(damage, content))
    tried.write_text("{")
    run = RuntimeNetwork(network, "onnxruntime", tmp_path)
    call(run)
    assert [line for line in caplog.messages if "damaged" in line] == [
        f"{path} is damaged or was altered; it is made again."
    ]
    torch.testing.assert_close(call(run), expected)
    assert path.with_suffix(".sha256").read_text() == f"{sha256_of(path)}  {path.name}\n"


def test_a_process_of_its_own_tries_it_once(tmp_path, monkeypatch):
    needs("onnxruntime")
    monkeypatch.setattr(runtimes, "PACKAGES", {**runtimes.PACKAGES, "openvino": ("no-such-package",)})
    network, record = Scaled(), {}
    call(on_runtime(network, "auto", tmp_path, record))
    (tried,) = tmp_path.glob("*_tried.json")
    ((machine, seconds),) = json.loads(tried.read_text()).items()
    assert machine.startswith("onnxruntime")
    assert seconds > 0
    assert record["runtime"].split()[0] in ("torch", "onnxruntime")  # the faster one
    monkeypatch.setattr(runtimes, "try_out", lambda *args, **kwargs: pytest.fail("tried again"))
    tried.write_text(json.dumps({machine: 1e-9}))
    running = on_runtime(network, "auto", tmp_path, record)
    torch.testing.assert_close(call(running), call(running))  # PyTorch's, then ONNX Runtime's
    assert running.chosen == "onnxruntime"


@pytest.mark.parametrize(
    ("script", "said"), [("import os\nos.kill(os.getpid(), 11)", "signal 11"), ("raise OSError('no')", "no")]
)
def test_a_runtime_that_crashes_is_left_out_or_named(tmp_path, monkeypatch, caplog, script, said):
    needs("openvino")
    (tmp_path / "crash.py").write_text(script)
    monkeypatch.setattr(sessions, "__file__", str(tmp_path / "crash.py"))
    running = on_runtime(Scaled(), "auto", tmp_path)
    call(running)
    assert running.chosen == "torch"
    assert "Not run by openvino" in caplog.text
    assert said in caplog.text
    with pytest.raises(RuntimeError, match=f"runtime openvino: .*{said}.*--runtime torch"):
        call(on_runtime(Scaled(), "openvino", tmp_path))


def test_a_wrong_output_is_refused(tmp_path, monkeypatch):
    needs("onnxruntime")
    network = Scaled()
    monkeypatch.setattr(runtimes, "try_out", lambda inputs, **session: (1.01 * call(network).numpy(), 1))
    with pytest.raises(RuntimeError, match=r"differs from PyTorch's by [\d.e-]+, 0\.001 is allowed"):
        call(on_runtime(network, "onnxruntime", tmp_path))


def test_what_cannot_run_is_refused_before_any_work(monkeypatch):
    with pytest.raises(ValueError, match=r"runtime must be one of .*got 'tensorflow'"):
        check_runtime("tensorflow")
    with pytest.raises(ValueError, match="openvino runs on cpu alone, the device is cuda"):
        check_runtime("openvino", "cuda")
    monkeypatch.setattr(packages, "version_of", lambda name: None if "onnx" in name else "1")
    with pytest.raises(ImportError, match=r"onnxruntime needs onnxruntime and onnx: pip install -r requirements-runt"):
        check_runtime("onnxruntime")
    with pytest.raises(ImportError, match="onnxruntime needs onnxruntime-gpu and onnx"):
        check_runtime("onnxruntime", "cuda")
    with pytest.raises(ImportError, match="An export needs onnx"):
        export(random_network(), "unused")
    with pytest.raises(ValueError, match="Identity takes more than tensors"):
        RuntimeNetwork(nn.Identity(), "compile", "unused")(3)


def test_torch_is_the_network_itself_and_auto_is_torch_without_the_packages(monkeypatch):
    network, record = Scaled(), {}
    assert on_runtime(network, "torch", "unused", record) is network
    assert record == {"runtime": f"torch {torch.__version__}"}
    monkeypatch.setattr(packages, "version_of", lambda name: "2.13.0" if name == "torch" else None)
    running = on_runtime(network, "auto", "unused", record)
    call(running)
    assert (running.chosen, record) == ("torch", {"runtime": "torch 2.13.0"})


def test_the_hash_knows_weights_and_options(tmp_path):
    first, same, other = random_network(), random_network(precision="bf16"), random_network(max_period=1000)
    assert digest(first) == digest(same)
    assert digest(first) != digest(other)
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1e-3
    assert digest(first) != digest(same)


def test_a_bundle_is_exported_and_runs_from_the_file_with_a_record(tmp_path, here, capsys):
    needs("onnxruntime", "openvino")
    root = REPOSITORY / "bundles" / "med_cdiff_xray_denoise"
    torch.manual_seed(0)
    bundle, given = root.name, {"weights": str(tmp_path / "model.pt"), "export_dir": str(tmp_path / "exported")}
    state = restoration(bundle).network_def.state_dict()
    torch.save({name: value + 0.02 * torch.randn_like(value) for name, value in state.items()}, tmp_path / "model.pt")
    restoration(bundle, "export.json", **given, sizes=[[128, 128]]).run()
    (exported,) = (tmp_path / "exported").glob("*_128x128.onnx")
    assert (exported.with_name(f"{exported.stem}_openvino") / "network.xml").is_file()
    capsys.readouterr()
    restoration(bundle, "export.json", **given, sizes=[128, 128], formats="onnx").run()
    assert capsys.readouterr().out.split() == [str(exported)]  # told, though it was there
    outputs = {}
    for runtime in ("torch", "onnxruntime"):
        out = tmp_path / runtime
        restoration(bundle, **given, runtime=runtime, precision="fp32", output_dir=str(out)).run()
        (record,) = (json.loads(path.read_text()) for path in out.glob("*.json"))
        outputs[runtime] = record
    assert len(list((tmp_path / "exported").glob("*.onnx"))) == 1  # that of the size served
    assert "runtime" not in outputs["torch"]
    assert outputs["torch"]["ran_on"] == {"runtime": f"torch {torch.__version__}"}
    assert outputs["onnxruntime"]["runtime"] == "onnxruntime"
    assert outputs["onnxruntime"]["ran_on"]["difference"] < 1e-5
    with refused(FileExistsError, "has no runtime in its record, now it is 'onnxruntime'"):
        restoration(bundle, **given, runtime="onnxruntime", precision="fp32", output_dir=str(tmp_path / "torch")).run()
