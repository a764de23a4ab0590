"""Lists of images: classes from folders, groups from a manifest."""

import pytest

from common.data.lists import image_cases
from common.data.splits import split_cases


def make(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_give_the_classes(tmp_path):
    make(tmp_path, ["b/2.png", "a/1.nii.gz", "a/x.y.JPG", "a/notes.txt", "a/.hidden.png"])
    cases = image_cases(tmp_path)
    assert [(c["case"], c["class"]) for c in cases] == [("1", "a"), ("x.y", "a"), ("2", "b")]
    assert len({c["group"] for c in cases}) == 3
    assert [c["case"] for c in image_cases(tmp_path, classes=["b"])] == ["2"]


def test_a_manifest_gives_the_groups(tmp_path):
    names = [f"train/a/{i}.jpg" for i in range(20)]
    make(tmp_path, [*names, "train/a/unlisted.jpg"])
    rows = [f"{name},a,{'' if i == 0 else i // 4}" for i, name in enumerate(names)]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,class,patient", *rows]))
    cases = image_cases(tmp_path, group_by="patient")
    assert len(cases) == 20
    assert cases[0]["group"] == names[0]  # no patient: a group of its own
    train, held_out = split_cases(cases, [0.5, 0.5])
    assert not {c["group"] for c in train} & {c["group"] for c in held_out}


def test_a_second_column_says_which_images_look_alike(tmp_path):
    make(tmp_path, ["a/0.jpg", "a/1.jpg", "a/2.jpg"])
    with pytest.raises(FileNotFoundError, match=r"manifest\.csv, which says what belongs together \(like\)"):
        image_cases(tmp_path, lookalike_by="like")
    (tmp_path / "manifest.csv").write_text("path,class,series,like\na/0.jpg,a,s,n\na/1.jpg,a,s,n\na/2.jpg,a,t,\n")
    cases = image_cases(tmp_path, "series", lookalike_by="like")
    assert [(case["group"], case["lookalike"]) for case in cases] == [("s", "n"), ("s", "n"), ("t", "a/2.jpg")]
    assert image_cases(tmp_path, "series") == [
        {key: value for key, value in case.items() if key != "lookalike"} for case in cases
    ]
    assert [case["group"] for case in image_cases(tmp_path, lookalike_by="like")] == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
    with pytest.raises(ValueError, match=r"manifest\.csv has no column \['patient', 'alike'\]"):
        image_cases(tmp_path, "patient", lookalike_by="alike")


def test_classes_that_are_left_out_are_counted(tmp_path, caplog):
    make(tmp_path, ["a/1.png", "b/1.png", "b/2.png"])
    caplog.set_level("INFO")
    assert len(image_cases(tmp_path, classes=["a"])) == 1
    assert "left out: {'b': 2}" in caplog.text


def test_errors_name_the_place(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        image_cases(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="No image"):
        image_cases(tmp_path)
    make(tmp_path, ["a/1.png"])
    with pytest.raises(FileNotFoundError, match=r"manifest\.csv.*patient"):
        image_cases(tmp_path, group_by="patient")
    with pytest.raises(ValueError, match=r"\['c'\]"):
        image_cases(tmp_path, classes=["a", "c"])
    (tmp_path / "manifest.csv").write_text("path,class\na/1.png,a\na/2.png,a\n")
    with pytest.raises(FileNotFoundError, match=r"2\.png"):
        image_cases(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,class\na/1.png,a\na/1.png,b\n")
    with pytest.raises(ValueError, match=r"manifest\.csv lists 1 images more than once, such as a/1\.png"):
        image_cases(tmp_path)
    with pytest.raises(ValueError, match="no column"):
        image_cases(tmp_path, group_by="patient")
