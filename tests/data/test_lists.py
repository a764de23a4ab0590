from __future__ import annotations

import pytest

from common.data.lists import paired_cases

FOLDERS = {"image": "images", "label": "labels"}


def _files(folder, names, folders=("images", "labels")):
    for sub in folders:
        (folder / sub).mkdir(exist_ok=True)
        for name in names:
            (folder / sub / f"{name}.nii.gz").touch()


def test_pairs_by_name_with_groups_and_skips_hidden_files(tmp_path):
    _files(tmp_path, ["c_3", "c_1", "c_2"])
    (tmp_path / "images" / "._c_9.nii.gz").touch()
    cases = paired_cases(tmp_path, FOLDERS, lambda name: (int(name.split("_")[1]) + 1) // 2)
    assert [case["case"] for case in cases] == ["c_1", "c_2", "c_3"]
    assert [case["group"] for case in cases] == ["1", "1", "2"]
    assert cases[0]["label"] == str(tmp_path / "labels" / "c_1.nii.gz")


def test_pairs_lie_in_sub_folders_which_name_the_case(tmp_path):
    for folder in ("images", "labels"):
        for site in ("a", "b"):
            (tmp_path / folder / site).mkdir(parents=True)
            (tmp_path / folder / site / "1.NII.GZ").touch()
    cases = paired_cases(tmp_path, FOLDERS, "^([ab])_")
    assert [(case["case"], case["group"]) for case in cases] == [("a_1", "a"), ("b_1", "b")]
    assert cases[1]["label"] == str(tmp_path / "labels" / "b" / "1.NII.GZ")
    (tmp_path / "images" / "b_1.nii").touch()
    with pytest.raises(ValueError, match=r"several files of one name: \['b_1'\]"):
        paired_cases(tmp_path, FOLDERS)


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
