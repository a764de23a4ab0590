"""Results of MONAI Label's requests: the numbers and the type of the files that a run writes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from common.data.reader import LoadImaged, read_image
from common.data.served import SERVED, CheckNumberd, LabelAsHoled, StoredTyped
from common.data.writer import SaveImaged


def sources(folder):
    """A picture of each depth, and volumes of whole, scaled, big-endian and real numbers."""
    grey = np.arange(12, dtype=np.uint16).reshape(3, 4)
    Image.fromarray(grey.astype(np.uint8)).save(folder / "8.png")
    Image.fromarray(grey * 5000).save(folder / "16.png")
    volume = np.arange(24.0).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.eye(4)), folder / "float.nii.gz")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(volume.astype(np.int16), np.eye(4), header), folder / "big.nii.gz")
    scaled = nib.Nifti1Image(volume.astype(np.int16), np.eye(4))
    scaled.header.set_slope_inter(0.5, -3)
    nib.save(scaled, folder / "scaled.nii.gz")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("dtype", [None, "int16"])
def test_a_result_holds_what_a_run_writes(tmp_path, dtype):
    (tmp_path / "in").mkdir()
    found = {}
    for path in sources(tmp_path / "in"):
        if dtype is not None and path.suffix == ".png":
            continue
        image = LoadImaged("image", dtype=torch.float64)({"image": str(path)})["image"]
        case = {"pred": MetaTensor(image.as_tensor() + 0.3, meta=image.meta)}
        SaveImaged("pred", tmp_path / "out", "x", output_dtype=dtype)(case)
        served = StoredTyped("pred", dtype)({**case, SERVED: str(path)})["pred"].numpy()
        stem, _, ending = path.name.partition(".")
        written = read_image(tmp_path / "out" / f"{stem}_x.{ending}")
        np.testing.assert_array_equal(served, written.values)
        found[path.name] = served.dtype
        assert StoredTyped("pred", dtype)(case)["pred"] is case["pred"]
    kinds = {"8.png": "u1", "16.png": "u2", "float.nii.gz": "f4", "big.nii.gz": "i2", "scaled.nii.gz": "f8"}
    assert found == ({k: np.dtype(v) for k, v in kinds.items()} if dtype is None else dict.fromkeys(found, np.int16))


def test_a_hole_is_the_label_of_the_request_unless_there_is_one():
    assert LabelAsHoled()({"hole": "a.png", "label": "b.png"})["hole"] == "a.png"
    with pytest.raises(ValueError, match=r"^c\.png: the hole to be filled was expected as 'label'"):
        LabelAsHoled()({"image": "c.png"})


def test_a_request_is_refused_with_a_message_that_reaches_the_client(monkeypatch):
    class HTTPException(Exception):
        def __init__(self, status, detail):
            super().__init__(status, detail)

    monkeypatch.setitem(sys.modules, "fastapi", SimpleNamespace(HTTPException=HTTPException))
    request = {"image": "a.png", "hole": None, SERVED: "a.png"}
    for transform, said in (
        (CheckNumberd("image"), "drawn from noise alone"),
        (LabelAsHoled("hole"), "was expected as"),
    ):
        with pytest.raises(HTTPException, match=f"400, .*{said}"):
            transform(request)
        with pytest.raises(ValueError, match=said):
            transform({"image": "a.png", "hole": None})
