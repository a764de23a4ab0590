from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from scipy.ndimage import gaussian_filter

from common.evaluation.audit import run_audit, verdict, worst_pairs_page
from common.evaluation.copy_threshold import copy_threshold
from common.evaluation.memorisation import AuditSettings, audit
from common.evaluation.nearest import comparable, comparison_of, flips, nearest
from tests.fixtures import real_data


def images(n: int, seed: int, size: tuple[int, ...] = (40, 36), channels: int = 1) -> torch.Tensor:
    """One anatomy for all, an ellipse, with a smooth random texture each; in [-1, 1]."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, side) for side in size], indexing="ij")
    anatomy = np.where(sum(axis**2 for axis in grid) < 0.8, 0.4, -0.8)
    texture = gaussian_filter(rng.standard_normal((n, channels, *size)), (0, 0) + (1.8,) * len(size))
    texture *= 0.3 / texture.std()
    return torch.from_numpy(np.clip(anatomy + texture, -1, 1)).float()


def disturbed(image: torch.Tensor, flip: tuple[int, ...], seed: int) -> torch.Tensor:
    """A copy as a generator or a file format leaves it: flipped, darker, lower in contrast, noisy."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return 0.7 * image.flip([1 + axis for axis in flip]) - 0.1 + 0.08 * noise


def as_jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    grey = ((image[0] + 1) * 127.5).clip(0, 255).numpy().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file, formats=["JPEG"])) / np.float32(127.5) - 1)[None]


def check_planted(result, planted: dict[int, tuple[int, tuple[int, ...]]]) -> None:
    """Exactly the planted images are copies, each of its training image and in its flip."""
    found = {pair.index: (pair.train.index, pair.train.flip) for pair in result.copies}
    assert found == planted
    assert [pair.index for pair in result.pairs[: len(planted)]] == [pair.index for pair in result.copies]
    assert result.exit_code == 3
    assert f"COPIES FOUND: {len(planted)} of {result.n['synthetic']}" in verdict(result)


def test_parts_of_a_set_are_compared_as_the_whole(monkeypatch):
    train, held_out, drawn = images(40, 1), images(20, 2), images(23, 3)
    features = tuple(one.flatten(1)[:, ::9] for one in (drawn, train, held_out))
    whole = audit(drawn, train, held_out, features)
    monkeypatch.setattr("common.evaluation.memorisation._PART", 7)
    parts = audit(drawn, train, held_out, features)
    assert [pair.index for pair in parts.pairs] == [pair.index for pair in whole.pairs]
    assert [pair.train.name for pair in parts.pairs] == [pair.train.name for pair in whole.pairs]
    np.testing.assert_allclose(
        [(pair.train.distance, pair.held_out.distance) for pair in parts.pairs],
        [(pair.train.distance, pair.held_out.distance) for pair in whole.pairs],
        atol=1e-6,
    )
    assert (parts.closer, parts.share, parts.p_value) == (whole.closer, whole.share, whole.p_value)
    broken = [*drawn[:20], drawn[20] * float("nan")]
    with pytest.raises(ValueError, match="Image 20 of the set synthetic holds NaN"):
        audit(broken, train, held_out)


def test_every_planted_copy_is_found_flips_included_and_none_of_500_clean_images():
    train, held_out, clean = images(400, 1), images(200, 2), images(500, 3)
    result = audit(clean, train, held_out)
    assert result.copies == []
    assert result.exit_code == 0
    assert "NO COPIES FOUND among 500" in verdict(result)

    kinds = flips(2)
    planted = {i: (7 * i, kinds[i % 4]) for i in range(40)}
    mixed = clean.clone()
    for i, (source, flip) in planted.items():
        copy = disturbed(train[source], flip, seed=i)
        mixed[i] = as_jpeg(copy, quality=60) if i % 2 else copy
    check_planted(audit(mixed, train, held_out), planted)


