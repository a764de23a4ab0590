"""Two folders measured from the command line: results, cache, rules for files, errors in one line."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.evaluation.__main__ import main
from common.evaluation.folders import ImageFolder
from common.features.features import FeatureNetwork
from common.features.registry import REGISTRY, NetworkSpec
from common.metrics.frechet import fid
from common.metrics.mmd import kid
from common.metrics.sharpness import grain
from tests.bundles.restoration_runs import MR, grey, write_dicom
from tests.fixtures import oblique_affine, write_nifti
from tests.metrics.image_folders import pictures, volumes


class Stand(nn.Module):
    """Features of a few fixed convolutions."""

    seen = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Stand.seen += len(x)
        return self.conv(x).flatten(2).mean(2)


class Stand3D(Stand):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3)


@pytest.fixture(autouse=True)
def network(tmp_path, monkeypatch):
    """Stand-in networks with a file of weights each."""
    torch.manual_seed(0)
    for name, build, dims in (("stand", Stand, 2), ("stand3d", Stand3D, 3)):
        monkeypatch.setitem(REGISTRY, name, NetworkSpec(build, source="a test", licence="none", spatial_dims=dims))
        torch.save(build().state_dict(), tmp_path / f"{name}.pt")
    Stand.seen = 0
    return tmp_path / "stand.pt"


def run(capsys, *arguments, status=0):
    """Exit status checked; what was printed."""
    assert main([str(a) for a in arguments]) == status
    return capsys.readouterr()


def in_colour(file):
    """A grey picture stored with three equal channels, which are no colours."""
    with Image.open(file, formats=["PNG"]) as picture:
        picture.convert("RGB").save(file)


def result_in(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_pictures_without_common_names(tmp_path, capsys, network):
    real, fake = pictures(tmp_path / "real", 9, names="real_{:02d}"), pictures(tmp_path / "fake", 7, seed=1)
    out = tmp_path / "report"
    printed = run(capsys, "compare", real, fake, "--network", "stand", "--weights", network, "--out", out)
    content = result_in(out)
    metrics = content["metrics"]
    assert {entry["metric"] for entry in metrics.values()} == {
        *("fid", "kid", "precision", "recall", "density", "coverage", "mmd", "mmd_rbf", "ms_ssim", "acutance", "grain"),
    }
    stand = FeatureNetwork("stand", network)
    images = [torch.stack([folder[i] for i in range(len(folder))]) for folder in (ImageFolder(fake), ImageFolder(real))]
    features = [stand(batch) for batch in images]
    assert metrics["fid[stand]"]["value"] == pytest.approx(fid(*features), rel=1e-4)
    assert metrics["kid[stand]"]["value"] == pytest.approx(kid(*features), rel=1e-4, abs=1e-7)
    assert metrics["grain"]["value"] == pytest.approx(float(grain(images[0]).mean()))
    ratio = grain(images[0]).mean() / grain(images[1]).mean()
    assert metrics["grain_ratio"]["value"] == pytest.approx(float(ratio))
    assert metrics["fid[stand]"]["n"] == {"generated": 7, "real": 9}
    low, high = metrics["grain_ratio"]["interval95"]
    assert low < metrics["grain_ratio"]["value"] < high
    assert content["context"]["reading"]["scaling"] == "dtype"
    assert content["context"]["networks"][0]["sha256"] == stand.sha256
    assert "fid[stand]" in printed.out
    assert (out / "metrics.md").read_text().count("\n") == len(metrics) + 2


def test_same_names_add_metrics_of_pairs(tmp_path, capsys):
    real, fake = pictures(tmp_path / "real", 4), pictures(tmp_path / "fake", 4, seed=1, suffix=".jpg")
    printed = run(capsys, "compare", real, fake, "--out", tmp_path / "report")
    metrics = result_in(tmp_path / "report")["metrics"]
    assert {"mse", "mae", "psnr", "ssim", "ms_ssim_paired"} < set(metrics)
    difference = [ImageFolder(real)[i] - ImageFolder(fake)[i] for i in range(4)]
    assert metrics["mae"]["value"] == pytest.approx(float(torch.stack(difference).abs().mean()), rel=1e-5)
    assert "No --network was named" in printed.err
    assert "same names" in printed.err
    assert not any(entry["metric"] == "fid" for entry in metrics.values())


def test_volumes_of_differing_sizes(tmp_path, capsys):
    real, fake = volumes(tmp_path / "real", 6), volumes(tmp_path / "fake", 6, seed=1)
    out, weights = tmp_path / "report", tmp_path / "stand3d.pt"
    (fake / "volume_00.nii.gz").rename(fake / "other.nii.gz")
    run(capsys, "compare", real, fake, "--network", "stand3d", "--weights", weights, "--out", out)
    metrics = result_in(out)["metrics"]
    assert metrics["mmd[rbf]"]["size"] == [12, 13, 14]
    assert metrics["fid[stand3d]"]["value"] > 0
    spacings = ImageFolder(real).spacings[0]
    assert spacings == pytest.approx(tuple(np.linalg.norm(oblique_affine()[:3, :3], axis=0)), rel=1e-5)


def test_interrupted_run_goes_on_from_the_cache(tmp_path, capsys, network):
    real, fake = pictures(tmp_path / "real", 5), pictures(tmp_path / "fake", 5, seed=1)
    in_colour(fake / "image_03.png")
    Image.fromarray(np.eye(72, dtype=np.uint8).reshape(24, 72, 3)).save(fake / "image_04.png")  # found when it is read
    arguments = ["compare", real, fake, "--metrics", "fid,kid", "--network", "stand", "--weights", network]
    arguments += ["--batch_size", 2, "--out", tmp_path / "report"]
    assert "image_04.png is a colour picture" in run(capsys, *arguments, status=2).err
    before = Stand.seen
    assert before >= 8
    pictures(tmp_path / "more", 1, seed=5)
    (tmp_path / "more" / "image_00.png").rename(fake / "image_04.png")
    run(capsys, *arguments)
    assert Stand.seen == 10
    first = result_in(tmp_path / "report")["metrics"]
    (fake / "image_00.png").rename(fake / "renamed.png")
    cut, altered, *_ = (tmp_path / "report" / "features").glob("stand-*/*.npy")
    cut.write_bytes(b"half")
    altered.write_bytes(altered.read_bytes()[:-40] + b"\x7f" + altered.read_bytes()[-39:])
    run(capsys, *arguments)
    assert Stand.seen == 12
    assert result_in(tmp_path / "report")["metrics"]["kid[stand]"]["value"] == pytest.approx(
        first["kid[stand]"]["value"], rel=1e-4
    )
    run(capsys, *arguments, "--scaling", "percentiles")
    assert Stand.seen == 22


def test_own_sheets_previews_and_maps_are_left_out(tmp_path, capsys):
    real, fake = pictures(tmp_path / "real", 3), pictures(tmp_path / "fake", 3, seed=1)
    for name in ("contact_sheet.png", "image_00_mean.png", "image_01_std.png", "image_02_weight.png"):
        (fake / name).write_bytes((fake / "image_00.png").read_bytes())
    record = {"synthetic": True, "outputs": {"pred": "image_02.png", "weight": "image_02_weight.png"}}
    (fake / "image_02.json").write_text(json.dumps(record))
    pictures(fake, 1, names="heart_mean")  # no map: there is no image "heart"
    error = run(capsys, "compare", real, fake, "--metrics", "grain", "--out", tmp_path / "r").err
    assert "--fake: 4 sheets, previews or maps of runs are left out, e.g. contact_sheet.png" in error
    assert result_in(tmp_path / "r")["metrics"]["grain"]["n"] == 4
    volume = volumes(tmp_path / "volumes", 1)
    pictures(volume, 1, names="volume_00_preview")
    assert ImageFolder(volume).left_out == ["volume_00_preview.png"]


def test_pixels_of_dicom_images_of_other_sizes_are_refused_or_resampled(tmp_path, capsys):
    for name, mm, side in (("real", 1.0, 24), ("fake", 0.5, 24), ("fine", 0.5, 48)):
        for number in range(2):
            array = grey((side, side), np.uint16, 4095, seed=number)
            write_dicom(tmp_path / name / f"{number}.dcm", array, MR, PixelSpacing=[mm, 2 * mm])
    arguments = ["compare", tmp_path / "real", tmp_path / "fake", "--metrics", "grain", "--out", tmp_path / "r"]
    error = run(capsys, *arguments, status=2).err
    assert "different sizes: --real 1 x 2 mm, --fake 0.5 x 1 mm. --spacing" in error
    arguments[2] = tmp_path / "fine"
    run(capsys, *arguments, "--spacing", "1,2")
    assert result_in(tmp_path / "r")["context"]["reading"]["spacing"] == [1.0, 2.0]
    assert ImageFolder(tmp_path / "fake", spacing=(1, 2)).shapes[0] == (12, 12)
    write_dicom(tmp_path / "fake" / "2.dcm", grey((24, 24), np.uint16, 4095), MR, PixelSpacing=None)
    assert ImageFolder(tmp_path / "fake").spacings[0] == (1.0, 1.0), "unless every file states its own"


def test_voxels_of_other_sizes_are_refused_or_resampled(tmp_path, capsys):
    array = np.random.default_rng(0).normal(size=(12, 14, 16)).astype(np.float32)
    for name, mm in (("real", 1.0), ("fake", 1.5)):
        for number in range(2):
            grid = array[number:, number:] if name == "real" else array
            write_nifti(tmp_path / name / f"{number}.nii.gz", grid, np.diag([mm, mm, 2.0, 1.0]))
    arguments = ["compare", tmp_path / "real", tmp_path / "fake", "--metrics", "grain", "--out", tmp_path / "r"]
    error = run(capsys, *arguments, status=2).err
    assert "different sizes: --real 1 x 1 x 2 mm, --fake 1.5 x 1.5 x 2 mm. --spacing" in error
    folders = [tmp_path / name for name in ("fake", "real", "real")]
    assert "different sizes: --fake 1.5" in run(capsys, "audit", *folders, "--out", tmp_path / "a", status=2).err
    run(capsys, *arguments, "--crop", "true")
    run(capsys, *arguments, "--spacing", "1.5,1.5,2")
    context = result_in(tmp_path / "r")["context"]
    assert context["reading"]["spacing"] == [1.5, 1.5, 2.0]
    assert context["real"]["median_spacing"] == pytest.approx([1.5, 1.5, 2.0], rel=0.05)
    assert str(tmp_path) not in (tmp_path / "r" / "metrics.json").read_text()
    assert str(tmp_path) not in (tmp_path / "r" / "index.html").read_text()


def test_same_seed_same_report(tmp_path, capsys):
    real, fake = pictures(tmp_path / "real", 6, names="r{}"), pictures(tmp_path / "fake", 6, seed=1)
    metrics = ["--metrics", "mmd_rbf,ms_ssim,grain", "--max_images", "4"]
    found = []
    for number in range(2):
        run(capsys, "compare", real, fake, *metrics, "--seed", 3, "--out", tmp_path / str(number))
        found.append(result_in(tmp_path / str(number)))
    assert found[0]["metrics"] == found[1]["metrics"]
    assert found[0]["metrics"]["mmd[rbf]"]["n"] == {"generated": 4, "real": 4}
    assert any("4 of 6 images" in notice for notice in found[0]["notices"])


def test_audit_finds_planted_copies(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, count in (("train", 30), ("held", 30), ("fake", 12)):
        (tmp_path / name).mkdir()
        for number in range(count):
            small = rng.uniform(0, 255, (8, 8)).astype(np.uint8)
            Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC).save(
                tmp_path / name / f"{number:02d}.png"
            )
    folders = [tmp_path / name for name in ("fake", "train", "held")]
    assert "NO COPIES FOUND" in run(capsys, "audit", *folders, "--out", tmp_path / "clean").out
    copied = np.asarray(Image.open(tmp_path / "train" / "07.png", formats=["PNG"]))[:, ::-1]
    Image.fromarray(copied).save(tmp_path / "fake" / "03.png")
    printed = run(capsys, "audit", *folders, "--out", tmp_path / "audit", status=3)
    assert printed.out.startswith("COPIES FOUND: 1 of 12")
    assert (tmp_path / "audit" / "worst_pairs.png").is_file()
    arguments = ["compare", "--real", folders[2], "--fake", folders[0], "--train", folders[1]]
    printed = run(capsys, *arguments, "--metrics", "memorisation", "--out", tmp_path / "both", status=3)
    assert result_in(tmp_path / "both")["metrics"]["memorisation"]["copies"] == 1
    assert "COPIES FOUND" in (tmp_path / "both" / "index.html").read_text()


RAMP = np.arange(12.0 * 13 * 14).reshape(12, 13, 14)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (0 * RAMP + 7, r"volume_00.nii.gz has no contrast"),
        (np.where(RAMP == 5, np.nan, RAMP), r"volume_00.nii.gz: 1 of 2184 pixels are NaN"),
        (np.stack([RAMP] * 3, -1), r"volume_00.nii.gz: .* volume of real numbers was expected, got 12 x 13 x 14 x 3"),
        (RAMP[..., 0], r"volume_01.nii.gz is 3D, .*volume_00.nii.gz is 2D"),
        (b"no image", r"volume_00.nii.gz: damaged, cut off"),
        (None, r"holds NIfTI files and pictures"),
    ],
)
def test_bad_volumes_are_named_in_one_line(tmp_path, capsys, content, message):
    real, fake = volumes(tmp_path / "real", 3), volumes(tmp_path / "fake", 3, seed=1)
    if content is None:
        pictures(fake, 1)
    elif isinstance(content, bytes):
        (fake / "volume_00.nii.gz").write_bytes(content)
    else:
        write_nifti(fake / "volume_00.nii.gz", content.astype(np.float32))
    error = run(capsys, "compare", real, fake, "--metrics", "grain", "--out", tmp_path / "r", status=2).err
    last = error.strip().split("\n")[-1]
    assert last.startswith("error: ")
    assert re.search(message, last)
    assert not (tmp_path / "r" / "metrics.json").exists()


def test_constant_image_under_a_fixed_rule(tmp_path, capsys):
    """A collapsed generator is measured where the scaling does not hang on the image."""
    real, fake = pictures(tmp_path / "real", 3), pictures(tmp_path / "fake", 3)
    Image.fromarray(np.full((24, 24), 9, np.uint8)).save(fake / "image_00.png")
    run(capsys, "compare", real, fake, "--out", tmp_path / "r")
    assert result_in(tmp_path / "r")["metrics"]["ssim"]["value"] < 1
    error = run(capsys, "compare", real, fake, "--scaling", "percentiles", "--out", tmp_path / "p", status=2).err
    assert "image_00.png has no contrast" in error


def test_colours_are_refused_or_made_grey(tmp_path, capsys):
    real, fake = pictures(tmp_path / "real", 3), pictures(tmp_path / "fake", 3)
    for file in fake.iterdir():
        in_colour(file)
    run(capsys, "compare", real, fake, "--metrics", "mse", "--out", tmp_path / "r")
    assert result_in(tmp_path / "r")["metrics"]["mse"]["value"] == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)).save(fake / "image_01.png")
    arguments = ["compare", real, fake, "--metrics", "mse", "--out", tmp_path / "c"]
    assert "image_01.png is a colour picture; --grey true" in run(capsys, *arguments, status=2).err
    run(capsys, *arguments, "--grey", "true")
    assert result_in(tmp_path / "c")["context"]["reading"]["grey"] is True


def test_folders_of_different_sizes(tmp_path, capsys):
    real, fake = pictures(tmp_path / "real", 3), pictures(tmp_path / "fake", 3, side=20)
    arguments = ["compare", real, fake, "--metrics", "mmd", "--out", tmp_path / "r"]
    assert "different sizes: --real 24x24, --fake 20x20" in run(capsys, *arguments, status=2).err
    run(capsys, *arguments, "--crop", "true")
    assert result_in(tmp_path / "r")["metrics"]["mmd[linear]"]["size"] == [20, 20]
    run(capsys, *arguments, "--size", "16,16")
    assert result_in(tmp_path / "r")["metrics"]["mmd[linear]"]["size"] == [16, 16]
    error = run(capsys, "compare", real, fake, "--metrics", "mse", "--crop", "true", status=2).err
    assert "image_00 is 20x20" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "fid"], "fid need a feature network: --network"),
        (["--metrics", "fidd"], "No metric 'fidd'; there are fid,"),
        (["--metrics", "memorisation"], "needs the training images: --train DIR"),
        (["--network", "none_such"], "No feature network 'none_such'; for 2D:"),
        (["--network", "med3d_resnet10"], "med3d_resnet10 reads 3D images, these are 2D"),
        (["--network", "stand", "--weights", "none.pt"], "No weights of stand at none.pt"),
        (["--network", "stand"], "No weights of stand"),
        (["--metric", "mse"], "unknown argument --metric; compare takes"),
        (["more"], "unknown argument more"),
        (["--scaling", "max"], "scaling must be one of"),
        (["--scaling", "none"], "--scaling none expects"),
        (["--real", "nowhere"], "No folder nowhere"),
    ],
)
def test_mistakes_end_before_the_work(tmp_path, capsys, arguments, message):
    real, fake = pictures(tmp_path / "real", 3), pictures(tmp_path / "fake", 3)
    given = ["--fake", fake, *([] if "--real" in arguments else ["--real", real]), *arguments]
    if arguments == ["more"]:
        given = [real, fake, "more"]
    error = run(capsys, "compare", *given, "--out", tmp_path / "r", status=2).err
    assert message in error
    assert "Traceback" not in error


def test_empty_folder_and_single_image(tmp_path, capsys):
    real, fake = pictures(tmp_path / "real", 3), tmp_path / "fake"
    (fake / "below").mkdir(parents=True)
    error = run(capsys, "compare", real, fake, status=2).err
    assert re.search(r"No \.png.* file in .*fake or below it", error)
    pictures(fake, 1)
    error = run(capsys, "compare", real, fake, "--metrics", "mmd", status=2).err
    assert re.search(r"at least two images in each folder; .*fake holds one", error)


def test_lists(capsys):
    assert "cxr_v1  2D" in run(capsys, "networks").out
    assert "perceptual" in run(capsys, "metrics").out


def test_answers_of_readers(tmp_path, capsys):
    table = tmp_path / "answers.csv"
    table.write_text("reader,correct\n" + "".join(f"a,{int(k < 8)}\nb,{k % 2}\n" for k in range(10)))
    assert "8 of 10" in run(capsys, "observer", table, "--out", tmp_path / "o").out
    assert json.loads((tmp_path / "o" / "observer.json").read_text())["pooled"]["n"] == 20
    table.write_text("who\nme\n")
    assert "answers.csv: a column correct" in run(capsys, "observer", table, status=2).err
