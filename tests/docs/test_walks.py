"""The commands of the pages for users, run one after the other as they are written, on tiny data with tiny settings."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from tests import forks
from tests.bundles.restoration_runs import write_dicom, write_picture
from tests.data.test_dicom_volumes import lopsided_mask, segmentation
from tests.docs.test_commands import commands_of, configs_of, content_of, options_of
from tests.fixtures import REPOSITORY, image_of, oblique_affine, two_part_mask, write_nifti
from tests.masks.phantom2d import chest_picture, head_slice

pytestmark = pytest.mark.exhaustive

PAGES = {  # and the bundle in whose folder "configs/..." is found; med_ddpm_brats is too slow, see tests/bundles
    **{f"bundles/{b}/docs/README.md": b for b in ("med_ddpm_3d", "med_vdm_cxr")},
    **{
        f"bundles/med_cdiff_{b}/docs/README.md": f"med_cdiff_{b}"
        for b in ("xray_denoise", "mri_superres", "mri_inpaint")
    },
    **{f"bundles/dm_{b}/docs/README.md": f"dm_{b}" for b in ("brain_tumor_mri", "leukemia_smear", "sars_cov2_ct")},
    **{f"docs/{page}.md": "med_ddpm_3d" for page in ("getting-started/first-volume", "reference/configuration")},
    **{f"docs/how-to/{page}.md": "med_ddpm_3d" for page in ("evaluate", "make-masks", "train-on-your-data")},
    "README.md": "med_ddpm_3d",
    "docs/reference/image-files.md": "med_ddpm_3d",
    "docs/how-to/restore-images.md": "med_cdiff_mri_superres",
    "docs/how-to/synthetic-set-and-classifiers.md": "dm_brain_tumor_mri",
}
SMALL = {
    **{"max_epochs": 1, "num_inference_steps": 2, "num_previews": 1, "batch_size": 2, "max_cases": 2, "tries": 1},
    **{
        "count": 4,
        "num_samples": 2,
        "per_class": 4,
        "folds": 2,
        "check_memory": False,
        "factors": [4.0],
        "architectures": "resnet18",
    },
}
"""What is set where a config has it: given last on the command line, it goes before what the page says."""

NOT_WALKED = {  # where such a word stands, and what tests it instead
    "torchrun": "tests/bundles/test_med_ddpm_3d_dist.py",
    "paper.json": "too large for a test: tests/bundles/test_configs.py",
    "large_model.json": "likewise",
    "benchmarks": "hours of measurements",
    "one_model_a_class.json": "files are moved by hand in between: tests/bundles/test_dm_train.py",
    "JUDGE": "tests/bundles/test_dm_classify_sets.py",
    "study_sets": "tests/studies/test_study_sets.py",
    "preprocess.json": "tests/studies/test_preprocess.py",
    "reader_a.csv": "answers of readers: tests/evaluation/test_observer.py",
    "common.data.bids": "tests/data/test_bids.py",
    "common.masks head": "the scan of a head: tests/masks/test_heads.py",
}
DROPPED = ("--lpips_weights", "--vgg16_weights", "--imagenet")  # files that are not of this project
STANDS_FOR = {
    **{"FILE": "mask.nii.gz", "my_mask.nii.gz": "mask.nii.gz", "MRI": "DATA", "DIR": "DATA/images"},
    **{"/data/mine": "DATA", "data": "DATA", "hippocampus_mr": "DATA", "/data/hippocampus_mr": "DATA"},
    **{"WEIGHTS": "models/model.pt", "DENOISER": "models/model.pt", "seg.dcm": "study/mask.dcm"},
    **{"Task05_Prostate": "phantoms", "Task05_Prostate/imagesTr": "phantoms/imagesTr"},
    "{'liver': 1, 'lesion': 2}": "{'anterior': 1, 'posterior': 2}",
}


def pictures(folder, classes, make, colour, each):
    """Pictures in a folder a class, three a patient, series or group, and the manifest that says so."""
    rows = ["path,class,group,series,lookalike,patient_id,patient"]
    for name in classes:
        for index in range(each):
            file, group = f"{name}/{name}_{index}.png", f"{name}{index // 3}"
            alike = index % 9 if each > 12 else index // 3  # few images must be left beside those that look alike
            image = make(40, seed=len(rows))
            write_picture(folder / file, np.stack([image, image // 2, image // 3], -1) if colour else image)
            rows.append(f"{file},{name},{group},{group},{name}{alike},{group},{group}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def volumes(place):
    """Pairs that have the names of the Decathlon's hippocampi, and single files."""
    for index in range(1, 9):
        mask = two_part_mask((33 + index % 3, 44, 32), seed=index)
        for kind, array in (("labels", mask), ("images", image_of(mask, seed=index))):
            write_nifti(place / "DATA" / kind / f"hippocampus_{index:03d}.nii.gz", array)
            if index == 1:
                write_nifti(place / kind / "case.nii.gz", array)
    shutil.copy(place / "labels" / "case.nii.gz", place / "mask.nii.gz")
    (place / "study").mkdir()
    segmentation(place / "study" / "mask.dcm", lopsided_mask(), oblique_affine())


