"""The small encoders: their degradations, a short training, and how the shipped ones behave on real images."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import center_of_mass, gaussian_filter

from common.data.splits import split_cases
from common.features.encoders import DEGRADATIONS, ENCODERS, blur, degrade, resample, smooth_patch
from common.features.features import FeatureNetwork
from common.features.registry import SHIPPED
from common.features.train_encoder import encoder_cases, load_slices, load_volumes, mask_numbers, train
from common.metrics.frechet import fid
from common.metrics.perceptual import perceptual_distance
from tests.fixtures import real_data, write_dataset


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, *size: int) -> torch.Tensor:
    return torch.rand(n, 1, *size, generator=generator(1)) * 2 - 1


@pytest.mark.parametrize("size", [(24, 20), (15, 18, 13)])
def test_blur_is_scipys_with_a_width_for_each_image(size):
    x, sigma = images(2, *size), torch.tensor([0.7, 2.0])
    found = blur(x, sigma)
    for image, own, s in zip(x, found, sigma):
        expected = gaussian_filter(image[0].numpy(), float(s), mode="nearest", radius=6)
        np.testing.assert_allclose(own[0], expected, atol=1e-5)


def test_degradations_are_seeded_in_range_and_absent_where_their_strength_is_zero():
    x = images(40, 16, 16)
    degraded, strengths = degrade(x, generator())
    again, _ = degrade(x, generator())
    assert torch.equal(degraded, again)
    assert strengths.shape == (40, len(DEGRADATIONS))
    assert float(degraded.abs().max()) <= 1
    assert float(strengths.abs().max()) <= 1
    clean = (strengths == 0).all(1)
    assert 5 < int(clean.sum()) < 25
    torch.testing.assert_close(degraded[clean], x[clean], atol=1e-5, rtol=0)
    assert float((degraded - x)[~clean].abs().amax((1, 2, 3)).min()) > 0


def test_a_smooth_patch_covers_its_share_and_resampling_keeps_the_mean():
    x = images(1, 40, 40)
    changed = (smooth_patch(x[0], 0.25, generator()) != x[0]).float().mean()
    assert float(changed) == pytest.approx(0.25, abs=0.01)
    low = resample(x, 4)
    assert low.shape == x.shape
    assert float(low.mean()) == pytest.approx(float(x.mean()), abs=0.01)
    assert float(low.var()) < 0.2 * float(x.var())


def test_numbers_of_a_mask_are_shares_and_centres():
    mask = np.zeros((9, 11, 7), np.uint8)
    mask[1:4, 2:6, 3:5] = 1
    found = mask_numbers(torch.from_numpy(mask)[None, None])[0]
    centre = [2 * c / (side - 1) - 1 for c, side in zip(center_of_mass(mask == 1), mask.shape)]
    np.testing.assert_allclose(found[:4], [10 * (mask == 1).mean(), *centre], atol=1e-6)
    assert not found[4:].any()


def write_pictures(folder, per_class: int = 6):
    rng, rows = np.random.default_rng(0), []
    for index, name in enumerate(ENCODERS["cxr_v1"].content):
        for number in range(per_class):
            path = folder / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((60 * index + 90 * rng.random((40, 40))).astype(np.uint8)).save(path)
            rows.append({"path": path.relative_to(folder), "class": name, "patient_id": f"{name}_{number // 2}"})
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_training_writes_weights_that_load_and_what_was_measured(tmp_path):
    folder = write_pictures(tmp_path / "data")
    result = train("cxr_v1", str(folder), str(tmp_path / "out" / "cxr.pt"), steps=2, batch_size=4)
    network = FeatureNetwork("cxr_v1", tmp_path / "out" / "cxr.pt")
    assert network.label == f"cxr_v1-{result['sha256'][:8]}"
    assert network(images(2, 32, 40)).shape == (2, ENCODERS["cxr_v1"].widths[-1])
    assert json.loads((tmp_path / "out" / "cxr.json").read_text()) == result
    assert result["held_out"] == 4  # two whole patients of nine
    assert set(result["content"]["recall"]) <= set(ENCODERS["cxr_v1"].content)
    assert set(result["r2_of_degradations"]) == set(DEGRADATIONS)
    state = torch.load(tmp_path / "out" / "cxr.pt", weights_only=True)
    assert {v.dtype for v in state.values() if v.ndim > 1} == {torch.float16}
    assert state["trunk.bn1.running_var"].dtype == torch.float32


def test_training_in_3d_reads_masks(tmp_path):
    folder = write_dataset(tmp_path / "data")
    result = train("hippocampus_v1", str(folder), str(tmp_path / "h.pt"), steps=1, batch_size=2, held_out=0.34)
    assert set(result["content"]) == set(ENCODERS["hippocampus_v1"].content)
    assert len(FeatureNetwork("hippocampus_v1", tmp_path / "h.pt").maps(images(1, 17, 20, 13))) == 5


def test_bad_training_input(tmp_path):
    with pytest.raises(ValueError, match="name must be one of"):
        train("cxr", str(tmp_path), str(tmp_path / "x.pt"))
    with pytest.raises(ValueError, match=r"\.pt file"):
        train("cxr_v1", str(tmp_path), str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"manifest\.csv"):
        train("cxr_v1", str(tmp_path), str(tmp_path / "x.pt"))


def held_out_images(name: str, n: int) -> torch.Tensor:
    folder = {"cxr_v1": "chest_xray", "brain_v1": "brain_tumor_mri", "hippocampus_v1": "hippocampus_mr"}[name]
    cases = split_cases(encoder_cases(ENCODERS[name], real_data(folder)), [0.8, 0.2], seed=0)[1]
    cases = cases[:: max(1, len(cases) // n)][:n]
    if ENCODERS[name].classes:
        return load_slices(cases).float()
    return torch.stack([volume[:, :30, :40, :24] for volume, _ in load_volumes(cases)])


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_shipped_encoders_see_blur_and_noise_of_real_images_grow(name):
    if not (SHIPPED / f"{name}.pt").is_file():
        pytest.skip(f"{name} is not shipped")
    x = held_out_images(name, 40)
    network = FeatureNetwork(name)
    assert network.label == name
    clean, maps, ones = network(x), network.maps(x[:8]), torch.ones(len(x))
    noise = torch.randn(x.shape, generator=generator())
    for series in (
        [blur(x, s * ones) for s in (0.7, 1.4, 2.8)],
        [(x + s * noise).clamp(-1, 1) for s in (0.05, 0.15, 0.45)],
    ):
        distances = [fid(network(y), clean) for y in series]
        perceptual = [float(perceptual_distance(network.maps(y[:8]), maps).mean()) for y in series]
        assert 0 < distances[0] < distances[1] < distances[2]
        assert 0 < perceptual[0] < perceptual[1] < perceptual[2]
