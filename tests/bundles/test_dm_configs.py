"""The configs of the three bundles of Nafi et al.: alike but for their data, with the paper's numbers."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.classify_runs import BRAIN, BUNDLES, CT, SMEAR, study
from tests.bundles.generate_runs import config, draw, folder_of
from tests.bundles.inference_runs import refused
from tests.fixtures import REPOSITORY


@pytest.mark.parametrize(
    ("overlays", "suffix"),
    [
        ((), ""),
        (("by_group",), "_by_group"),
        (("strict",), "_strict"),
    ],
)
def test_weights_and_sets_of_other_splits_have_names_of_their_own(overlays, suffix):
    def parsed(key, *names):
        parser = ConfigParser()
        parser.read_config([folder_of(BRAIN) / "configs" / f"{name}.json" for name in names])
        parser["bundle_root"] = "B"
        return parser.get_parsed_content(key)

    assert parsed("weights", "inference", *overlays) == f"B/models/model{suffix}.pt"
    assert parsed("initial_weights", "train", "fine_tune", *overlays) == f"B/models/model{suffix}.pt"
    drawn = parsed("output_dir", "inference", "generate", *overlays)
    assert drawn == f"B/synthetic{suffix}"
    assert parsed("synthetic_dir", "classify", *overlays) == drawn
    assert parsed("weights", "inference", *overlays, "large_model") == f"B/models/large{suffix}.pt"


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


def test_paper_numbers_of_classifiers():
    run = study(BRAIN, REPOSITORY, None, max_epochs=50, folds=5, batch_size=32, learning_rate=1e-4)
    given = config(BRAIN, "classify")
    assert (given["folds"], given["max_epochs"], given["fraction"]) == (5, 50, 0.2)
    assert type(run.parser.get_parsed_content("optimizer")([torch.nn.Parameter(torch.zeros(1))])).__name__ == "AdamW"
    assert type(run.parser.get_parsed_content("loss")).__name__ == "CrossEntropyLoss"


@pytest.mark.parametrize("bundle", [SMEAR, CT])
def test_a_bundle_without_weights_says_how_to_make_them(bundle, tmp_path):
    assert not (folder_of(bundle) / "models").exists()
    command = f"training with the same overlays .*bundles/{bundle}/configs/train.json --dataset_dir DATA"
    with refused(FileNotFoundError, f"^No weights at .*none.pt. They are made by {command}"):
        draw(bundle, tmp_path, tmp_path / "none.pt")
