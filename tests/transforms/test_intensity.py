"""Percentile scaling: MONAI's numbers, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd, Orientationd, ScaleIntensityRangePercentiles

from common.transforms.intensity import ScaleIntensityPercentiles, ScaleIntensityPercentilesd
from tests.fixtures import image_of, oblique_affine, two_part_mask


def volume(scale=1000.0):
    return MetaTensor(
        torch.from_numpy(image_of(two_part_mask(), scale))[None], affine=torch.from_numpy(oblique_affine())
    )


@pytest.mark.parametrize("scale", [1.0, 2213.0, 1.7e6])
def test_the_numbers_are_those_of_monai(scale):
    expected = ScaleIntensityRangePercentiles(0.5, 99.5, -1.0, 1.0, clip=True)(volume(scale))
    found = ScaleIntensityPercentiles(0.5, 99.5, -1.0, 1.0)(volume(scale))
    assert torch.equal(found.as_tensor(), expected.as_tensor())
    assert found.dtype == torch.float32


def test_the_inverse_gives_the_image_within_its_percentiles():
    scaler = ScaleIntensityPercentiles()
    image = volume()
    low, high = np.percentile(image.numpy(), (0.5, 99.5))
    back = scaler.inverse(scaler(image))
    np.testing.assert_allclose(back.numpy(), np.clip(image.numpy(), low, high), atol=0.01)
    assert back.applied_operations == []


def test_a_prediction_takes_the_intensities_of_its_case_through_invertd():
    transform = Compose([Orientationd("label", axcodes="RAS", labels=None), ScaleIntensityPercentilesd("label")])
    batch = list_data_collate([transform({"label": volume(scale)}) for scale in (100.0, 5000.0)])
    batch["pred"] = batch["label"] * 0
    undo = Invertd("pred", transform, orig_keys="label", nearest_interp=False)
    for case, scale in zip(decollate_batch(batch), (100.0, 5000.0)):
        low, high = np.percentile(volume(scale).numpy(), (0.5, 99.5))
        np.testing.assert_allclose(undo(case)["pred"].numpy(), (low + high) / 2, rtol=1e-3)


def test_an_image_without_contrast_is_refused_by_name():
    image = MetaTensor(torch.full((1, 4, 4, 4), 3.0), meta={"filename_or_obj": "flat.nii.gz"})
    with pytest.raises(ValueError, match=r"flat.nii.gz: percentiles 0.5 and 99.5 are 3 and 3"):
        ScaleIntensityPercentiles()(image)


def test_percentiles_out_of_order_are_refused():
    with pytest.raises(ValueError, match="lower < upper"):
        ScaleIntensityPercentiles(99.5, 0.5)
