from __future__ import annotations

import random

import pytest

from common.data.lists import paired_cases
from common.data.splits import split_cases

FOLDERS = {"image": "images", "label": "labels"}


def _files(folder, names, folders=("images", "labels")):
    for sub in folders:
        (folder / sub).mkdir(exist_ok=True)
        for name in names:
            (folder / sub / f"{name}.nii.gz").touch()


def _cases(numbers):
    return [{"case": f"case_{n:03d}", "group": str((n + 1) // 2)} for n in numbers]


def test_pairs_by_name_with_groups_and_skips_hidden_files(tmp_path):
    _files(tmp_path, ["c_3", "c_1", "c_2"])
    (tmp_path / "images" / "._c_9.nii.gz").touch()
    cases = paired_cases(tmp_path, FOLDERS, lambda name: (int(name.split("_")[1]) + 1) // 2)
    assert [case["case"] for case in cases] == ["c_1", "c_2", "c_3"]
    assert [case["group"] for case in cases] == ["1", "1", "2"]
    assert cases[0]["label"] == str(tmp_path / "labels" / "c_1.nii.gz")


def test_file_without_partner_is_named(tmp_path):
    _files(tmp_path, ["c_1", "c_2"])
    (tmp_path / "labels" / "c_2.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"No label in .*c_2"):
        paired_cases(tmp_path, FOLDERS)


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset_dir"):
        paired_cases(tmp_path, FOLDERS)
    _files(tmp_path, [])
    with pytest.raises(FileNotFoundError, match=r"No NIfTI file \(.nii.gz, .nii\)"):
        paired_cases(tmp_path, FOLDERS)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.5, 0.25, 0.25)])
def test_split_keeps_groups_whole_and_loses_no_case(seed, fractions):
    cases = _cases(range(1, 40))
    shares = split_cases(cases, fractions, seed)
    groups = [{case["group"] for case in share} for share in shares]
    assert not any(a & b for i, a in enumerate(groups) for b in groups[:i])
    assert sorted(case["case"] for share in shares for case in share) == [case["case"] for case in cases]
    assert [len(g) for g in groups][:-1] == [round(20 * f) for f in fractions][:-1]


def test_split_does_not_depend_on_the_order_of_the_cases():
    cases = _cases(range(1, 40))
    mixed = random.Random(1).sample(cases, len(cases))
    for share, other in zip(split_cases(cases, (0.8, 0.2)), split_cases(mixed, (0.8, 0.2))):
        assert share == sorted(other, key=lambda case: case["case"])


def test_split_depends_on_the_seed():
    cases = _cases(range(1, 40))
    assert split_cases(cases, (0.5, 0.5), 0) != split_cases(cases, (0.5, 0.5), 1)


def test_wrong_fractions_and_empty_shares_are_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        split_cases(_cases(range(1, 9)), (0.8, 0.1))
    with pytest.raises(ValueError, match="empty"):
        split_cases(_cases([1, 2]), (0.9, 0.1))
