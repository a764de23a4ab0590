"""The learned baselines of the Med-cDiff bundles: a few steps of training help, and evaluation takes the weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from common.networks.restoration import RestorationUNet, SRResNet
from tests.bundles.inference_runs import TINY, refused
from tests.bundles.restoration_runs import (
    DENOISE,
    INPAINT,
    SUPERRES,
    pixels,
    restoration,
    tiny_weights,
    write_picture,
    write_two_classes,
)
from tests.bundles.test_med_cdiff_train import train
from tests.bundles.training import NETWORK, weights
from tests.masks.phantom2d import head_slice

QUICK = {"max_epochs": 8, "val_interval": 8, "learning_rate": 0.003, "ema#momentum": 0.2, "ema#momentum_warmup": 0.2}
PLACES = {"regression": DENOISE, "pix2pix": DENOISE, "srgan": SUPERRES, "up_gan": INPAINT, "hpunet": INPAINT}
METHODS = pytest.mark.parametrize("method", PLACES)
ADVERSARIAL_METHODS = {"pix2pix", "srgan", "up_gan"}
TINY_OF = {
    "srgan": {"network_def#channels": 8, "network_def#num_blocks": 1},
    "hpunet": {"network_def#channels": [8, 8, 8], "network_def#latents": 2},
}
ADVERSARIAL = {"d_network_def#channels": 8, "d_network_def#num_layers_d": 2}
DEGRADED = {SUPERRES: "bilinear", DENOISE: "noisy"}
STEPS = "validate#inferer#num_inference_steps"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty pictures in two folders that are classes."""
    return write_two_classes(tmp_path_factory.mktemp("data"), 20)


def trained(method, bundle, data, output, *overlays, **overrides):
    """The run of a few steps."""
    own = {"factors": [2.0, 4.0]} if bundle == SUPERRES else {}  # 16 would leave a single pixel of these images
    base = ["adversarial.json"] if method in ADVERSARIAL_METHODS else []
    given = {**QUICK, **own, **(ADVERSARIAL if base else {}), **TINY_OF.get(method, {}), **overrides}
    without = (STEPS, *(NETWORK if method in TINY_OF else ()))
    return train(bundle, data, output, *base, f"train_{method}.json", *overlays, without=without, **given)


def evaluated(overlay, bundle, data, tmp_path, **overrides):
    """The rows of the table."""
    given = {"group_by": None, "dataset_dir": str(data), "output_dir": str(tmp_path / "eval"), "spatial_size": [16, 16]}
    given |= {"columns#names": ["psnr", "acutance"], "classifier_weights": None, "key_metric#against": {}, **overrides}
    direct = overlay != "baselines.json"
    restoration(bundle, "evaluate.json", overlay, direct=direct, tiny=False, **given).run()
    result = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert result["context"]["step_rule"] == ("DirectSampler" if direct else "DPMSolverPP2M")
    return result["methods"]


@pytest.mark.parametrize(
    ("method", "bundle"),
    [
        ("regression", SUPERRES),
        ("pix2pix", DENOISE),
        ("srgan", SUPERRES),
        ("up_gan", INPAINT),
        ("hpunet", INPAINT),
        *(pytest.param("regression", bundle, marks=pytest.mark.exhaustive) for bundle in (DENOISE, INPAINT)),
        *(pytest.param("pix2pix", bundle, marks=pytest.mark.exhaustive) for bundle in (SUPERRES, INPAINT)),
        pytest.param("up_gan", DENOISE, marks=pytest.mark.exhaustive),
    ],
)
def test_it_trains_and_its_weights_are_a_row_of_the_table(method, bundle, data, tmp_path):
    trained(method, bundle, data, tmp_path / "run")
    assert (tmp_path / "run" / "previews" / "epoch_0008.png").is_file()
    network = TINY_OF.get(method, NETWORK)
    rows = evaluated(f"{method}.json", bundle, data, tmp_path, weights=str(tmp_path / "run" / "model.pt"), **network)
    assert method in rows
    assert not {"med_cdiff", "mean"} & set(rows)
    psnr = {name: row["metrics"]["psnr"]["value"] for name, row in rows.items() if name != "original"}
    assert psnr[method] > psnr.get(DEGRADED.get(bundle), 10)
    name = "srgan_generator.pt" if method == "srgan" else f"{method}.pt"
    (tmp_path / "run" / "model.pt").rename(tmp_path / "run" / name)
    own = {"baselines#settings": f"${ {method: {key.replace('#', '::'): value for key, value in network.items()}} }"}
    given = {**TINY, **own, "baseline_dir": str(tmp_path / "run"), "weights": tiny_weights(bundle, tmp_path)}
    more = evaluated("baselines.json", bundle, data, tmp_path, **given)
    assert {method, "med_cdiff"} <= set(more), "the same row beside the diffusion model's"
    assert len(more) == len({*more, *rows}), "baselines without weights have no row"
    assert more[method]["metrics"]["psnr"]["value"] == pytest.approx(
        psnr[method], abs=0.05 if method == "hpunet" else 1e-3
    )