def test_planted_copies_of_small_volumes_are_found_in_all_eight_flips_and_after_a_shift():
    size = (20, 18, 16)
    train, held_out, synthetic = images(60, 1, size), images(40, 2, size), images(40, 3, size)
    planted = {3 * i: (5 * i, flip) for i, flip in enumerate(flips(3))}
    for i, (source, flip) in planted.items():
        synthetic[i] = disturbed(train[source], flip, seed=i).roll(1, dims=1 + i % 3)
    result = audit(synthetic, train, held_out)
    check_planted(result, planted)
    assert all(any(pair.train.shift) for pair in result.copies)


def test_images_of_other_sizes_are_cropped_or_resized_to_one_grid():
    volumes = images(60, 1, (20, 18, 16))
    larger = [torch.nn.functional.pad(v, (1, 1, 2, 2, 0, 0), value=-1) for v in volumes]
    copies = audit(larger[:3], volumes, images(20, 2, (20, 18, 16))).copies
    assert sorted((pair.index, pair.train.index) for pair in copies) == [(0, 0), (1, 1), (2, 2)]

    train, held_out = images(60, 1), images(20, 2)
    enlarged = torch.nn.functional.interpolate(train[:3], (80, 72), mode="bilinear")
    result = audit(list(enlarged), train, held_out)
    assert (result.comparison.fit, result.comparison.grid) == ("resize", (40, 36))
    assert len(result.copies) == 3
    assert not audit(list(enlarged), train, held_out, settings=AuditSettings(fit="crop")).copies


def test_constant_images_resemble_nothing():
    train, held_out = images(30, 1), images(20, 2)
    synthetic = torch.cat([torch.zeros(2, 1, 40, 36), images(3, 3)])
    result = audit(synthetic, torch.cat([train, torch.ones(1, 1, 40, 36)]), held_out)
    assert result.copies == []
    assert [pair.train.distance for pair in result.pairs if pair.index < 2] == pytest.approx([2**0.5] * 2)


def test_nearest_is_what_a_loop_over_flips_and_shifts_finds():
    how = comparison_of([(12, 10)])
    a, b = comparable(images(4, 1, (12, 10)), how), comparable(images(6, 2, (12, 10)), how)
    found = nearest(a, b, shift=1, candidates=6)
    for i in range(4):
        best = min(
            (np.sqrt(2 - 2 * np.corrcoef(a[i, 0, 1:-1, 1:-1].ravel(), moved.ravel())[0, 1]), j, flip, (dy, dx))
            for j in range(6)
            for flip in flips(2)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            for moved in [b[j, 0].flip(flip).numpy()[1 - dy : 11 - dy, 1 - dx : 9 - dx]]
        )
        # Each pair is tried in the flip of highest correlation unmoved, which another flip may beat once moved.
        unmoved = [a[i].flip([1 + x for x in f]).flatten() @ b[best[1]].flatten() for f in flips(2)]
        assert found.distance[i] >= best[0] - 1e-5
        if flips(2)[int(np.argmax(unmoved))] == best[2]:
            assert (int(found.index[i]), found.flip[i], found.shift[i]) == best[1:]
            assert float(found.distance[i]) == pytest.approx(best[0], abs=1e-4)


def test_features_bring_candidates_that_pixels_miss():
    train, held_out, synthetic = images(80, 1), images(30, 2), images(10, 3)
    synthetic[4] = train[50].roll((4, -4), dims=(1, 2))
    spectra = tuple(torch.fft.fft2(s).abs().flatten(1) for s in (synthetic, train, held_out))
    settings = AuditSettings(shift=4, candidates=1)
    assert audit(synthetic, train, held_out, settings=settings).copies == []
    result = audit(synthetic, train, held_out, spectra, settings=settings)
    assert [(pair.index, pair.train.index, pair.train.shift) for pair in result.copies] == [(4, 50, (4, -4))]
    assert result.feature_share["counted"] == 10

    turned = torch.stack([synthetic.flip([2 + axis for axis in axes]).flatten(1) for axes in flips(2)])
    by_flips = audit(synthetic, train, held_out, (turned, train.flatten(1), held_out.flatten(1)))
    assert by_flips.feature_share["counted"] == 10


