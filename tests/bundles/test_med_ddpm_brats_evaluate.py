"""Four modalities: a segmenter is trained, volumes are drawn for masks that nobody has seen, and both are measured."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from common.features.segmenter import Segmenter, build_segmenter
from common.masks.__main__ import simulate
from common.masks.mr_signal import MODALITIES
from tests.bundles.inference_runs import inference_workflow, refused
from tests.bundles.test_med_ddpm_brats import SPACING
from tests.fixtures import BRATS, DEVICE
from tests.masks.tissues import write_tissues

LABELS = ["necrotic core", "oedema", "enhancing tumour", "brain"]
PARTS = [*LABELS, "lesion"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten cases of 24 voxels a side, weights of a tiny denoiser, and a segmenter of one epoch."""
    folder = tmp_path_factory.mktemp("brats")
    simulate(folder / "data", count=10, size=24, spacing=8.0, tissues=write_tissues(folder / "tissues"))
    torch.manual_seed(0)
    torch.save(workflow(folder).network_def.state_dict(), folder / "model.pt")
    files = [str(BRATS / "configs" / name) for name in ("train.json", "train_segmenter.json")]
    given = {"dataset_dir": str(folder / "data"), "output_dir": str(folder / "seg"), "segmenter_dir": str(folder)}
    run = ConfigWorkflow(files, "train", logging_file=False, max_epochs=1, spacing=SPACING, subject_of="$str", **given)
    run.initialize()
    run.run()
    run.finalize()
    return folder


def workflow(folder, *overlays, **given):
    given = {"weights": str(folder / "model.pt"), "segmenter_weights": str(folder / "segmenter.pt"), **given}
    given = {"dataset_dir": str(folder / "data"), "spacing": SPACING, "device": DEVICE, **given}
    return inference_workflow(*overlays, bundle=BRATS, **given)


def generate(folder, out, **given):
    given = {"count": 2, "size": 24, "tissues": str(folder / "tissues"), **given}
    workflow(folder, "generate.json", output_dir=str(out), segmenter_weights="none", **given).run()


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_segmenter_reads_four_channels_and_learns_from_each_alone(folder):
    network = build_segmenter(num_labels=4, in_channels=4)
    assert Segmenter(network, folder / "segmenter.pt").network is network
    scores = list(csv.DictReader((folder / "seg" / "progress.csv").open()))[-1]
    assert {f"dice_{label}" for label in LABELS} < set(scores)


@pytest.mark.filterwarnings("ignore:fid")
def test_every_part_and_every_modality_is_measured_on_held_out_cases(folder, tmp_path):
    run = workflow(folder, "evaluate.json", output_dir=str(tmp_path))
    training, held_out = run.parser.get_parsed_content("split")
    assert (len(training), len(held_out)) == (8, 2)
    run.run()
    metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    network = next(name for name in metrics if name.startswith("kid"))[4:-1]
    assert set(metrics) == {
        *(f"{name}[{part}]" for name in ("dice", "dice_real", "mask_consistency") for part in PARTS),
        *(f"{name}[{modality}]" for name in ("ms_ssim", "ms_ssim_real") for modality in MODALITIES),
        *(f"fid[{network}, {modality}]" for modality in MODALITIES),
        *("mse", f"fid[{network}]", f"kid[{network}]", "agreement", "agreement_real", "agreement_ratio"),
    }
    assert metrics["dice[lesion]"]["n"] == metrics["agreement_real"]["n"] == 2
    values = [metrics[f"ms_ssim_real[{modality}]"]["value"] for modality in MODALITIES]
    assert len(set(values)) == 4, "each of its own modality"
    assert (tmp_path / "contact_sheet.png").is_file()


def test_a_set_for_new_masks_is_what_training_reads_and_becomes_the_same_after_an_end(folder, tmp_path):
    generate(folder, tmp_path / "a")
    cases = sorted(path.name for path in (tmp_path / "a").iterdir() if path.name.startswith("mask_"))
    assert cases == ["mask_1000", "mask_1001"]
    before = bytes_of(tmp_path / "a")
    case = tmp_path / "a" / "mask_1001"
    assert {path.name for path in case.iterdir()} == {
        *(f"mask_1001_{name}.nii.gz" for name in (*MODALITIES, "seg")),
        "mask_1001.json",
    }
    for name in ("mask_1001_t2.nii.gz", "mask_1001_seg.nii.gz", "../manifest.csv", "../mask_1000/mask_1000_seg.nii.gz"):
        (case / name).unlink()
    generate(folder, tmp_path / "a")
    assert bytes_of(tmp_path / "a") == before
    with refused(FileExistsError, "was made with steps 2, now it is 3"):
        generate(folder, tmp_path / "a", num_inference_steps=3)
    rows = list(csv.DictReader((tmp_path / "a" / "manifest.csv").open()))
    assert [row["path"] for row in rows] == [f"{name}/{name}_t1.nii.gz" for name in cases]
    read = ConfigWorkflow(
        [str(BRATS / "configs" / "train.json")],
        workflow_type="train",
        dataset_dir=str(tmp_path / "a"),
        spacing=SPACING,
        split=[[], "$@cases"],
        logging_file=False,
    )
    read.initialize()
    for case in read.parser.get_parsed_content("validate#dataset"):
        mask = np.asarray(nib.load(tmp_path / "a" / "masks" / f"{case['case']}.nii.gz").dataobj)
        for channel, inside in enumerate([mask == value for value in (1, 2, 3, 4)]):
            np.testing.assert_array_equal(case["label"][channel].numpy() > 0, inside)


def test_label_maps_have_the_names_and_the_values_that_brats_has(folder, tmp_path):
    given = {"weights": str(folder / "segmenter.pt"), "output_dir": str(tmp_path)}
    files = [str(BRATS / "configs" / name) for name in ("inference.json", "segment.json")]
    for _ in range(2):  # the second finds all of them done
        run = ConfigWorkflow(
            files, "inference", logging_file=False, dataset_dir=str(folder / "data"), spacing=SPACING, **given
        )
        run.initialize()
        run.run()
    assert len(run.parser.get_parsed_content("cases")) == 0
    found = nib.load(tmp_path / "head_003" / "head_003_seg.nii.gz")
    source = nib.load(folder / "data" / "head_003" / "head_003_t1.nii.gz")
    np.testing.assert_allclose(found.affine, source.affine)
    assert (found.shape, found.get_data_dtype()) == (source.shape, np.uint8)
    assert set(np.unique(found.dataobj)) <= {0, 1, 2, 4}
    record = json.loads((tmp_path / "head_003" / "head_003_seg.json").read_text())
    assert {f"{name}_sha256" for name in MODALITIES} < set(record)


def test_two_segmenters_are_compared_case_by_case_without_a_drawn_volume(folder, tmp_path):
    files = [str(BRATS / "configs" / f"{name}.json") for name in ("inference", "evaluate", "compare_segmenters")]
    given = {"segmenter_weights": str(folder / "segmenter.pt"), "other_weights": str(folder / "segmenter.pt")}
    given |= {"dataset_dir": str(folder / "data"), "output_dir": str(tmp_path), "spacing": SPACING}
    run = ConfigWorkflow(files, "inference", logging_file=False, **given)
    run.initialize()
    run.run()
    metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    assert set(metrics) == {
        *(f"dice_real[{part}]" for part in PARTS),
        *(f"dice_real[{part}, other]" for part in PARTS),
        *(f"ratio[{part}]" for part in PARTS),
    }
    assert metrics["ratio[brain]"]["value"] == pytest.approx(1)
    assert metrics["dice_real[brain]"]["n"] == 10
