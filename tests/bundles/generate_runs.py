"""Runs of the dm bundles' train and inference configs in this process, with a tiny network."""

from __future__ import annotations

import numpy as np
from monai.bundle import ConfigParser, ConfigWorkflow

from tests.bundles.classify_runs import SMEAR
from tests.bundles.restoration_runs import write_picture
from tests.fixtures import DEVICE, REPOSITORY, network_arguments
from tests.masks.phantom2d import head_slice

TINY = {
    "channels": [8, 16],
    "attention_levels": [False, True],
    "num_head_channels": 8,
    "norm_num_groups": 4,
    "patch_size": 1,
    "refine_channels": 0,
}
EACH = 15


def folder_of(bundle):
    return REPOSITORY / "bundles" / bundle


def config(bundle, name):
    """A config of a bundle, with the values of its study.json in their places."""
    configs = folder_of(bundle) / "configs"
    study = ConfigParser.load_config_file(configs / "study.json")
    given = {f"$@from_study['{key}']": value for key, value in study.items()}
    content = ConfigParser.load_config_file(configs / f"{name}.json")
    return {key: given.get(value, value) if isinstance(value, str) else value for key, value in content.items()}


def picture(colour, seed):
    grey = head_slice(20, seed=seed)
    return np.stack([grey, grey // 2, 255 - grey], axis=-1) if colour else grey


def write_data(folders):
    """In the folder of each bundle, as many pictures of each class."""
    for bundle, folder in folders.items():
        for number, name in enumerate(config(bundle, "inference")["classes"]):
            for index in range(EACH):
                path = folder / name / f"{name} ({index}).png"
                write_picture(path, picture(bundle == SMEAR, EACH * number + index))
    return folders


def workflow(kind, bundle, overlays, **given):
    files = [str(folder_of(bundle) / "configs" / f"{name}.json") for name in overlays]
    small = {"device": DEVICE, "spatial_size": [16, 16]}
    run = ConfigWorkflow(files, workflow_type=kind, logging_file=False, **{**small, **given})
    run.initialize()
    assert run.check_properties() == []
    return run


def train(bundle, data, output, *overlays, **overrides):
    small = {"group_by": None, "batch_size": 4, "max_epochs": 1, "warmup": 1, "checkpoint_interval": 1}
    small |= {"num_previews": 2, "val_interval": 100, "validate#inferer#num_inference_steps": 2}
    small |= {**network_arguments(TINY), "dataset_dir": str(data), "output_dir": str(output)}
    run = workflow("train", bundle, ("train", *overlays), **{**small, **overrides})
    run.run()
    run.finalize()
    return run


def draw(bundle, output, weights, *overlays, **overrides):
    small = {**network_arguments(TINY), "num_inference_steps": 2, "inferer#progress": False}
    small |= {"weights": str(weights), "output_dir": str(output)}
    run = workflow("inference", bundle, ("inference", *overlays), **{**small, **overrides})
    run.run()
    return run