def test_held_out_images_that_are_copies_are_reported_and_do_not_lower_the_threshold():
    train, held_out, synthetic = images(200, 1), images(100, 2), images(50, 3)
    synthetic[7] = disturbed(train[11], (1,), 0)
    clean = audit(synthetic, train, held_out)
    leaking = held_out.clone()
    leaking[:40] = train[:40].flip(-1)
    leaking[40] = train[11]
    result = audit(synthetic, train, leaking)
    assert result.control.copies == list(range(41))
    assert result.control.threshold == pytest.approx(clean.control.threshold, rel=0.25)
    assert [pair.index for pair in result.copies] == [7]
    assert "41 held-out images are themselves copies" in verdict(result)
    assert "1 of them are copies of held-out images too" in verdict(result)
    with pytest.raises(ValueError, match="no control"):
        audit(synthetic, train, train)


def test_threshold_keeps_its_false_alarm_and_finds_the_dimension():
    rng = np.random.default_rng(0)
    alarms, dimensions = [], []
    for _ in range(200):
        law = 0.8 * rng.weibull(12, 300)
        control = copy_threshold(law[:100], 200, resamples=50)
        alarms.append((law[100:] < control.threshold).any())
        dimensions.append(control.dimension)
    assert np.mean(alarms) < 0.02
    assert np.mean(dimensions) == pytest.approx(12, rel=0.1)


def test_fewer_controls_and_more_images_make_the_threshold_stricter():
    law = 0.8 * np.random.default_rng(1).weibull(12, 400)
    assert copy_threshold(law, 5000).threshold < copy_threshold(law, 50).threshold
    few = np.mean([copy_threshold(law[i : i + 20], 50).threshold for i in range(0, 200, 20)])
    assert few < copy_threshold(law, 50).threshold


def test_chance_is_the_share_of_training_images_not_a_half():
    shares = []
    for seed in range(0, 18, 3):
        train, held_out, synthetic = images(120, seed), images(40, seed + 1), images(80, seed + 2)
        result = audit(synthetic, train, held_out, settings=AuditSettings(resamples=100))
        assert result.chance == 0.75
        shares.append(result.share)
    assert np.mean(shares) == pytest.approx(0.75, abs=3 * np.std(shares) / 6**0.5)
    assert np.mean(shares) == pytest.approx(0.75, abs=0.1)
    assert result.p_value > 0.05
    assert "no more than chance allows" in verdict(result)
    # A third of the way to a training image each: no copies, but nearer to training.
    drawn = 0.35 * train[:80] + 0.65 * synthetic
    result = audit(drawn, train, held_out)
    assert result.copies == []
    assert result.share > 0.9
    assert result.p_value < 0.01
    assert "MORE than chance allows" in verdict(result)


