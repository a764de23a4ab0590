from __future__ import annotations

import pytest
import torch

from common.evaluation.catalogue import known, metric_makers, metrics_by_name
from common.evaluation.entries import METRICS
from tests.metrics.test_base import Bright, Quarters


class Others(Quarters):
    label = "others"


NETWORKS = {"quarters": Quarters(), "others": Others()}


def test_every_entry_has_its_class():
    for name, entry in METRICS.items():
        assert callable(entry.code()), name
        assert callable(entry.metric_class()), name


def test_names_make_metrics_with_the_labels_of_the_results():
    names = ["mse", "mmd", "mmd_rbf", "fid[others]", "fid", "kid", "recall[others]", "ms_ssim", "ms_ssim_real"]
    names += ["ms_ssim_paired", "acutance", "acutance_real", "grain_real", "mask_dice", "mask_dice_real"]
    names += ["psnr_in_hole", "accuracy", "perceptual", "machine_2afc_paired"]
    shared = {"spacing": 1.0, "segmenter": Bright(), "labels": ["bright"], "classifier": torch.nn.Identity()}
    metrics = metrics_by_name(names, NETWORKS, {"accuracy": {"name": "vgg11"}}, **shared)
    assert list(metrics) == names
    assert [metric.label for metric in metrics.values()] == [
        *("mse", "mmd[linear]", "mmd[rbf]", "fid[others]", "fid[quarters]", "kid[quarters]", "recall[others]"),
        *("ms_ssim", "ms_ssim_real", "ms_ssim_paired", "acutance[generated]", "acutance[real]", "grain_real"),
        *("mask_dice", "mask_dice_real", "psnr[inside]", "accuracy[vgg11]", "perceptual[quarters]"),
        "machine_2afc[quarters]",
    ]


def test_what_a_run_has_no_weights_for_is_left_out():
    networks = {**NETWORKS, "inception": None}
    makers = metric_makers(
        ["fid[inception]", "lpips", "accuracy", "ssim"], networks, lpips_weights=None, classifier=None
    )
    assert list(makers) == ["ssim"]
    assert makers["ssim"]() is not makers["ssim"]()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fidd", "No metric 'fidd'; there are fid,"),
        ("mse_real", "No metric 'mse_real'"),
        ("fid[third]", "not among quarters, others"),
        ("mask_dice", "mask_dice needs segmenter, labels"),
        ("accuracy", "accuracy needs classifier"),
    ],
)
def test_what_cannot_be_made_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        metrics_by_name([name], NETWORKS)


def test_a_metric_of_features_without_a_network_says_what_it_needs():
    with pytest.raises(ValueError, match="The metric fid needs features"):
        metrics_by_name(["fid"])


def test_command_lines_name_metrics_of_folders_only():
    assert known("kid, fid") == ["fid", "kid"]
    for name in ("fidd", "mask_dice"):
        with pytest.raises(ValueError, match=f"No metric '{name}'"):
            known(name)


def test_options_are_of_one_network_or_of_all_and_of_a_metric_that_there_is():
    options = {"kid": {"paired": True}, "kid[others]": {"resamples": 0}}
    found = metrics_by_name(["kid", "kid[others]", "fid"], NETWORKS, options)
    assert [(found[name].paired, found[name].resamples) for name in ("kid", "kid[others]")] == [(True, 1000), (True, 0)]
    assert list(metrics_by_name(["fid"], NETWORKS, options)) == ["fid"], "a table of fewer columns keeps its options"
    for wrong, message in (("kid[other]", "names a network that is not among"), ("kit", "No metric 'kit'")):
        with pytest.raises(ValueError, match=message):
            metrics_by_name(["kid", "fid"], NETWORKS, {wrong: {"paired": True}})
