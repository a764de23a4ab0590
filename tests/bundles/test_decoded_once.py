"""One mask and one X-ray from file to file: each input is decoded once in a run, the check of inputs included."""

from __future__ import annotations

from collections import Counter
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import ImageOps

from .inference_runs import run_inference, save_tiny_weights
from .restoration_runs import grey, restore, tiny_weights, write_picture


def counted(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, counts: Counter) -> None:
    original = getattr(where, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        counts[name] += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(where, name, call)


def test_a_mask_is_decoded_once(tmp_path, monkeypatch):
    weights, counts = save_tiny_weights(tmp_path / "model.pt"), Counter()
    counted(monkeypatch, nib.Nifti1Image, "from_bytes", counts)
    run_inference(output_dir=str(tmp_path / "out"), weights=str(weights))
    assert (tmp_path / "out" / "mask_000_mr.nii.gz").is_file()
    assert counts == {"from_bytes": 1}


def test_a_picture_and_its_hole_are_decoded_once(tmp_path, monkeypatch):
    hole = np.zeros((30, 44), np.uint8)
    hole[5:20, 10:30] = 255
    image, holes = write_picture(tmp_path / "a.png", grey()), write_picture(tmp_path / "holes" / "a.png", hole)
    bundles = {"med_cdiff_xray_denoise": {}, "med_cdiff_mri_inpaint": {"hole": str(holes)}}
    for expected, (bundle, own) in enumerate(bundles.items(), start=1):
        weights, counts = tiny_weights(bundle, tmp_path), Counter()
        with monkeypatch.context() as patch:
            counted(patch, ImageOps, "exif_transpose", counts)
            restore(bundle, image=str(image), output_dir=str(tmp_path / bundle), weights=weights, **own)
        assert counts == {"exif_transpose": expected}
