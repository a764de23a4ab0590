"""Leaks of the splits of the brain set: how many test images are nearly a training image, flipped or not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.lists import image_cases
from common.data.splits import share_by_split, split_cases
from tests.fixtures import real_data

SIDE, ALIKE = 32, 0.97
# Test images that correlate with a training image by more than 0.97: the leaks that a split is known to have.
LEAKS_OF_A_FIFTH = {"random": 1456, "group": 445, "strict": 0}
LEAKS_OF_FOUR_FIFTHS = {"group": 243, "strict": 0}


def small(path):
    """Means over 7 x 7 pixels, without their mean and of length 1."""
    with Image.open(path) as image:
        means = np.asarray(image.convert("L").reduce(image.width // SIDE), np.float32)
    means = means - means.mean()
    return means / max(np.linalg.norm(means), 1e-6)


@pytest.fixture(scope="module")
def pictures():
    """File -> 32 x 32 pixels of each image of the set."""
    files = [case["image"] for case in image_cases(real_data("brain_tumor_mri"))]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(files, pool.map(small, files)))


def leaks(pictures, train, test):
    """Number of the test images whose correlation with a training image, in one of four flips, is above 0.97."""
    seen, new = (np.stack([pictures[case["image"]] for case in share]) for share in (train, test))
    flat = torch.from_numpy(new.reshape(len(new), -1))
    highest = torch.full((len(new),), -1.0)
    for axes in ((), (1,), (2,), (1, 2)):
        flipped = torch.from_numpy(np.flip(seen, axes).reshape(len(seen), -1).copy())
        highest = torch.maximum(highest, (flat @ flipped.T).amax(1))
    return int((highest > ALIKE).sum())


def brain_cases(split):
    group_by = "series" if split == "strict" else "group"
    return image_cases(real_data("brain_tumor_mri"), group_by, lookalike_by="lookalike")


@pytest.mark.parametrize(("split", "known"), LEAKS_OF_A_FIFTH.items())
def test_the_sample_of_a_diffusion_model_and_the_rest(split, known, pictures):
    found = leaks(pictures, *share_by_split(brain_cases(split), split))
    assert found == pytest.approx(known, rel=0.05), "0 exactly for the strict split; the others show that this can fail"


def test_the_sample_the_validation_share_and_the_test_share(pictures):
    sample, rest = share_by_split(brain_cases("strict"), "strict")
    validation, test = share_by_split(rest, "strict")
    assert leaks(pictures, sample, validation) == leaks(pictures, [*sample, *validation], test) == 0


@pytest.mark.parametrize(("split", "known"), LEAKS_OF_FOUR_FIFTHS.items())
def test_four_fifths_for_training_and_the_images_held_out(split, known, pictures):
    apart = "lookalike" if split == "strict" else None
    found = leaks(pictures, *split_cases(brain_cases(split), [0.8, 0.2], apart=apart))
    assert found == pytest.approx(known, rel=0.05)