def write_inputs(place, bundle):
    """What a page takes for granted, in the folder where its commands are typed."""
    if bundle == "med_ddpm_3d":
        for number in range(250):
            folder = ("real", "generated", "train", "ours", "theirs")[number % 5]
            write_picture(place / folder / f"{number}.png", chest_picture(24, seed=number))
        return volumes(place)
    make = chest_picture if bundle in ("med_cdiff_xray_denoise", "med_vdm_cxr", "dm_sars_cov2_ct") else head_slice
    named = REPOSITORY / "bundles" / bundle / "configs" / f"{'evaluate' if bundle.startswith('med_') else 'study'}.json"
    classes = json.loads(named.read_text()).get("classes", ["bacteria", "normal", "virus"])
    pictures(
        place / "DATA", classes, make, "smear" in bundle, 30 if bundle in ("med_vdm_cxr", "dm_brain_tumor_mri") else 12
    )
    for index in range(3):
        write_picture(place / "FOLDER" / f"image_{index}.png", make(40, seed=index))
    write_dicom(place / "slice.dcm", make(40, seed=0).astype("uint16") * 16)
    hole = 0 * head_slice(40, seed=0)
    hole[15:22, 15:22] = 1
    for name, array in (("slice", head_slice(40, seed=0)), ("hole", hole)):
        write_nifti(place / f"{name}.nii.gz", array)
    return None


def small(command, place):
    """The command with stand-ins, and with the tiny settings that its configs know."""
    words = [STANDS_FOR.get(word, word) for word in command]
    for name in DROPPED:
        if name in words:
            del words[words.index(name) : words.index(name) + 2]
    if "monai.bundle" not in words:
        small = {"--count": "2", "--size": "32"}
        return [*words, *(word for name in small if name in words for word in (name, small[name]))]
    options = options_of(words[words.index("run") + 1 :])
    config = {**content_of(tuple(str(place / file) for file in configs_of(options))), **dict(options)}
    kept = {name for name in SMALL if str(config.get(name)) in ("1", str(SMALL[name]))}
    given = {name: value for name, value in SMALL.items() if name in config and name not in kept}
    if {"per_class", "num_samples"} <= {*given}:  # a set has as many images a class as the classifiers ask for
        given["num_samples"] = given["per_class"]
    return [*words, *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def weights_of_own(bundle, place):
    """Weights of the page's data where those that are shipped belong: a classifier refuses a model of other images."""
    for overlay, name in (("", "model"), (",'configs/by_group.json'", "model_by_group")):
        if not (place / "models" / f"{name}.pt").is_file():
            continue
        words = ["run", "--config_file", f"['configs/train.json'{overlay}]", "--dataset_dir", "DATA"]
        run = small(["monai.bundle", *words, "--output_dir", f"runs/{name}"], place)
        assert forks.module(run[0], run[1:], place).wait(600).returncode == 0
        for end in (".pt", ".json"):
            (place / "models" / f"{name}{end}").unlink()
            shutil.copy(place / "runs" / name / f"model{end}", place / "models" / f"{name}{end}")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_end_well(page, tmp_path, monkeypatch):
    bundle = PAGES[page]
    shutil.copytree(REPOSITORY / "bundles", tmp_path / "bundles", symlinks=True, copy_function=os.symlink)
    (tmp_path / "common").symlink_to(REPOSITORY / "common")
    own = tmp_path / "bundles" / bundle
    for place in (tmp_path, own):
        write_inputs(place, bundle)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if bundle == "dm_brain_tumor_mri":
        weights_of_own(bundle, own)
    if "restore" in page:
        forks.module("common.masks", ["prostate", "--out", own / "phantoms", "--count", "6"], tmp_path).wait()
    wrong, walked = [], 0
    for command in commands_of(page):
        text = " ".join(command)
        if command[:2] != ["python", "-m"] or any(word in text for word in NOT_WALKED):
            continue
        place = tmp_path if "bundles/" in text or "common" in text else own
        words = small(command, place)
        end = forks.module(words[2], words[3:], place).wait(600)
        walked += 1
        if end.returncode:
            wrong.append(f"{' '.join(words)}:\n{end.stdout[-1500:]}\n{end.stderr[-1500:]}")
    assert not wrong, "\n".join(wrong)
    assert walked
