"""Segmenters of real, generated and mixed volumes: rows, what is trained on, resume, and the numbers of the table."""

from __future__ import annotations

import json
import shutil
import time

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from common.features.segmenter import build_segmenter
from common.studies.segmentation_rows import row_cases, study_rows
from common.studies.segmentation_table import SCORES, scores_on_cases, write_table
from common.studies.volume_set import LAYOUTS
from common.utils.files import write_csv
from tests.bundles.inference_runs import refused
from tests.fixtures import BUNDLE, write_dataset

CONFIGS = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "train_segmenter", "study_segmentation")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), 5)


@pytest.fixture(scope="module")
def generated(data, tmp_path_factory):
    """A set as generate.json writes it, of volumes that are none of the data's."""
    root = tmp_path_factory.mktemp("set")
    rows = []
    for number, path in enumerate(sorted((data / "images").iterdir())[:4]):
        name = f"mask_{number:03d}.nii.gz"
        for ours, theirs in zip(LAYOUTS["plain"], ("images", "labels")):
            (root / ours).mkdir(exist_ok=True)
            shutil.copy(data / theirs / path.name, root / ours / name)
        image = nib.load(root / "images" / name)
        nib.save(nib.Nifti1Image(image.get_fdata()[::-1] + 1.0, image.affine), root / "images" / name)
        rows.append([f"images/{name}", f"labels/{name}"])
    write_csv(root / "manifest.csv", ["path", "mask"], rows)
    return root


def study(data, generated, out, **given):
    sets = {"ours": str(generated), "theirs": str(generated)}
    given = {"sets": sets, "multiples": [1], "seeds": [0, 1], "iterations": 2, "batch_size": 2, **given}
    run = ConfigWorkflow(
        CONFIGS, "train", run_id="run_table", logging_file=False, dataset_dir=str(data), output_dir=str(out),
        spacing=None, **given,
    )  # fmt: skip
    run.initialize()
    run.run()
    run.finalize()
    return json.loads((out / "segmentation.json").read_text())


def test_rows_are_those_of_the_paper():
    titles = [row.title for row in study_rows(["GAN", "Med-DDPM"], [1, 5])]
    assert titles == [
        "real", "real, augmented", "1 × GAN", "5 × GAN", "1 × Med-DDPM", "5 × Med-DDPM", "1 × mixture", "5 × mixture",
        "real + 5 × GAN", "real + 5 × GAN, augmented", "real + 5 × Med-DDPM", "real + 5 × Med-DDPM, augmented",
        "real + 5 × mixture", "real + 5 × mixture, augmented",
    ]  # fmt: skip
    assert [row.title for row in study_rows(["GAN"], [5], ["5 × GAN"])] == ["real", "5 × GAN"], (
        "with what it is set against"
    )
    with pytest.raises(ValueError, match="No row"):
        study_rows(["GAN"], [5], ["5 × VAE"])


def test_a_row_has_its_volumes_and_a_mixture_equal_parts(generated):
    real = [{"image": f"{i}", "label": f"{i}", "case": f"{i}", "group": f"{i}"} for i in range(3)]
    rows = {row.title: row for row in study_rows(["a", "b"], [1, 2])}
    sets = {"a": generated, "b": generated}
    names = {
        title: [case["case"] for case in row_cases(row, real, sets)] for title, row in rows.items() if "2" not in title
    }
    drawn = [f"mask_{i:03d}" for i in range(4)]
    assert names["real, augmented"] == ["0", "1", "2"]
    assert names["1 × a"] == drawn[:3]
    assert names["1 × mixture"] == [drawn[0], drawn[0], drawn[1]]
    assert [len(row_cases(rows["real + 2 × mixture"], real, sets))] == [9]
    with pytest.raises(ValueError, match=r"has 4 volumes, and '2 × a' needs 6.*larger --count"):
        row_cases(rows["2 × a"], real, sets)
    with pytest.raises(FileNotFoundError, match=r"run generate\.json to its end"):
        row_cases(rows["1 × a"], real, {"a": generated / "none"})


def test_a_study_goes_on_where_it_was_killed_and_ends_in_the_same_numbers(data, generated, tmp_path):
    out = tmp_path / "out"
    found = study(data, generated, out, rows=["1 × ours", "real + 1 × mixture, augmented"])
    assert list(found["rows"]) == ["real", "real, augmented", "1 × ours", "real + 1 × mixture, augmented"]
    assert [row["volumes"] for row in found["rows"].values()] == [4, 4, 4, 8]
    assert (out / "segmentation.png").is_file()
    assert not list(out.rglob("checkpoint*"))
    assert len(found["rows"]["1 × ours"]["metrics"]["dice"]["each"]) == 2
    records = {path.parent: path.read_bytes() for path in sorted(out.rglob("scores.json"))}
    assert len({json.dumps(json.loads(record)["scores"]) for record in records.values()}) == 8, (
        "each row and seed differs"
    )
    lost = out / "1_x_ours" / "seed_1"
    shutil.rmtree(lost)
    untouched = {path: (path / "scores.json").stat().st_mtime_ns for path in records if path != lost}
    again = study(data, generated, out, rows=["1 × ours", "real + 1 × mixture, augmented"])
    assert again["rows"] == found["rows"]
    assert {path: (path / "scores.json").stat().st_mtime_ns for path in untouched} == untouched
    with refused(FileExistsError, "was made with other iterations: --overwrite True"):
        study(data, generated, out, iterations=4)


def test_scores_are_those_of_voxel_counts(tmp_path):
    network = build_segmenter(2)
    torch.save(network.state_dict(), tmp_path / "segmenter.pt")
    image = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        read = network.eval()(image[None]).argmax(1)[0]
    truth = torch.zeros(16, 16, 16, dtype=torch.long)
    truth[4:12, :8], truth[4:12, 8:] = 1, 2
    label = torch.stack([truth == value for value in range(3)]).float()
    found = scores_on_cases(tmp_path / "segmenter.pt", [{"image": image, "label": label}], ["a", "b"])
    for value, name in enumerate("ab", 1):
        both = int(((read == value) & (truth == value)).sum())
        ours, theirs = int((read == value).sum()), int((truth == value).sum())
        assert ours > 0
        expected = {
            "dice": 2 * both / (ours + theirs),
            "iou": both / (ours + theirs - both),
            "accuracy": 1 - (ours + theirs - 2 * both) / 16**3,
            "recall": both / theirs,
            "precision": both / ours,
        }
        assert {metric: values[0] for metric, values in found[name].items()} == pytest.approx(expected, abs=2e-6)


def test_differences_are_paired_and_means_leave_out_what_is_missing(tmp_path):
    random = np.random.RandomState(0)
    values = random.rand(3, 8).round(3)

    def scores(row):
        return [{"x": {name: [*seed, None] for name in SCORES}} for seed in row]

    rows = study_rows([], [1])
    found = {rows[0]: scores(values), rows[1]: scores(values + 0.1)}
    subjects = [*"aabbccdd", "e"]
    write_table(found, dict.fromkeys(rows, 4), subjects, tmp_path, {}, time.monotonic())
    table = json.loads((tmp_path / "segmentation.json").read_text())["rows"]
    dice = table["real"]["metrics"]["dice"]
    assert dice["value"] == pytest.approx(values.mean())
    assert dice["interval95"][0] < values.mean() < dice["interval95"][1]
    assert table["real"]["metrics"]["difference"] is None
    less = table["real, augmented"]["metrics"]["difference"]
    assert less["against"] == "real"
    assert [less["value"], *less["interval95"]] == pytest.approx([0.1, 0.1, 0.1])
