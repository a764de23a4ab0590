"""Slices of volumes: listed from headers, read one by one, turned as inference turns them."""

import nibabel as nib
import numpy as np
import pytest
import torch

from common.data.lists import slice_cases
from common.data.reader import LoadImaged, LoadSliced
from common.transforms.geometry import SlicesLastd
from tests.fixtures import oblique_affine, write_nifti


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    for name, shape in (("b.nii.gz", (7, 9, 4)), ("a.nii", (6, 8, 3))):
        write_nifti(top / "plain" / name, rng.integers(0, 900, shape).astype(np.int16))
    write_nifti(top / "four" / "p_00.nii.gz", rng.random((6, 8, 3, 2)).astype(np.float32))
    return top


def test_one_case_a_slice_and_one_group_a_volume(folder):
    cases = slice_cases(folder / "plain")
    assert [case["case"] for case in cases] == [f"a_{k:03d}" for k in range(3)] + [f"b_{k:03d}" for k in range(4)]
    assert {case["group"] for case in cases} == {"a", "b"}
    assert [case["slice"] for case in slice_cases(folder / "plain", skip=1)] == [1, 1, 2]


def test_a_slice_is_what_inference_makes_of_the_volume(folder):
    for case in slice_cases(folder / "plain"):
        volume = SlicesLastd("image", plane="axial")(LoadImaged("image")({"image": case["image"]}))["image"]
        picture = LoadSliced("image")(case)["image"]
        order = range(volume.shape[3])
        at = [k for k in order if torch.equal(volume.as_tensor()[..., k].float(), picture.as_tensor())]
        assert at == [volume.shape[3] - 1 - case["slice"]], "feet first in the file, head first in print"


def test_a_channel_of_a_4d_file_is_chosen(folder):
    case = slice_cases(folder / "four", channel=1)[2]
    stored = np.asarray(nib.load(case["image"]).dataobj)[:, :, 2, 1]
    picture = LoadSliced("image")(case)["image"][0].numpy()
    assert picture.shape == stored.shape
    np.testing.assert_allclose(np.sort(picture, None), np.sort(stored, None))


def test_nothing_but_headers_is_read_to_list(folder, monkeypatch):
    monkeypatch.setattr(nib.arrayproxy.ArrayProxy, "__array__", lambda *args, **kwargs: 1 / 0)
    monkeypatch.setattr(nib.arrayproxy.ArrayProxy, "__getitem__", lambda *args: 1 / 0)
    assert len(slice_cases(folder / "plain")) == 7
    with pytest.raises(ValueError, match=r"a\.nii: .*ZeroDivisionError"):
        LoadSliced("image")(slice_cases(folder / "plain")[0])


def test_what_cannot_be_listed_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"p_00.nii.gz: a 3D volume was expected, got shape \(6, 8, 3, 2\)"):
        slice_cases(folder / "four")
    with pytest.raises(ValueError, match="a 4D file with channel 2 was expected"):
        slice_cases(folder / "four", channel=2)
    with pytest.raises(ValueError, match="3 slices along axis 2 leave none when 2"):
        slice_cases(folder / "plain", skip=2)
    with pytest.raises(FileNotFoundError, match="No NIfTI volume"):
        slice_cases(tmp_path)
    with pytest.raises(FileNotFoundError, match="No folder"):
        slice_cases(tmp_path / "none")
    write_nifti(tmp_path / "x.nii", np.zeros((4, 4), np.int16), oblique_affine())
    with pytest.raises(ValueError, match=r"x\.nii: a 3D volume was expected"):
        slice_cases(tmp_path)