@METHODS
def test_a_resumed_run_ends_with_the_same_weights(method, data, tmp_path):
    given = {"max_epochs": 2, "val_interval": 9}
    whole = weights(trained(method, PLACES[method], data, tmp_path / "whole", **given))
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole" / "checkpoint_epoch=1.pt", tmp_path / "parts")
    parts = weights(trained(method, PLACES[method], data, tmp_path / "parts", "resume.json", **given))
    assert all(torch.equal(parts[key], value) for key, value in whole.items())


@METHODS
def test_missing_weights_say_what_makes_them(method, tmp_path):
    options = {"direct": True, "tiny": method not in TINY_OF}
    run = restoration(PLACES[method], f"{method}.json", **options, weights=str(tmp_path / "none.pt"))
    with refused(FileNotFoundError, f"No weights at .*none.pt. They are made by train_{method}.json"):
        run.run()


@pytest.mark.parametrize("method", ["regression", "pix2pix", "srgan", "up_gan"])
def test_several_samples_of_a_method_that_draws_none_are_refused(method):
    run = restoration(PLACES[method], f"{method}.json", direct=True, tiny=method not in TINY_OF, num_samples=3)
    with refused(ValueError, "num_samples must be 1 here, got 3: the network draws nothing"):
        run.run()


def test_inference_tiles_large_images_and_records_the_method(tmp_path):
    image = write_picture(tmp_path / "in" / "a.png", head_slice(40, seed=0))
    torch.manual_seed(0)
    run = restoration(
        DENOISE,
        "regression.json",
        direct=True,
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        spatial_size=[32, 32],
        checkpointloader=None,
    )
    run.run()
    record = json.loads((tmp_path / "out" / "a_denoised.json").read_text())
    assert (record["step_rule"], record["steps"], record["prediction_type"]) == ("DirectSampler", 1, "sample")
    np.testing.assert_allclose(pixels(tmp_path / "out" / "a_denoised.png"), pixels(image), atol=1)


def test_up_gan_trains_one_stage_after_the_other(data, tmp_path):
    given = {"max_epochs": 2, "val_interval": 9, "checkpoint_interval": 1}
    trained("up_gan", INPAINT, data, tmp_path, **given)
    first, second = (torch.load(tmp_path / f"checkpoint_epoch={e}.pt", weights_only=True)["network"] for e in (1, 2))
    changed = {key for key, value in first.items() if not torch.equal(value, second[key])}
    assert {key.split(".")[1] for key in changed} == {"1"}
    assert all(float(value.abs().max()) == 0 for key, value in first.items() if key.startswith("stages.1.out.2"))
    assert any(float(value.abs().max()) > 0 for key, value in second.items() if key.startswith("stages.1.out.2"))


def test_srgan_has_its_papers_size_and_a_power_of_two_between_the_grids():
    assert sum(p.numel() for p in SRResNet().parameters()) == 1_604_436
    with pytest.raises(ValueError, match="power of 2"):
        SRResNet(factor=3)


def test_a_condition_without_the_image_is_refused():
    with pytest.raises(ValueError, match="must hold the degraded image"):
        RestorationUNet(2, 1, 2)
