"""What the configs of all bundles have in common: each thing is written once, in files of a readable size."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out
from monai.data import load_net_with_metadata

from common.data.image_file import check_same
from common.networks.weights import load_weights
from tests import forks
from tests.bundles.inference_runs import TINY
from tests.fixtures import REPOSITORY

FOLDERS = {path.name: path for path in sorted((REPOSITORY / "bundles").iterdir()) if (path / "configs").is_dir()}
BUNDLES = pytest.mark.parametrize("bundle", FOLDERS)
FILES = sorted(path for folder in FOLDERS.values() for path in (folder / "configs").glob("*.json"))
OWN = {path.relative_to(REPOSITORY / "bundles").as_posix(): path for path in FILES if not path.is_symlink()}
VOCABULARY = {
    *("bundle_root", "device", "dataset_dir", "output_dir", "network_def", "network", "preprocessing", "dataset"),
    *("dataloader", "inferer", "postprocessing", "handlers", "evaluator", "checkpointloader", "initialize", "run"),
}
# what the plain app of MONAI Label sets in a training config
SET_BY_LABEL = ("bundle_root", "device", "train#trainer#max_epochs", "train#dataset#data", "train#handlers")
SET_BY_LABEL += ("validate#dataset#data",)


def read(bundle, name):
    return ConfigParser.load_config_file(FOLDERS[bundle] / "configs" / f"{name}.json")


def workflow(bundle, kind):
    name = {"train": "train", "inference": "inference"}[kind]
    file = str(FOLDERS[bundle] / "configs" / f"{name}.json")
    run = ConfigWorkflow([file], workflow_type=kind, logging_file=False, device="$torch.device('cpu')")
    run.initialize()
    return run


def test_no_config_is_long_and_no_overlay_is_no_overlay():
    lines = {name: len(path.read_text().splitlines()) for name, path in OWN.items()}
    alone = {name for name, path in OWN.items() if "bundle_root" in json.loads(path.read_text())}
    alone |= {name for name in OWN if name.endswith(("metadata.json", *LARGER))}
    assert sum(lines.values()) <= 5570
    assert {name: number for name, number in lines.items() if number > 200} == {}
    assert {name: lines[name] for name in set(OWN) - alone if lines[name] > OVERLAY} == {}


OVERLAY = 60
LARGER = ("evaluate.json",)


def test_nothing_is_there_twice():
    files, parts = defaultdict(list), defaultdict(list)
    for name, path in OWN.items():
        files[path.read_bytes()].append(name)
        for key, value in json.loads(path.read_text()).items():
            if key == "network_def":
                parts[json.dumps({**value, "bundle": path.parts[-3]})].append(name)
    assert [names for names in (*files.values(), *parts.values()) if len(names) > 1] == []


def test_the_path_of_the_code_is_asked_for_at_most_once_a_component():
    def count(value):
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return sum(map(count, items)) + (isinstance(value, dict) and "_requires_" in value)

    found = {f"{name}: {key}": count(value) for name, path in OWN.items() for key, value in read_own(path)}
    assert {place: number for place, number in found.items() if number > 1} == {}


def read_own(path):
    return json.loads(path.read_text()).items()


@BUNDLES
@pytest.mark.parametrize("kind", ["train", "inference"])
def test_a_bundle_knows_its_folder_wherever_it_is_asked_and_has_every_key(bundle, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = workflow(bundle, kind)
    assert run.parser.get_parsed_content("bundle_root") == str(FOLDERS[bundle])
    if kind == "inference":  # the tests of training do it with data
        assert run.check_properties() == []
    assert set(read(bundle, "inference")) >= VOCABULARY
    assert read(bundle, "train")["precision"] == read(bundle, "inference")["precision"] == "auto"
    assert [key for key in SET_BY_LABEL if key not in ConfigParser(read(bundle, "train"))] == []


PARSE = """
import sys
from monai.bundle import ConfigParser
for folder in sys.argv[1:]:
    for key in ("network_def", "preprocessing", "inferer", "postprocessing", "evaluator"):
        sys.path[:] = [path for path in sys.path if "bundles" not in path]
        for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
            del sys.modules[name]
        parser = ConfigParser(ConfigParser.load_config_file(folder + "/configs/inference.json"))
        parser.update({"bundle_root": folder, "cases": [], "device": "cpu"})
        assert parser.get_parsed_content(key) is not None, key
