"""Federated learning with MONAI's own client: a site trains and evaluates one round of a bundle."""

from __future__ import annotations

import numpy as np
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from tests.bundles.restoration_runs import DENOISE, folder_of, write_two_classes
from tests.bundles.training import NETWORK, TINY
from tests.fixtures import DEVICE


def test_a_site_trains_a_round_and_evaluates_the_new_weights(tmp_path):
    data = write_two_classes(tmp_path / "data", 10)
    common = {"dataset_dir": str(data), "group_by": None, "spatial_size": [16, 16], "device": DEVICE}
    trained = {**{key: value for key, value in TINY.items() if key != "subject_of"}, **common}
    trained |= {"output_dir": str(tmp_path / "run"), "lr_factor": "$lambda step: 1.0", "checkpoint_interval": None}
    measured = {**NETWORK, **common, "output_dir": str(tmp_path / "eval"), "num_inference_steps": 2, "max_cases": 2}
    measured |= {"columns#names": ["psnr", "acutance"], "classifier_weights": None, "sampler#progress": False}
    site = MonaiAlgo(
        str(folder_of(DENOISE)),
        train_kwargs=trained,
        eval_kwargs=measured,
        config_evaluate_filename=["configs/inference.json", "configs/evaluate.json"],
        eval_workflow_name="inference",
    )
    site.initialize({ExtraItems.CLIENT_NAME: "site"})
    start = {name: value.to("cpu", copy=True) for name, value in site.trainer.network.state_dict().items()}
    site.train(ExchangeObject(weights=start))
    change = site.get_weights()
    assert change.weight_type == WeightType.WEIGHT_DIFF
    assert change.statistics["num_executed_iterations"] == 2
    assert any(bool(value.abs().max() > 0) for value in change.weights.values())

    moved = {name: start[name] + value.cpu() for name, value in change.weights.items()}
    metrics = site.evaluate(ExchangeObject(weights=moved)).metrics
    network = site.evaluator.network.state_dict()
    assert all(torch.equal(network[name].cpu(), value) for name, value in moved.items())
    assert metrics
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    site.finalize()
    assert not list((tmp_path / "run").glob("*.pt")), "the server keeps the weights"
