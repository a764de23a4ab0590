"""Paper 002 as a whole on 200 small images: a fifth is learned, a set drawn, a classifier trained and explained."""

from __future__ import annotations

import json

import pytest
import torch

from common.studies.synthetic import MANIFEST, synthetic_cases
from tests import forks
from tests.bundles.classify_runs import BRAIN, CLASSES, SIDE, study, write_real
from tests.bundles.generate_runs import TINY, folder_of, train
from tests.bundles.training import free_port
from tests.fixtures import REPOSITORY, network_arguments

SHARED = {"classes": CLASSES, "spatial_size": [SIDE, SIDE]}
LEARN = {"batch_size": 8, "max_epochs": 60, "warmup": 10, "learning_rate": 3e-3, "ema#momentum": 0.05}


def generate_in_two_processes(weights, output, each):
    given = network_arguments(TINY)
    given |= {"weights": str(weights), "output_dir": str(output), "num_samples": each, "batch_size": 10, **SHARED}
    command = ["run", "--config_file"]
    command += [str([str(folder_of(BRAIN) / "configs" / f"{name}.json") for name in ("inference", "generate")])]
    command += [part for key, value in given.items() for part in (f"--{key}", str(value))]
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": "", **shared} for rank in range(2)]
    return [run.wait(600) for run in [forks.module("monai.bundle", command, REPOSITORY, **rank) for rank in ranks]]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed package")
def test_a_classifier_of_synthetic_images_knows_real_ones(tmp_path):
    write_real(tmp_path / "real", each=100)
    learned = train(BRAIN, tmp_path / "real", tmp_path / "model", checkpoint_interval=100, **SHARED, **LEARN)
    assert len(learned.parser.get_parsed_content("sample")) == 40
    drawn = generate_in_two_processes(tmp_path / "model" / "model.pt", tmp_path / "synthetic", each=25)
    assert [process.returncode for process in drawn] == [0, 0], drawn[0].stderr[-4000:]
    assert len(synthetic_cases(tmp_path / "synthetic")) == 50
    assert not list((tmp_path / "synthetic").rglob(".*")), "nothing half-written is left"
    assert len((tmp_path / "synthetic" / MANIFEST).read_text().splitlines()) == 51

    run = study(BRAIN, tmp_path, tmp_path / "classify", per_class=25)
    run.run()
    found = json.loads((tmp_path / "classify" / "metrics.json").read_text())
    assert (found["train_images"], found["test_images"]) == ({"bright": 25, "dark": 25}, {"bright": 80, "dark": 80})
    assert found["networks"]["resnet18"]["test"]["accuracy"]["value"] > 0.9

    given = {"classifier_weights": str(tmp_path / "classify" / "resnet18" / "fold_0.pt"), "images_per_class": 3}
    given |= {"num_samples": 200, "num_segments": 16, "seeds": [0, 1], "per_class": 25}
    study(BRAIN, tmp_path, tmp_path / "explain", "explain", **given).run()
    explained = json.loads((tmp_path / "explain" / "metrics.json").read_text())
    assert {name: row["correct"]["n"] for name, row in explained["sets"].items()} == {"real": 6, "synthetic": 6}
