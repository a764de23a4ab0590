"""
What servers make of a bundle, without a server: they read a plain config, and drop what reads and writes files.

MONAI Label keeps the loader, adds "image_path" to each case and drops ``SaveImaged``. MONAI Deploy drops the loader, so
that an image knows no file, and keeps the writers.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from common.data.served import SERVED
from tests.bundles.inference_runs import TINY, TINY_NETWORK, inference_workflow
from tests.bundles.restoration_runs import BUNDLES, INPAINT, folder_of, grey, restoration, tiny_state
from tests.fixtures import BUNDLE, TEST_DEVICE, two_part_mask, write_nifti

IMAGES = [BUNDLE.name, *BUNDLES]


@pytest.fixture(params=IMAGES)
def bundle(request):
    return request.param


@pytest.fixture
def weights(bundle, tmp_path):
    """Of a tiny network that predicts more than 0."""
    if bundle != BUNDLE.name:
        state = tiny_state(bundle)
    else:
        torch.manual_seed(0)
        state = inference_workflow().network_def.state_dict()
        state = {name: value + 0.02 * torch.randn_like(value) for name, value in state.items()}
    torch.save(state, tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


@pytest.fixture
def files(bundle, tmp_path):
    """A case, as paths by key."""
    if bundle == BUNDLE.name:
        return {"image": write_nifti(tmp_path / "mask.nii.gz", two_part_mask((9, 8, 7)))}
    found = {"image": write_nifti(tmp_path / "slices.nii.gz", grey((20, 24, 2), np.float32).astype(np.float32) / 7)}
    hole = np.zeros((20, 24, 2), np.uint8)
    hole[5:12, 4:14] = 1
    return {**found, **({"hole": write_nifti(tmp_path / "hole.nii.gz", hole)} if bundle == INPAINT else {})}


@pytest.fixture
def parser(bundle, weights, tmp_path):
    """The inference config, read as it is by MONAI's parser; its network has the weights."""
    found = ConfigParser(ConfigParser.load_config_file(folder_of(bundle) / "configs" / "inference.json"))
    given = {**TINY, "bundle_root": str(folder_of(bundle)), "num_inference_steps": 2, "weights": str(weights)}
    found.update({**given, "device": torch.device(TEST_DEVICE), "output_dir": str(tmp_path / "served")})
    found.update({"inferer#progress" if bundle == BUNDLE.name else "sampler#progress": False})
    assert found.get("network_def")["channels"] == TINY_NETWORK["channels"]
    found.get_parsed_content("checkpointloader")
    return found


@pytest.fixture
def wanted(bundle, weights, files, tmp_path):
    """What a run writes."""
    keys = {"image": "mask" if bundle == BUNDLE.name else "image", "hole": "hole"}
    given = {keys[key]: str(path) for key, path in files.items()}
    run = inference_workflow if bundle == BUNDLE.name else lambda **more: restoration(bundle, **more)
    run(**given, weights=str(weights), output_dir=str(tmp_path / "run")).run()
    (path,) = (tmp_path / "run").glob("*.nii.gz")
    return nib.load(path)


def served(parser, case, *dropped):
    """Preprocessing, inferer and postprocessing, less the transforms whose class is named so."""
    chains = [parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing")]
    for chain in chains:
        chain.transforms = tuple(t for t in chain.transforms if not type(t).__name__.startswith(dropped))
    case = chains[0](case)
    with torch.no_grad():
        case["pred"] = parser.get_parsed_content("inferer")(
            inputs=case["image"][None].to(TEST_DEVICE), network=parser.get_parsed_content("network").eval()
        )[0]
    return chains[1](case)["pred"]


def assert_equal(values, found, wanted):
    np.testing.assert_array_equal(values[0].reshape(wanted.shape), np.asanyarray(wanted.dataobj))
    np.testing.assert_allclose(found.affine.numpy(), wanted.affine, atol=1e-4)


def test_a_request_with_the_path_of_its_image_gets_what_a_run_writes(parser, files, wanted, tmp_path):
    names = {"image": str(files["image"]), SERVED: str(files["image"]), "label": str(files.get("hole", ""))}
    found = served(parser, names, "SaveImage")
    assert_equal(found.numpy(), found, wanted)
    assert not (tmp_path / "served").exists()


def test_an_image_without_a_file_gets_what_a_run_writes_and_nothing_is_written(parser, files, wanted, tmp_path):
    loaded = {key: nib.load(path) for key, path in files.items()}
    case = {key: MetaTensor(image.get_fdata()[None], affine=image.affine) for key, image in loaded.items()}
    found = served(parser, case, "Load")
    kind = wanted.get_data_dtype()  # nothing rounds for a file that is not there
    assert_equal((found.round() if np.issubdtype(kind, np.integer) else found).numpy().astype(kind), found, wanted)
    assert not (tmp_path / "served").exists()
