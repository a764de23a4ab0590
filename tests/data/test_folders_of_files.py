"""Folders of ordinary use: links, permissions, names, tables, and what earlier runs left."""

from __future__ import annotations

import json
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest

from common.data.checks import check_folder, check_names, check_run, pending_cases
from common.data.dataset import CheckedDataset
from common.data.finder import find_images, own_outputs
from common.data.lists import image_cases, paired_cases
from common.data.names import OutputNames, find_partner
from common.data.reader import LoadImaged
from common.data.writer import SaveImaged
from tests import forks
from tests.bundles.restoration_runs import grey, write_picture
from tests.data.siblings import VOLUME, dangling, nifti, nifti_gz
from tests.fixtures import write_nifti

NOBODY = 65534


@pytest.fixture
def open_folder():
    """A folder that every user may look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(folder, work):
    """What ``work`` prints as a user who may not read everything; root may."""

    def do():
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        work()

    ended = forks.Fork(do, folder).wait()
    assert ended.returncode == 0, ended.stderr
    return ended


def test_files_that_cannot_be_read_are_all_named_and_can_be_left_out(open_folder):
    for name in "abc":
        write_picture(open_folder / "in" / f"{name}.png", grey()).chmod(0o000 if name < "c" else 0o644)
    (open_folder / "out").mkdir()
    (open_folder / "out").chmod(0o777)

    def run(skip_bad):
        files = find_images(open_folder / "in")
        dataset = CheckedDataset([{"image": file} for file in files], LoadImaged("image"))
        check_run(files, dataset, open_folder / "out", skip_bad=skip_bad)
        print(sorted(dataset.skipped), len(dataset.data))

    def both():
        with pytest.raises(ValueError, match=r"2 of 3 inputs .*\n  .*a\.png: Permission denied\.\n  .*b\.png: Perm"):
            run(False)
        run(True)

    said = as_nobody(open_folder, both).stdout
    assert said == f"{[str(open_folder / 'in' / f'{name}.png') for name in 'ab']} 1\n"


def test_folders_that_cannot_be_read_are_named(open_folder):
    write_picture(open_folder / "in" / "a.png", grey())
    write_picture(open_folder / "in" / "sub" / "b.png", grey())
    for name in ("in/sub", "closed"):
        (open_folder / name).mkdir(exist_ok=True)
        (open_folder / name).chmod(0o000)

    def look():
        print(len(find_images(open_folder / "in", recursive=True)))
        with pytest.raises(PermissionError, match="closed"):
            find_images(open_folder / "closed")

    ended = as_nobody(open_folder, look)
    assert ended.stdout == "1\n"
    assert f"{open_folder / 'in' / 'sub'}: this folder cannot be read (Permission denied)" in ended.stderr
    (open_folder / "in" / "sub").chmod(0o755)


def test_a_folder_behind_a_link_is_searched_once(tmp_path):
    write_picture(tmp_path / "elsewhere" / "x.png", grey())
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "a.png").symlink_to("a.png")
    assert find_images(folder, recursive=True) == [str(folder / "one" / "x.png")]


def test_two_partners_of_one_name_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        write_picture(tmp_path / name, grey())
    with pytest.raises(ValueError, match=r"one file called a was expected for in/a.nii.gz, got a.jpg, a.png"):
        find_partner(tmp_path, "in/a.nii.gz")


def test_a_name_that_leaves_no_room_for_its_result_is_refused_before_the_run(tmp_path):
    fits, too_long = (str(write_picture(tmp_path / f"{'x' * length}.png", grey())) for length in (238, 246))
    assert len(pending_cases([fits], tmp_path / "out", "denoised")) == 1
    with pytest.raises(ValueError, match=r"x\.png: the name of its result is too long"):
        pending_cases([too_long], tmp_path / "out", "denoised")
    assert pending_cases([too_long], tmp_path / "out", "denoised", names=OutputNames([too_long], anonymous=True))
    case = LoadImaged("image")({"image": fits})
    SaveImaged("pred", tmp_path / "out", "denoised")({"pred": case["image"]})
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_name_that_is_not_utf8_stands_in_the_tables(tmp_path):
    files = [os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")]
    OutputNames(files, anonymous=True, table=tmp_path / "names.csv").write_table()
    assert (tmp_path / "names.csv").read_bytes().endswith(b"/\xff.png\r\n")


TABLES = {
    "mark of a spreadsheet": (b"\xef\xbb\xbfpath,class,patient\nn/a.png,n,1\n", None),
    "spaces after commas": (b"path, class, patient\nn/a.png, n, 1\n", None),
    "spaces before commas and at the end": (b"path ,class ,patient\nn/a.png ,n ,1 \n", None),
    "a column twice": (b"path,class,class,patient\nn/a.png,n,m,1\n", r"\['class'\] stand there more than once"),
    "semicolons": (b"path;class;patient\nn/a.png;n;1\n", "has no column .*, which end in commas"),
    "empty table": (b"", "has no column"),
    "Latin-1": ("path,class,patient\nn/a.png,n,M\xfcller\n".encode("latin1"), "commas in UTF-8 was expected"),
    "UTF-16": ("path,class,patient\nn/a.png,n,1\n".encode("utf16"), "commas in UTF-8 was expected"),
    "row that is too short": (b"path,class,patient\nn/a.png,n,1\nn/b.png\n", "line 3 has fewer columns"),
    "folder in the table": (b"path,class,patient\nn,n,1\n", "lists 1 files that are missing"),
}


@pytest.mark.parametrize("situation", TABLES)
def test_a_table_is_read_or_refused_by_name(tmp_path, situation):
    content, reason = TABLES[situation]
    write_picture(tmp_path / "n" / "a.png", grey())
    (tmp_path / "manifest.csv").write_bytes(content)
    if reason is None:
        assert [(case["class"], case["group"]) for case in image_cases(tmp_path, "patient")] == [("n", "1")]
    else:
        with pytest.raises((ValueError, FileNotFoundError), match=rf"^{tmp_path / 'manifest.csv'}.*{reason}"):
            image_cases(tmp_path, "patient")


def test_what_stands_beside_a_result_is_known_by_its_record_or_where_asked_for_by_its_name(tmp_path):
    names = ("a", "a_sr", "a_sr_weight", "a_sr_preview", "contact_sheet", "b", "b_mean", "c_std")
    files = [str(write_picture(tmp_path / f"{name}.png", grey())) for name in names]
    record = {"synthetic": True, "outputs": {"pred": "a_sr.png", "weight": "a_sr_weight.png"}}
    (tmp_path / "a_sr.json").write_text(json.dumps(record))
    images, beside = own_outputs(files)
    assert images == {files[1]}
    assert beside == set(files[2:5])
    assert own_outputs(files, by_name=True) == (images, beside | {files[6]})


def test_links_in_a_circle_and_links_to_nothing_end_the_search(tmp_path, caplog):
    write_picture(tmp_path / "sub" / "a.png", grey())
    (tmp_path / "sub" / "again").symlink_to(tmp_path, target_is_directory=True)
    dangling(tmp_path / "sub" / "b.png")
    assert find_images(tmp_path, recursive=True) == [str(tmp_path / "sub" / "a.png")]
    assert "1 left out" in caplog.text
    assert "b.png" in caplog.text


def test_one_name_in_two_formats_is_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        write_picture(tmp_path / name, grey())
    with pytest.raises(ValueError, match=r"a.jpg and .*a.png would be written to the same output: rename one"):
        check_names(find_images(tmp_path))


@pytest.mark.parametrize("there", ["nothing", "a file", "an empty folder"])
def test_a_dataset_dir_without_images_is_named_as_what_it_is(tmp_path, there):
    place = tmp_path / "in"
    if there == "a file":
        place.write_text("x")
    elif there == "an empty folder":
        place.mkdir()
    said = f"No image in {place} " if there == "an empty folder" else f"{place} is no folder "
    with pytest.raises(FileNotFoundError, match=said):
        check_run(find_images(place), CheckedDataset([], dict), tmp_path / "out", place)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "sub"])
def test_an_output_folder_that_is_a_file_or_below_one_is_refused(tmp_path, below):
    (tmp_path / "out").write_text("x")
    with pytest.raises(OSError, match="output_dir cannot be written"):
        check_folder(tmp_path / "out" / below)


@pytest.mark.parametrize("ending", [".png", ".nii", ".nii.gz"])
def test_a_limit_on_the_size_of_files_leaves_nothing_behind(tmp_path, ending):
    write = write_picture if ending == ".png" else write_nifti
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    case = LoadImaged("image")({"image": str(write(tmp_path / f"a{ending}", noise))})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        with pytest.raises(OSError, match=r"the image cannot be written \(File too large\)"):
            SaveImaged("pred", tmp_path / "out", "x")({"pred": case["image"]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "out").iterdir())


def test_every_ending_is_trained_on(tmp_path):
    for number, ending in enumerate((".nii.gz", ".nii", ".NII.GZ") * 2):
        for folder in ("images", "labels"):
            made = (
                nifti_gz(tmp_path / folder / "x.nii.gz")
                if "gz" in ending.lower()
                else nifti(tmp_path / folder / "x.nii")
            )
            made.rename(made.with_name(f"case_{number}{ending}"))
    cases = paired_cases(tmp_path, {"image": "images", "label": "labels"})
    assert [case["case"] for case in cases] == [f"case_{number}" for number in range(6)]
    for case in cases:
        np.testing.assert_array_equal(LoadImaged("image")(case)["image"].numpy()[0], VOLUME)


@pytest.mark.parametrize("given", [{"folder": "a", "only": ""}, {"folder": "a", "only": ["b.nii", ""]}, {"folder": ""}])
def test_an_empty_name_is_no_default(given):
    with pytest.raises(ValueError, match="got an empty text"):
        find_images(**given)
