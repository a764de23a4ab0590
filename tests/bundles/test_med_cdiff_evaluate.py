"""The evaluation of the Med-cDiff bundles: one table with all rows, on held-out cases, in the clean image's scale."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from ignite.engine import Events

from common.networks.classifiers import grey_vgg11
from common.networks.weights import save_weights
from tests.bundles.inference_runs import refused
from tests.bundles.restoration_runs import (
    BUNDLES,
    DENOISE,
    INPAINT,
    SUPERRES,
    restoration,
    tiny_weights,
    write_picture,
)
from tests.masks.phantom2d import chest_picture, head_slice

CLASSES = {DENOISE: ("bacteria", "normal", "virus"), SUPERRES: ("glioma", "meningioma", "notumor", "pituitary")}
ROWS = {
    DENOISE: ("noisy", "median", "nonlocal_means", "median_nonlocal_means", "med_cdiff", "original"),
    SUPERRES: ("bilinear", "bicubic", "med_cdiff", "mean", "original"),
    INPAINT: ("biharmonic", "med_cdiff", "original"),
}
TITLE = "Med-cDiff (DPMSolverPP2M, 2 steps)"
COMMON = {"perceptual", "fid", "kid", "psnr", "ssim", "acutance", "acutance ratio"}
MORE = {
    DENOISE: {"accuracy", "accuracy won back", "machine_2afc"},
    SUPERRES: {"accuracy", "accuracy won back", "machine_2afc"},
    INPAINT: {"psnr[inside]", "background_rms[inside]", "machine_2afc"},
}
QUICK = {"max_cases": 3, "columns#names": ["psnr", "ssim", "acutance"], "classifier_weights": None}

pytestmark = pytest.mark.filterwarnings("ignore:fid")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of pictures for each bundle, a class a folder."""
    top = tmp_path_factory.mktemp("data")
    for bundle, make in ((DENOISE, chest_picture), (SUPERRES, head_slice)):
        for number, name in enumerate(CLASSES[bundle]):
            for index in range((48 if bundle == DENOISE else 60) // len(CLASSES[bundle])):
                write_picture(top / bundle / name / f"{name}_{index}.png", make(40, seed=100 * number + index))
    return {DENOISE: top / DENOISE, SUPERRES: top / SUPERRES, INPAINT: top / SUPERRES}


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifiers")
    return {b: str(save_weights(grey_vgg11(len(names)), folder / f"{b}.pt", half=True)) for b, names in CLASSES.items()}


def evaluation(bundle, data, tmp_path, *overlays, **overrides):
    given = {
        "group_by": None,
        "dataset_dir": str(data[bundle]),
        "output_dir": str(tmp_path / "eval"),
        "spatial_size": [32, 32],
    }
    weights = tiny_weights(bundle, tmp_path)
    return restoration(bundle, "evaluate.json", *overlays, **{**given, "weights": weights, **overrides})


def result_of(tmp_path):
    return json.loads((tmp_path / "eval" / "metrics.json").read_text())


def column(name):
    """A metric's name without its network."""
    return name if "[inside]" in name or "[" not in name else name.partition("[")[0]


def strict_manifest(folder):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [
        f"{file},{file.split('/')[0]},{i // 3},{i // 3},{i % 30 if i % 2 else file}" for i, file in enumerate(files)
    ]
    (folder / "manifest.csv").write_text("\n".join(["path,class,group,series,lookalike", *rows]))


@pytest.mark.parametrize("bundle", [SUPERRES, INPAINT])
def test_held_out_slices_without_lookalikes_of_training_slices(bundle, data, tmp_path):
    folder = shutil.copytree(data[bundle], tmp_path / "data")
    strict_manifest(folder)
    shares = {}
    for name, overlays, given in (
        ("by group", (), {"group_by": "group"}),
        ("without lookalikes", (), {"group_by": "group", "lookalike_by": "lookalike"}),
        ("strict", ("strict.json",), {"group_by": "series"}),
    ):
        run = evaluation(bundle, {bundle: folder}, tmp_path, *overlays, **given)
        shares[name] = train, held_out = run.parser.get_parsed_content("split")
        assert [case["case"] for case in train] == [case["case"] for case in shares["by group"][0]]
        if name != "by group":
            assert not {case["lookalike"] for case in train} & {case["lookalike"] for case in held_out}
            assert 0 < len(held_out) < len(shares["by group"][1])
    shipped = restoration(bundle, "evaluate.json", dataset_dir=str(folder))
    assert shipped.parser.get_parsed_content("split") == shares["strict"], "as the record of the shipped weights says"
    (folder / "manifest.csv").unlink()
    own = restoration(bundle, "evaluate.json", dataset_dir=str(folder), group_by="$None").parser
    assert sum(map(len, own.get_parsed_content("split"))) == 60, "which says nothing of images without these columns"


@pytest.mark.parametrize(("bundle", "case"), [(DENOISE, "glioma_0"), (SUPERRES, "bacteria_0")])
def test_images_of_no_class_have_no_accuracy(bundle, case, data, tmp_path):
    other = {DENOISE: data[SUPERRES], SUPERRES: data[DENOISE]}
    own = restoration(bundle, "evaluate.json", dataset_dir=str(other[bundle]), group_by=None).parser
    assert case in [item["case"] for item in own.get_parsed_content("cases")]
    assert own.get_parsed_content("classifier_weights") is None
    known = restoration(bundle, "evaluate.json", dataset_dir=str(data[bundle]), group_by=None).parser
    assert known.get_parsed_content("classifier_weights").endswith(f"{bundle}/models/classifier.pt")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_one_table_has_all_rows_and_columns(bundle, data, classifiers, tmp_path):
    more = {"num_samples": 2} if bundle == SUPERRES else {}
    if bundle in classifiers:
        more["classifier_weights"] = classifiers[bundle]
    run = evaluation(bundle, data, tmp_path, **more)
    assert run.check_properties() == []
    train, held_out = run.parser.get_parsed_content("split")
    assert not {case["group"] for case in held_out} & {case["group"] for case in train}
    run.run()
    result = result_of(tmp_path)
    methods = result["methods"]
    assert tuple(methods) == ROWS[bundle]
    assert methods["med_cdiff"]["title"] == TITLE
    assert {column(name) for name in methods["med_cdiff"]["metrics"]} == COMMON | MORE[bundle]
    assert set(methods["original"]["metrics"]) == {"acutance[generated]"} | (
        {"accuracy[vgg11]"} if bundle in classifiers else set()
    )
    values = {m: {column(k): v["value"] for k, v in row["metrics"].items()} for m, row in methods.items()}
    sometimes = ("accuracy won back", "background_rms[inside]")  # these pictures have a grey background
    assert all(value is not None for row in values.values() for name, value in row.items() if name not in sometimes)
    measured = [v for row in methods.values() for name, v in row["metrics"].items() if name not in sometimes]
    counts = {str(v["n"]) for v in measured if isinstance(v.get("n"), int)}
    assert counts == {str(len(held_out))}
    table, compared = (tmp_path / "eval" / "metrics.md").read_text().split("\nEach value minus that of ")
    titles = {method: row["title"] for method, row in methods.items()}
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]] == list(titles.values())
    others = [title for method, title in titles.items() if method not in ("med_cdiff", "original")]
    assert [line.split(" | ")[0].strip("| ") for line in compared.splitlines()[4:]] == others
    assert {"fid", "psnr"} <= {column(name) for name in methods[ROWS[bundle][0]]["differences"]}
    assert (tmp_path / "eval" / "contact_sheet.png").is_file()
    assert "clean image's own range" in result["context"]["intensities"]
    if bundle == SUPERRES:
        assert values["bicubic"]["psnr"] > values["bilinear"]["psnr"]
        assert values["bilinear"]["acutance ratio"] < 0.8
    if bundle == DENOISE:
        assert values["median"]["psnr"] > values["noisy"]["psnr"] + 3