"""


def test_components_are_built_without_a_workflow(tmp_path):
    """As MONAI Deploy and MONAI's own checks of a network do."""
    run = forks.code(PARSE, FOLDERS.values(), tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]


def test_without_a_workflow_the_root_is_that_of_the_imported_code(tmp_path, monkeypatch):
    """Never the working folder, whose name would get into the record of what made an image."""
    folder = FOLDERS["med_ddpm_3d"]
    code = "import sys; from monai.bundle import ConfigParser as P\nsys.path[1:1] = sys.argv[2:]\n"
    code += "print(P(P.load_config_file(sys.argv[1] + '/configs/inference.json')).get_parsed_content('bundle_root'))"
    found = forks.code(code, [folder, folder], tmp_path)
    assert found.stdout.strip() == str(folder), found.stderr[-2000:]
    lost = forks.code(code, [folder], tmp_path)
    assert lost.returncode != 0
    assert "No module named 'scripts'" in lost.stderr


SCHEDULE = {"_target_": "scripts.diffusion.schedules.NoiseSchedule", "schedule": "scaled_linear"}


@BUNDLES
@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("SAMPLER#noise_scale", (1.0, 1.25)),
        ("SAMPLER#clip_sample", (True, False)),
        ("SAMPLER#spacing", ("linspace", "logsnr")),
        ("noise_schedule", (SCHEDULE, {**SCHEDULE, "beta_end": 0.03})),
    ],
)
def test_what_changes_an_image_stands_in_its_record(bundle, key, values, monkeypatch):
    """Else a second run with another setting would take the images of the first for its own."""
    if bundle == "med_vdm_cxr" and key != "SAMPLER#clip_sample":
        pytest.skip("its schedule is learned, and levels of even times need no factor")
    key = key.replace("SAMPLER", "sampler" if "sampler" in read(bundle, "inference") else "inferer")
    check_that_a_rerun_is_refused(bundle, ["inference"], {}, key, values, monkeypatch)


@pytest.mark.parametrize(
    ("bundle", "overlay", "given", "key", "values"),
    [
        ("med_ddpm_3d", "inference", {"output_format": "dicom"}, "body_part", ("BRAIN", "HEAD")),
        ("med_vdm_cxr", "reconstruct", {}, "intensity_max", (255.0, 4095.0)),
        ("med_vdm_cxr", "interpolate", {}, "intensity_max", (255.0, 4095.0)),
    ],
)
def test_what_changes_a_file_stands_in_its_record(bundle, overlay, given, key, values, monkeypatch):
    check_that_a_rerun_is_refused(bundle, ["inference", overlay], given, key, values, monkeypatch)


def check_that_a_rerun_is_refused(bundle, names, given, key, values, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDERS[bundle]))
    files = [str(FOLDERS[bundle] / "configs" / f"{name}.json") for name in names]
    records = []
    for value in values:
        parser = ConfigParser(ConfigParser.load_config_files(files))
        parser.update({"bundle_root": str(FOLDERS[bundle]), "device": "cpu", "dataset_dir": "nowhere", **given})
        parser[key] = value
        records.append(json.loads(json.dumps(parser.get_parsed_content("provenance"), default=str)))
    with pytest.raises(FileExistsError, match="--overwrite True"):
        check_same("image.png", *records)


