"""The configs of the three bundles of Nafi et al.: alike but for their data, with the paper's numbers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata

from tests.bundles.classify_runs import BRAIN, BUNDLES, CT, SMEAR, study
from tests.bundles.generate_runs import config, folder_of
from tests.fixtures import REPOSITORY

OWN = {"classes", "channels", "per_class", "group_by", "flip_axes", "max_epochs"}
STUDY = {"classes", "channels", "group_by", "per_class", "foreground"}


def test_the_bundles_differ_in_their_data_alone():
    for name in ("inference", "train"):
        given = [config(bundle, name) for bundle in BUNDLES]
        assert all(one[key] is not None for one in given for key in ("classes", "channels"))
        same = [{key: value for key, value in one.items() if key not in OWN} for one in given]
        assert same[0] == same[1] == same[2]
    overlays = ("generate", "budget_model", "one_model_a_class", "paper", "fine_tune", "augmented_train")
    for name in (*overlays, "multi_gpu_train", "resume"):
        assert config(BRAIN, name) == config(SMEAR, name) == config(CT, name)
    for name in ("multi_gpu_train", "resume"):
        assert config(BRAIN, name) == config("med_ddpm_3d", name)


@pytest.mark.parametrize(
    ("overlays", "suffix"),
    [
        ((), ""),
        (("by_group",), "_by_group"),
        (("budget_model",), "_budget"),
        (("budget_model", "by_group"), "_budget_by_group"),
    ],
)
def test_weights_and_sets_of_other_sizes_and_splits_have_names_of_their_own(overlays, suffix):
    def parsed(key, *names):
        parser = ConfigParser()
        parser.read_config([folder_of(BRAIN) / "configs" / f"{name}.json" for name in names])
        parser["bundle_root"] = "B"
        return parser.get_parsed_content(key)

    assert parsed("weights", "inference", *overlays) == f"B/models/model{suffix}.pt"
    assert parsed("initial_weights", "train", "fine_tune", *overlays) == f"B/models/model{suffix}.pt"
    drawn = parsed("output_dir", "inference", "generate", *overlays)
    assert drawn == f"B/synthetic{suffix}"
    by_classifier = ["budget" if name == "budget_model" else name for name in overlays]
    assert parsed("synthetic_dir", "classify", *by_classifier) == drawn


def test_the_budget_model_is_one_network_in_training_and_drawing():
    def network(name):
        parser = ConfigParser()
        parser.read_config([folder_of(BRAIN) / "configs" / f"{file}.json" for file in (name, "budget_model")])
        parser["bundle_root"] = str(folder_of(BRAIN))
        return parser.get_parsed_content("network_def")

    shapes = [{k: v.shape for k, v in network(name).state_dict().items()} for name in ("train", "inference")]
    assert shapes[0] == shapes[1]
    assert shapes[0]["conv_in.conv.weight"][0] == config(BRAIN, "budget_model")["network_def#channels"][0]


def test_paper_numbers():
    counts = {
        bundle: (len(config(bundle, "inference")["classes"]), config(bundle, "inference")["per_class"])
        for bundle in BUNDLES
    }
    assert counts == {BRAIN: (4, 1700), SMEAR: (4, 1000), CT: (2, 1500)}  # table 1
    for bundle in BUNDLES:
        assert config(bundle, "train")["fraction"] == 0.2  # section 4.2
    paper = config(BRAIN, "paper")
    assert paper["prediction_type"] == "epsilon"  # eq. 7
    assert paper["num_inference_steps"] == paper["noise_schedule"]["num_train_timesteps"]
    assert paper["step_rule"]["_target_"].endswith("Ancestral")
    assert (paper["timestep_power"], paper["max_weight"]) == (1, None)  # uniform t, plain squared error


@pytest.mark.parametrize("bundle", BUNDLES)
def test_metadata_follows_the_schema(bundle, tmp_path):
    path = folder_of(bundle) / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    assert metadata["label_classes"] == ", ".join(config(bundle, "inference")["classes"])
    assert metadata["network_data_format"]["inputs"]["image"]["num_channels"] == config(bundle, "inference")["channels"]
    schema = REPOSITORY.parent / "shared" / "schema" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("the metadata schema is not at hand")
    verify_metadata(str(path), filepath=shutil.copy(schema, tmp_path / "schema.json"))


def test_the_classifiers_of_the_bundles_differ_in_their_data_alone():
    for name in ("classify", "explain", "budget", "real_20", "augmented", "real_plus_synthetic", "recognised"):
        given = [config(bundle, name) for bundle in BUNDLES]
        same = [{key: value for key, value in one.items() if key not in STUDY} for one in given]
        assert same[0] == same[1] == same[2]
    for bundle in BUNDLES:
        classify, train, inference = (config(bundle, name) for name in ("classify", "train", "inference"))
        shared = ("classes", "channels", "group_by", "split", "fraction", "split_seed", "spatial_size")
        assert {key: classify[key] for key in shared} == {key: train[key] for key in shared}
        assert classify["per_class"] == inference["per_class"]


def test_paper_numbers_of_classifiers():
    run = study(BRAIN, REPOSITORY, None, max_epochs=50, folds=5, batch_size=32, learning_rate=1e-4)
    given = config(BRAIN, "classify")
    assert (given["folds"], given["max_epochs"], given["fraction"]) == (5, 50, 0.2)
    assert type(run.parser.get_parsed_content("optimizer")([torch.nn.Parameter(torch.zeros(1))])).__name__ == "AdamW"
    assert type(run.parser.get_parsed_content("loss")).__name__ == "CrossEntropyLoss"