def test_degradations_are_those_of_seed_and_case(data, tmp_path):
    def degraded(**more):
        run = evaluation(DENOISE, data, tmp_path, **more)
        return {case["case"]: case["degraded"] for case in run.parser.get_parsed_content("dataset")}

    every, some, other = degraded(), degraded(max_cases=5), degraded(max_cases=5, degradation_seed=1)
    assert len(some) == 5
    assert all(torch.equal(image, every[name]) for name, image in some.items())
    assert not any(torch.equal(image, some[name]) for name, image in other.items())


@pytest.mark.parametrize("patient_range", [False, True])
def test_a_network_that_gives_back_its_input_scores_as_its_input_and_a_further_row_is_one_entry(
    patient_range, data, tmp_path
):
    as_given = {
        "patient_range": patient_range,
        "inferer": "$lambda inputs, network: inputs[:, :1]",
        "num_samples": 1,
        "quiet_background": False,
    }
    own = {"methods#flipped": "$lambda case: case['label'].flip(-1)", "titles#flipped": "mirrored"}
    evaluation(SUPERRES, data, tmp_path, **as_given, **own, **QUICK).run()
    methods = result_of(tmp_path)["methods"]
    assert result_of(tmp_path)["context"]["precision"] == "fp32"
    assert "mean" not in methods
    for name in ("psnr", "ssim", "acutance ratio"):
        mine, theirs = (methods[m]["metrics"][name]["value"] for m in ("med_cdiff", "bilinear"))
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)
    assert methods["flipped"]["title"] == "mirrored"
    assert methods["flipped"]["metrics"]["acutance ratio"]["value"] == pytest.approx(1)


def test_inpainting_leaves_known_pixels_bit_identical(data, tmp_path):
    run = evaluation(
        INPAINT,
        data,
        tmp_path,
        max_cases=3,
        **{"columns#names": ["psnr", "psnr_in_hole", "background_rms", "acutance"]},
    )
    evaluator, seen = run.parser.get_parsed_content("evaluator"), []
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: seen.extend(zip(engine.state.output, engine.state.batch))
    )
    run.run()
    assert len(seen) == 3
    for output, batch in seen:
        for method in ("biharmonic", "med_cdiff"):
            known = batch["hole"] == 0
            assert torch.equal(output[method][known], output["original"][known])
            assert not torch.equal(output[method], output["original"])


def test_missing_classifier_of_an_explicit_path_stops_it(data, tmp_path):
    with refused(FileNotFoundError, "No weights at .*none.pt"):
        evaluation(DENOISE, data, tmp_path, classifier_weights=str(tmp_path / "none.pt")).run()
    assert not (tmp_path / "eval" / "metrics.json").exists()


def test_the_papers_sampler_fits_the_same_evaluation(data, tmp_path):
    run = evaluation(DENOISE, data, tmp_path, "ancestral.json", max_cases=2, num_inference_steps=2000)
    sampler = run.parser.get_parsed_content("sampler")
    assert len(sampler.steps) == 2000
    assert run.parser.get_parsed_content("method_title") == "Med-cDiff (Ancestral, 2000 steps)"
