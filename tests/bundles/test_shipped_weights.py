"""The weights in the bundles' models folders belong to the networks of their configs."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from common.data.lists import image_cases
from common.data.splits import sample_share
from common.networks.weights import load_weights, read_checkpoint
from common.studies.synthetic import names_digest, sample_of
from tests.fixtures import REPOSITORY, real_data

BUNDLES = REPOSITORY / "bundles"
SHIPPED = sorted(path.relative_to(BUNDLES).as_posix() for path in BUNDLES.glob("*/models/*.pt"))
OVERLAYS = {
    "med_ddpm_3d/models/model.pt": (),
    "med_cdiff_mri_inpaint/models/model.pt": (),
    "med_cdiff_mri_superres/models/model.pt": (),
    "med_cdiff_xray_denoise/models/model.pt": (),
    "med_vdm_cxr/models/model.pt": (),
    "med_vdm_cxr/models/conv.pt": ("conv",),
    "dm_brain_tumor_mri/models/model.pt": (),
    "dm_brain_tumor_mri/models/model_by_group.pt": ("by_group",),
    "dm_brain_tumor_mri/models/model_strict.pt": ("strict",),
}


@pytest.mark.parametrize("file", SHIPPED)
def test_files_are_small_plain_and_finite(file):
    assert (BUNDLES / file).stat().st_size <= 25e6
    content = read_checkpoint(BUNDLES / file)
    tensors = [value for value in content.values() if isinstance(value, torch.Tensor)]
    assert tensors
    assert all(bool(torch.isfinite(value).all()) for value in tensors)


@pytest.mark.parametrize("file", OVERLAYS)
def test_the_configs_load_them(file):
    bundle = BUNDLES / file.split("/")[0]
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / f"{name}.json" for name in ("inference", *OVERLAYS[file])])
    parser["bundle_root"] = str(bundle)
    parser["device"] = torch.device("cpu")
    assert parser.get_parsed_content("weights") == str(BUNDLES / file)
    before = {name: value.clone() for name, value in parser.get_parsed_content("network").state_dict().items()}
    after = load_weights(parser.get_parsed_content("network"), BUNDLES / file).state_dict()
    assert any((before[name] != value).any() for name, value in after.items())


@pytest.mark.parametrize(
    ("file", "column", "by"),
    [
        ("model.pt", "group", None),
        ("model_by_group.pt", "group", "group"),
        ("model_strict.pt", "series", "group"),
    ],
)
def test_the_records_say_which_real_images_they_have_seen(file, column, by):
    known = sample_of(BUNDLES / "dm_brain_tumor_mri" / "models" / file)
    assert known is not None
    cases = image_cases(real_data("brain_tumor_mri"), column)
    assert known == names_digest(sample_share(cases, by=by)[0])


def test_every_diffusion_model_is_listed():
    others = {"classifier.pt", "segmenter.pt"}
    assert {file for file in SHIPPED if file.split("/")[-1] not in others} == set(OVERLAYS)
