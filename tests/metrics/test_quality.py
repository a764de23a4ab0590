"""Quality control: what passes, what fails and by which score, and draws anew until one passes."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from monai.data import MetaTensor

from common.diffusion.schedules import NoiseSchedule
from common.inferers.checked import CheckedSampler
from common.inferers.sampler import DiffusionSampler
from common.metrics.class_quality import ClassQualityCheck, class_scores, fit_class_quality
from common.metrics.quality import QualityCheck, fit_quality
from tests.fixtures import two_part_mask
from tests.masks.phantom2d import chest_picture, head_slice

LABELS = {"anterior": 1, "posterior": 2}


class Reader:
    """A segmenter of volumes in which background, first and second label are dark, grey and bright."""

    divisor, device = 1, torch.device("cpu")

    def __init__(self, weights):
        self.weights = weights

    @staticmethod
    def network(images):
        return torch.cat([-((images - level) ** 2) for level in (-0.8, 0.0, 0.8)], dim=1)


def case(seed):
    """A volume (1, X, Y, Z) that shows its mask (2, X, Y, Z)."""
    mask = torch.as_tensor(two_part_mask(seed=seed).astype(int))
    noise = 0.05 * torch.randn(mask.shape, generator=torch.Generator().manual_seed(seed))
    image = torch.tensor([-0.8, 0.0, 0.8])[mask] + noise
    return {"image": image[None], "label": torch.stack([2.0 * (mask == v) - 1 for v in (1, 2)])}


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    (folder / "segmenter.pt").write_bytes(b"weights")
    reader = Reader(folder / "segmenter.pt")
    cases = [{"image": seed, "label": seed} for seed in range(30)]
    fit_quality(cases, lambda one: case(one["image"]), reader, LABELS, folder / "quality.json")
    return QualityCheck(folder / "quality.json", reader, LABELS)


def failed(check, image, mask):
    (found,) = check(image[None], mask[None])
    return found["failed"]


def test_good_volumes_pass_and_each_kind_of_bad_one_fails_by_its_score(check):
    good = [case(seed) for seed in range(100, 120)]
    assert sum(bool(failed(check, one["image"], one["label"])) for one in good) <= 1
    image, mask = good[0]["image"], good[0]["label"]
    noisy = image + 0.4 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    assert "grain" in failed(check, noisy, mask)
    assert {"dice", "worst_dice"} <= set(failed(check, image, mask.roll(6, 2)))
    cut = image.clone()
    cut[:, :7] = -1
    assert "flat" in failed(check, cut, mask)
    assert "mean" in failed(check, image + 0.6, mask)


def test_ranges_of_other_labels_or_another_segmenter_are_refused(check, tmp_path):
    ranges = check.segmenter.weights.with_name("quality.json")
    with pytest.raises(ValueError, match=r"make one with fit_quality\.json"):
        QualityCheck(ranges, check.segmenter, {"liver": 1})
    (tmp_path / "other.pt").write_bytes(b"others")
    with pytest.raises(ValueError, match="of another segmenter"):
        QualityCheck(ranges, Reader(tmp_path / "other.pt"), LABELS)
    with pytest.raises(FileNotFoundError, match=r"fit_quality\.json makes it"):
        QualityCheck(tmp_path / "none.json", check.segmenter, LABELS)
    with pytest.raises(ValueError, match="at least 20"):
        fit_quality([], case, check.segmenter, LABELS, tmp_path / "x.json")


def sampler():
    return DiffusionSampler(NoiseSchedule("cosine", 50), num_inference_steps=2, progress=False)


def network(x, timesteps):
    return x[:, :1] * 0.5


def conditions(number=1):
    """As a data loader gives them."""
    given = MetaTensor(torch.arange(number * 64.0).reshape(number, 1, 4, 4, 4) / 64)
    given.is_batch = True
    return given


class FailsAtFirst:
    """A check that lets each case fail its first ``times`` draws, with one failure less each time."""

    def __init__(self, times):
        self.times, self.seen = times, []

    def __call__(self, images, masks):
        earlier = sum(bool((mask == masks).all()) for mask in self.seen)
        self.seen.append(masks)
        return [{"score": float(images.mean()), "failed": ["grain"] * max(0, self.times - earlier)}]


def test_what_passes_is_bit_equal_and_what_fails_is_drawn_from_a_seed_that_draws_it_again(caplog):
    given = conditions(2)
    plain = sampler()(given, network)
    drawn = CheckedSampler(sampler(), FailsAtFirst(0), reject=True)(given, network)
    assert torch.equal(plain.as_tensor(), drawn.as_tensor())
    assert [json.loads(text)["draws"] for text in drawn.meta["quality"]] == [1, 1]
    again = CheckedSampler(sampler(), FailsAtFirst(2), reject=True)(given, network)
    assert [json.loads(text)["draws"] for text in again.meta["quality"]] == [3, 3]
    assert not (again.meta["seed"] == plain.meta["seed"]).any()
    repeated = sampler()(given, network, seeds=again.meta["seed"])
    torch.testing.assert_close(again.as_tensor(), repeated.as_tensor())
    assert caplog.text == ""


def test_without_rejection_failures_are_recorded_and_after_the_last_try_the_best_is_kept(caplog):
    found = json.loads(CheckedSampler(sampler(), FailsAtFirst(5))(conditions(), network).meta["quality"][0])
    assert (found["draws"], found["failed"]) == (1, "grain grain grain grain grain")
    with caplog.at_level(logging.WARNING):
        drawn = CheckedSampler(sampler(), FailsAtFirst(5), reject=True, tries=3)(conditions(), network)
    found = json.loads(drawn.meta["quality"][0])
    assert (found["draws"], found["failed"].split()) == (3, ["grain"] * 3)
    assert "after 3 draws" in caplog.text
    with pytest.raises(ValueError, match="A check of single samples"):
        CheckedSampler(sampler(), None, reject=True)


def picture(name, seed):
    """A phantom of a class, (1, 32, 32) in [-1, 1]."""
    made = (head_slice if name == "head" else chest_picture)(32, seed=seed)
    return torch.as_tensor(made.astype(float) / 127.5 - 1).float()[None]


class Darkness(torch.nn.Module):
    """Heads have black corners, chests have not."""

    def forward(self, images):
        corner = images[:, 0, -8:, :8].mean((1, 2))
        return torch.stack([-20 * corner - 10, 20 * corner + 10], dim=1)


CLASSES = ["head", "chest"]


@pytest.fixture(scope="module")
def class_check(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranges")
    (folder / "judge.pt").write_bytes(b"judge")
    cases = [{"image": seed, "class": name} for name in CLASSES for seed in range(25)]
    out = folder / "quality.json"
    fit_class_quality(
        cases, lambda one: {"image": picture(one["class"], one["image"])}, CLASSES, out, Darkness(), folder / "judge.pt"
    )
    return ClassQualityCheck(out, CLASSES, (32, 32), Darkness(), folder / "judge.pt")


def test_good_images_pass_and_each_kind_of_bad_one_fails_by_its_score(class_check):
    def of(image, label=0):
        (found,) = class_check(image[None], None, torch.tensor([label]))
        return found["failed"]

    good = [(picture(name, seed), k) for k, name in enumerate(CLASSES) for seed in range(100, 120)]
    assert sum(bool(of(*one)) for one in good) <= 4
    image = good[0][0]
    noise = 0.5 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    assert "log_grain" in of((image + noise).clamp(-1, 1))
    blurred = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    assert {"log_grain", "log_acutance"} & set(of(blurred))
    cut = image.clone()
    cut[:, :16] = -1
    assert "band" in of(cut)
    assert "margin" in of(image, 1)
    assert "margin" not in class_scores(image[None], torch.tensor([1]))[0]


def test_ranges_of_images_of_another_size_class_or_classifier_are_refused(class_check, tmp_path):
    judge = tmp_path / "other.pt"
    judge.write_bytes(b"other")
    path = tmp_path / "quality.json"
    fit_class_quality(
        [{"image": n, "class": "head"} for n in range(20)],
        lambda one: {"image": picture("head", one["image"])},
        ["head"],
        path,
    )
    ClassQualityCheck(path, ["head"], (32, 32), only="head")(picture("head", 1)[None])
    for classes, size, given in (
        (CLASSES, (32, 32), {}),
        (["head"], (64, 64), {}),
        (["head"], (32, 32), {"classifier": Darkness(), "weights": judge}),
    ):
        with pytest.raises(ValueError, match=r"--check_quality False"):
            ClassQualityCheck(path, classes, size, **given)
    with pytest.raises(ValueError, match="The class of each image"):
        ClassQualityCheck(path, ["head"], (32, 32))(picture("head", 1)[None])
    with pytest.raises(ValueError, match="at least 20"):
        fit_class_quality([{"image": 1, "class": "head"}], lambda one: {"image": picture("head", 1)}, ["head"], path)