@pytest.mark.parametrize("size", [(40, 36), (20, 18, 16)])
def test_run_writes_picture_text_and_json(tmp_path, size):
    train, held_out, synthetic = images(30, 1, size), images(20, 2, size), images(6, 3, size)
    synthetic[2] = disturbed(train[4], (0,), 0)
    names = ([f"s{i}" for i in range(6)], [f"t{i}" for i in range(30)], [f"h{i}" for i in range(20)])
    result = run_audit(synthetic, train, held_out, tmp_path / "out", names=names, context={"fake": "folder"}, rows=3)
    picture = imread(tmp_path / "out" / "worst_pairs.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] > 600
    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert content["exit_code"] == result.exit_code == 3
    assert content["number_of_copies"] == 1
    assert content["pairs"][0]["train"]["name"] == "t4"
    assert content["context"] == {"fake": "folder"}
    text = (tmp_path / "out" / "audit.md").read_text()
    assert "COPIES FOUND: 1 of 6" in text
    assert "| s2 | t4 | " in text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["audit.json", "audit.md", "worst_pairs.png"]


def test_page_shows_the_copy_and_its_training_image_alike(tmp_path):
    train, held_out, synthetic = images(30, 1), images(20, 2), images(3, 3)
    synthetic[1] = train[4].flip(1)
    result = audit(synthetic, train, held_out)
    page = imread(worst_pairs_page(result, synthetic, train, held_out, tmp_path / "page.png", rows=1))[..., 0]
    frames = page.shape[1] // 3
    left, middle, right = (page[110:-20, i * frames + 25 : (i + 1) * frames - 25] for i in range(3))
    alike = [np.abs(left[20:200, :200] - np.roll(middle, s, 1)[20:200, :200])[:, 20:180].mean() for s in range(-9, 10)]
    other = [np.abs(left[20:200, :200] - np.roll(right, s, 1)[20:200, :200])[:, 20:180].mean() for s in range(-9, 10)]
    assert min(alike) < 0.5 * min(other)
    with pytest.raises(ValueError, match="The audit saw"):
        worst_pairs_page(result, synthetic, train[:5], held_out, tmp_path / "page.png")


def test_sequences_that_are_read_one_at_a_time_give_their_names_and_shapes():
    class Folder:
        def __init__(self, of: torch.Tensor) -> None:
            self.of, self.shapes, self.names = of, [of.shape[2:]] * len(of), [f"image_{i}" for i in range(len(of))]

        def __len__(self) -> int:
            return len(self.of)

        def __getitem__(self, index: int) -> torch.Tensor:
            return self.of[index]

    train, held_out = images(30, 1), images(20, 2)
    result = audit(Folder(train[:2]), Folder(train), Folder(held_out))
    assert {pair.train.name for pair in result.copies} == {"image_0", "image_1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"synthetic": []}, "The set synthetic is empty"),
        ({"held_out": images(9, 2)}, "at least 10 held-out images as control, got 9"),
        ({"train": images(20, 1, channels=3)}, "channels; the three sets must have the same"),
        ({"train": [*images(3, 1), *images(2, 1, channels=2)]}, "Image 3 of the set train has 2 channels"),
        ({"synthetic": images(4, 3) * float("nan")}, "Image 0 of the set synthetic holds NaN"),
        ({"held_out": images(12, 2, (12, 12, 12))}, "spatial dimensions"),
        ({"synthetic": images(4, 3, (40, 6))}, "at least 8 points"),
        ({"features": tuple(torch.zeros(n, 3) for n in (4, 20, 14))}, "Features of held_out"),
        ({"features": (torch.zeros(3, 4, 3), torch.zeros(20, 3), torch.zeros(15, 3))}, "Features of synthetic"),
        ({"features": tuple(torch.full((n, 3), float("nan")) for n in (4, 20, 15))}, "NaN"),
        ({"names": (["a"], ["b"] * 20, ["c"] * 15)}, "1 names for 4 images"),
        ({"settings": AuditSettings(fit="squeeze")}, "fit must be one of"),
    ],
)
def test_bad_input(change, message):
    good = {"synthetic": images(4, 3), "train": images(20, 1), "held_out": images(15, 2)}
    with pytest.raises(ValueError, match=message):
        audit(**{**good, **change})


def test_chest_xrays_planted_copies_are_found_and_other_patients_are_none():
    folder = real_data("chest_xray")
    with (folder / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "normal"]
    patients = np.random.default_rng(0).permutation(sorted({row["patient_id"] for row in rows}))
    part = {patient: min(2, 4 * i // len(patients)) for i, patient in enumerate(patients)}
    sets: list[list[torch.Tensor]] = [[], [], []]
    for row in rows:
        chosen = sets[part[row["patient_id"]]]
        if len(chosen) < (250, 150, 80)[part[row["patient_id"]]]:
            with Image.open(folder / row["path"], formats=["JPEG"]) as picture:
                picture.draft("L", (112, 112))
                chosen.append(torch.from_numpy(np.asarray(picture) / np.float32(127.5) - 1)[None])
    train, held_out, synthetic = sets
    planted = {i: (9 * i, flips(2)[i % 4]) for i in range(20)}
    for i, (source, flip) in planted.items():
        synthetic[i] = as_jpeg(disturbed(train[source], flip, seed=i), quality=75)
    check_planted(audit(synthetic, train, held_out), planted)
