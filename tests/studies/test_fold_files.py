"""What a fold depends on is seen, and its files are taken only together."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from monai.transforms import RandAffined, RandFlipd

from common.studies.fold_files import check_fold, described, read_fold, remove_fold, write_fold


def flip(prob=0.5, seed=0):
    made = RandFlipd("image", prob=prob, spatial_axis=1)
    made.set_random_state(seed)
    return made


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (flip(), flip(prob=0.4)),
        (RandAffined("image", rotate_range=0.2), RandAffined("image", rotate_range=0.3)),
        (RandAffined("image", padding_mode="border"), RandAffined("image", padding_mode="zeros")),
        (torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(label_smoothing=0.1)),
        (
            torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
            torch.nn.CrossEntropyLoss(weight=torch.tensor([2.0, 1.0])),
        ),
        (functools.partial(torch.optim.AdamW, lr=0.1), functools.partial(torch.optim.AdamW, lr=0.2)),
        (functools.partial(torch.optim.AdamW, lr=0.1), functools.partial(torch.optim.Adam, lr=0.1)),
        (torch.float32, torch.bfloat16),
    ],
)
def test_parameters_are_seen(one, other):
    assert described(one) != described(other)


def test_random_states_are_not():
    assert described([flip(seed=1)]) == described([flip(seed=2)])


def test_a_fold_is_read_as_it_was_written_or_not_at_all(tmp_path):
    stem, identity = tmp_path / "net" / "fold_0", {"settings": {"a": 1, "b": (1, 2)}, "classes": ["x"]}
    found = np.array([[0.25, 0.75]])
    assert read_fold(stem, identity, weights=False) is None
    write_fold(stem, {"seconds": 3, "identity": identity}, found, torch.nn.Linear(2, 2))
    record = read_fold(stem, identity, weights=True)
    assert record["seconds"] == 3
    assert np.array_equal(record["probabilities"], found)
    check_fold(stem, {"classes": ["x"]})
    with pytest.raises(FileExistsError, match=r"fold_0\.json is of an earlier run with other classes, b:"):
        read_fold(stem, {"settings": {"a": 1, "b": (1, 3)}, "classes": ["y"]}, weights=False)
    stem.with_suffix(".pt").unlink()
    assert read_fold(stem, identity, weights=True) is None
    assert read_fold(stem, identity, weights=False) is not None
    remove_fold(stem)
    assert not list(stem.parent.iterdir())
