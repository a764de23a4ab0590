"""The weights in the bundles' models folders belong to the networks of their configs."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser, load

from common.bundle.record import OF_THE_SPLIT, record_of
from common.data.lists import image_cases
from common.data.splits import sample_share
from common.networks.weights import read_checkpoint
from common.studies.synthetic import names_digest, sample_of
from tests.fixtures import REPOSITORY, real_data

BUNDLES = REPOSITORY / "bundles"
SHIPPED = sorted(path.relative_to(BUNDLES).as_posix() for path in BUNDLES.glob("*/models/*.pt"))
OVERLAYS = {
    "med_ddpm_3d/models/model.pt": (),
    "med_ddpm_3d/models/discogan.pt": ("discogan",),
    "med_ddpm_3d/models/model_fast.pt": ("fast",),
    "med_ddpm_3d/models/pix2pix.pt": ("pix2pix",),
    "med_ddpm_brats/models/model.pt": (),
    "med_cdiff_mri_inpaint/models/model.pt": (),
    "med_cdiff_mri_inpaint/models/model_fast.pt": ("fast",),
    "med_cdiff_mri_inpaint/models/hpunet.pt": ("hpunet",),
    "med_cdiff_mri_inpaint/models/pix2pix.pt": ("pix2pix",),
    "med_cdiff_mri_inpaint/models/regression.pt": ("regression",),
    "med_cdiff_mri_superres/models/model.pt": (),
    "med_cdiff_mri_superres/models/model_fast.pt": ("fast",),
    "med_cdiff_mri_superres/models/pix2pix.pt": ("pix2pix",),
    "med_cdiff_mri_superres/models/regression.pt": ("regression",),
    "med_cdiff_mri_superres/models/srgan_generator.pt": ("srgan",),
    "med_cdiff_xray_denoise/models/model.pt": (),
    "med_cdiff_xray_denoise/models/model_fast.pt": ("fast",),
    "med_cdiff_xray_denoise/models/pix2pix.pt": ("pix2pix",),
    "med_cdiff_xray_denoise/models/regression.pt": ("regression",),
    "med_cdiff_xray_denoise/models/up_gan.pt": ("up_gan",),
    "med_vdm_cxr/models/model.pt": (),
    "med_vdm_cxr/models/conv.pt": ("conv",),
    "dm_brain_tumor_mri/models/model.pt": (),
    "dm_brain_tumor_mri/models/model_by_group.pt": ("by_group",),
    "dm_brain_tumor_mri/models/model_strict.pt": ("strict",),
}


def test_monai_label_serves_model_pt_which_has_the_shortest_name():
    """Its plain app loads the weights of the shortest name; med_vdm_cxr takes no images and so is not served."""
    others = [file.split("/")[-1] for file in SHIPPED if not file.startswith("med_vdm_cxr")]
    assert [name for name in others if name != "model.pt" and len(name) <= len("model.pt")] == []


@pytest.mark.parametrize("file", SHIPPED)
def test_files_are_small_plain_and_finite(file):
    assert (BUNDLES / file).stat().st_size <= 25e6
    content = read_checkpoint(BUNDLES / file)
    tensors = [value for value in content.values() if isinstance(value, torch.Tensor)]
    assert tensors
    assert all(bool(torch.isfinite(value).all()) for value in tensors)


@pytest.mark.parametrize("file", OVERLAYS)
def test_a_parser_and_monais_load_give_the_network_with_weights_from_any_folder(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = BUNDLES / file.split("/")[0]
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / f"{name}.json" for name in ("inference", *OVERLAYS[file])])
    parser["bundle_root"] = str(bundle)
    parser["device"] = torch.device("cpu")
    assert parser.get_parsed_content("weights") == str(BUNDLES / file)
    networks = [parser.get_parsed_content("checkpointloader")]
    assert networks[0] is parser.get_parsed_content("network")
    if file.endswith("/model.pt"):
        networks.append(load(bundle.name, bundle_dir=BUNDLES, device="cpu", args_file={"logging_file": False}))
    saved = read_checkpoint(BUNDLES / file)
    for state in (network.state_dict() for network in networks):
        assert set(state) == set(saved)
        assert all(torch.equal(state[name], value.to(state[name].dtype)) for name, value in saved.items())


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


@pytest.mark.parametrize("file", OVERLAYS)
def test_an_overlay_holds_out_what_its_weights_and_those_beside_them_have_not_seen(file):
    """Without a record beside its own weights, an overlay would be evaluated on training cases of the shipped split."""
    bundle = BUNDLES / file.split("/")[0]
    settings = [record_of(path).get("settings", {}) for path in (BUNDLES / file, bundle / "models" / "model.pt")]
    own, default = ({name: found[name] for name in OF_THE_SPLIT if name in found} for found in settings)
    if bundle.name != "dm_brain_tumor_mri":  # whose weights are of three splits
        assert own == default


def test_every_diffusion_model_is_listed():
    others = {"classifier.pt", "segmenter.pt"}
    assert {file for file in SHIPPED if file.split("/")[-1] not in others} == set(OVERLAYS)