@BUNDLES
def test_metadata_fits_the_schema_and_the_network(bundle, tmp_path, monkeypatch):
    formats = read(bundle, "metadata")["network_data_format"]
    for side in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert list(side["channel_def"]) == [str(i) for i in range(side["num_channels"])]
    if bundle != "med_vdm_cxr":  # whose dense network is of the size of its images
        monkeypatch.chdir(FOLDERS[bundle])
        files = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}
        verify_net_in_out("network_def", **files, device="cpu", n=1, bundle_root=".", **TINY)
    schema = REPOSITORY.parent / "shared" / "schema" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("the metadata schema is not at hand")
    copy = str(shutil.copy(schema, tmp_path / "schema.json"))
    verify_metadata(meta_file=str(FOLDERS[bundle] / "configs" / "metadata.json"), filepath=copy)
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps({**read(bundle, "metadata"), "version": 1}))
    with pytest.raises(ValueError, match="1 is not of type 'string'"):
        verify_metadata(meta_file=str(broken), filepath=copy)


@pytest.mark.parametrize("bundle", [name for name, path in FOLDERS.items() if (path / "models" / "model.pt").is_file()])
def test_the_weights_become_torchscript_by_monais_command(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDERS[bundle])
    monkeypatch.syspath_prepend(str(FOLDERS[bundle]))
    root = {"bundle_root": str(FOLDERS[bundle]), "config_file": str(FOLDERS[bundle] / "configs" / "inference.json")}
    ckpt_export("network_def", filepath=str(tmp_path / "model.ts"), **root, device="cpu")
    formats = read(bundle, "metadata")["network_data_format"]["inputs"]["image"]
    sides = [side if isinstance(side, int) else 24 for side in formats["spatial_shape"]]
    scripted, meta, _ = load_net_with_metadata(str(tmp_path / "model.ts"))
    assert meta["version"] == read(bundle, "metadata")["version"]
    parser = ConfigParser(read(bundle, "inference"))
    parser.update({"bundle_root": str(FOLDERS[bundle]), "device": "cpu", "precision": "fp32"})
    network = load_weights(parser.get_parsed_content("network_def"), FOLDERS[bundle] / "models" / "model.pt").eval()
    x = torch.rand(1, formats["num_channels"], *sides)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x), rtol=1e-3, atol=1e-4)


@BUNDLES
def test_train_and_inference_agree_where_both_must_say_it(bundle):
    train, inference = read(bundle, "train"), read(bundle, "inference")
    both = {"labels", "optional_labels", "spacing", "prediction_type", "spatial_size", "classes", "channels", "gamma"}
    both |= {"bundle_root", "code_path", "from_study", "out_channels", "condition_channels", "conditional", "b_max"}
    assert {key: train[key] for key in both & set(train) & set(inference)} == {
        key: inference[key] for key in both & set(train) & set(inference)
    }
    for key in {"network_def", "noise_schedule"} & set(inference):
        assert train[key]["item"] == f"inference.json::{key}", "written once, in inference.json"


def test_a_network_is_written_once_and_changed_by_the_same_keys():
    changed = {"network_def#channels": [8, 8, 16], "network_def#norm_num_groups": 4, "network_def#num_head_channels": 8}
    shapes = []
    for name in ("train", "inference"):
        parser = ConfigParser(read("med_ddpm_3d", name))
        parser.update({"bundle_root": str(FOLDERS["med_ddpm_3d"]), **changed})
        shapes.append({k: v.shape for k, v in parser.get_parsed_content("network_def").state_dict().items()})
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["train", "inference"])
def test_the_four_modalities_go_over_training_and_inference_alike(name):
    folder = FOLDERS["med_ddpm_brats"]
    parser = ConfigParser()
    parser.read_config([folder / "configs" / f"{file}.json" for file in (name, "paper")])
    narrow = {"channels": [8] * 5, "num_head_channels": 8, "norm_num_groups": 4}
    parser.update({"bundle_root": str(folder), **{f"network_def#{key}": value for key, value in narrow.items()}})
    network = parser.get_parsed_content("network_def")
    inferer = parser.get_parsed_content("validate#inferer" if name == "train" else "inferer")
    assert (network.conv_in.conv.in_channels, network.precision, inferer.out_channels) == (8, "fp32", 4)
