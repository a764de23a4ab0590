"""Every command of every page, taken as a shell takes it: it parses, and its configs, arguments and modules exist."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from common.bundle.arguments import unlike
from common.bundle.errors import check_arguments
from tests.docs.test_pages import BUNDLE_OF, BUNDLES, PAGES, text_of
from tests.fixtures import REPOSITORY, write_dataset

OWN = ("python", "python3", "torchrun", "make")
OTHERS = (
    "pip",
    "cp",
    "git",
    "tar",
    "export",
    "curl",
    "mkdir",
    "monailabel",
    "monai-deploy",
    "sbatch",
)  # not of this project
MONAI = ("config_file", "tracking", "args_file", "run_id", "logging_file", "meta_file", "init_id", "final_id")
# Every external command is unknown there, and is written down with its arguments instead of being run.
SHELL = r"""
PATH=/nonexistent
command_not_found_handle() { printf '%s\037' "$@" >> "$COMMANDS"; printf '\036' >> "$COMMANDS"; }
"""
BASH = shutil.which("bash")


def script_of(page):
    """The shell blocks of a page, one after the other, since they share variables."""
    text = text_of(page)
    fenced = [
        body for language, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if not language
    ]
    indented = [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for block in re.findall(r"^    python (?:.*\n(?:     .*\n)*)", text, re.MULTILINE)
    ]
    lines = "\n".join([*fenced, *indented]).splitlines()
    return "\n".join(line for line in lines if not line.startswith(". "))  # activates an environment


@cache
def commands_of(page):
    """The commands of a page as lists of words, or a failed test where a shell cannot read them."""
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        (folder / "script").write_text(SHELL + script_of(page))
        env = {"COMMANDS": str(folder / "commands")}
        run = subprocess.run(
            [BASH, "script"], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.stderr == "", f"{page}: {run.stderr}"
        found = (folder / "commands").read_text() if (folder / "commands").is_file() else ""
    finally:
        shutil.rmtree(folder)
    return [command.split("\037")[:-1] for command in found.split("\036")[:-1]]


OTHER = {"download", "ckpt_export", "push_to_hf_hub"}  # commands of monai.bundle that take arguments of their own


def runs_of(page):
    """The commands of a page that run a bundle: the words after "run"."""
    every = [command for command in commands_of(page) if "monai.bundle" in command]
    return [command[command.index("monai.bundle") + 2 :] for command in every if not OTHER & set(command)]


def options_of(words):
    """``--name value`` pairs; other words that stand before them are the entry ("run_fit")."""
    while words and not words[0].startswith("--"):
        words = words[1:]
    assert len(words) % 2 == 0, f"not pairs of --NAME VALUE: {words}"
    assert all(name.startswith("--") for name in words[::2]), words
    return [(name[2:], value) for name, value in zip(words[::2], words[1::2])]


def configs_of(options):
    given = dict(options)["config_file"]
    return ast.literal_eval(given) if given.startswith("[") else [given]


@cache
def content_of(files):
    return ConfigParser.load_config_files(list(files))


def problem(options, bundle):
    """Why a command cannot be run in a bundle's folder, or None."""
    files = [
        REPOSITORY / file if file.startswith("bundles/") else REPOSITORY / "bundles" / bundle / file
        for file in configs_of(options)
    ]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        return f"no {missing}"
    content = content_of(tuple(map(str, files)))
    try:
        check_arguments([name for name, _ in options if name not in MONAI], content, content)
    except ValueError as error:
        return str(error)
    values = {name: DefaultParseValue(value) for name, value in options if name not in MONAI}
    items = {name for name, value in content.items() if isinstance(value, dict) and "_target_" in value}
    unfit = {name: unlike(name, value) for name, value in values.items() if name not in items}
    return next((f"--{name}: {expected}" for name, expected in unfit.items() if expected), None)


@pytest.mark.skipif(BASH is None, reason="bash takes the commands apart")
@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_commands_can_be_typed_and_name_what_exists(page):
    about = BUNDLE_OF.match(page)
    places = [about[1] or about[2]] if about else BUNDLES
    wrong = []
    for words in runs_of(page):
        options = options_of(words)
        if any(file.startswith("med_") for file in configs_of(options)):
            continue  # in the folder of an unpacked zip
        reasons = [problem(options, bundle) for bundle in places]
        if None not in reasons:
            wrong.append(f"{' '.join(words)}: {reasons[0]}")
    for command in commands_of(page):
        if command[0] not in (*OWN, *OTHERS):
            wrong.append(f"unknown command {command[0]!r}")
        if command[0] == "make" and not re.search(
            rf"^{command[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
        ):
            wrong.append(f"no target {command[1]}")
        wrong += _unknown_flags(command)
    assert wrong == []


def _unknown_flags(command):
    """Flags of a command of this project that its module does not know."""
    module = next((word for word in command if word.startswith("common")), None)
    if command[:2] != ["python", "-m"] or module is None or command[2] != module:
        return []
    path = REPOSITORY / module.replace(".", "/")
    files = list(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert files, module
    if module == "common":
        files.append(REPOSITORY / "common" / "evaluation" / "data_check.py")
    source = "".join(file.read_text() for file in files)
    flags = [word[2:] for word in command if word.startswith("--")]
    return [f"{module} has no --{flag}" for flag in flags if not re.search(rf"\b{flag}\b", source)]


WRITTEN = ("--output_dir", "--out", "--synthetic_dir", "--segmenter_dir")


@pytest.mark.skipif(not (REPOSITORY / ".git").exists() or shutil.which("git") is None, reason="no clone")
def test_what_commands_write_is_not_taken_for_source():
    """In pages that tell users what to type; those of studies are typed once, by us."""
    typed = [command for page in PAGES if "studies/" not in page for command in commands_of(page)]
    pairs = [pair for command in typed for pair in itertools.pairwise(command)]
    folders = {
        value for name, value in pairs if name in WRITTEN and not value.startswith("/") and value.upper() != value
    }
    assert len(folders) > 10
    paths = {f"{place}{folder}" for folder in folders for place in ("", f"bundles/{BUNDLES[0]}/")}
    command = ["git", "check-ignore", "--no-index", *(path if "." in path else f"{path}/x" for path in sorted(paths))]
    ignored = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.split()
    assert sorted(paths - {path.removesuffix("/x") for path in ignored}) == [], "to be added to .gitignore"


SMALL = {  # by config; later values on a command line go before earlier ones
    "train.json": "--max_epochs 1 --num_previews 1 --batch_size 2",
    "inference.json": "--num_inference_steps 2",
    "generate.json": "--count 4 --tries 1",
    "toy.json": "--num_training 4 --num_validation 2",
    "study_segmentation.json": "--seeds [0] --iterations 1 --multiples [1]",
}


@pytest.mark.exhaustive
def test_the_way_from_masks_to_a_segmenter_is_walked_as_it_is_written(tmp_path):
    for name in ("bundles", "common"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    write_dataset(tmp_path / "DATA", 27)
    for kind in ("images", "labels"):
        (tmp_path / "DATA" / kind / "case_014.nii.gz").unlink()  # its mask lacks the second label
    shutil.copytree(tmp_path / "DATA" / "images", tmp_path / "FOLDER")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    walked = [command for command in commands_of("docs/how-to/masks-to-segmenter.md") if command[0] == "python"]
    assert len(walked) > 8
    for command in walked:
        given = next((word for word in command if "configs/" in word), "")
        small = [text for name, text in SMALL.items() if f"/{name}" in given]
        words = [*command[1:], *(" ".join(small).split() if "segment.json" not in given else [])]
        run = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{' '.join(command)}:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    for written in ("data_check.html", "runs/mine/shapes.npz", "runs/generated/manifest.csv", "runs/report/index.html"):
        assert (tmp_path / written).is_file()
    assert (tmp_path / "runs" / "eval" / "metrics.md").is_file()
    assert len(list((tmp_path / "runs" / "segmented").glob("*_seg.nii.gz"))) == 26
    rows = (tmp_path / "runs" / "table" / "segmentation.md").read_text().splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["4", "4", "4", "8", "8"]


def test_the_checks_see_mistakes(tmp_path, monkeypatch):
    assert sum(len(runs_of(page)) for page in PAGES) > 200
    good = [("config_file", "configs/inference.json"), ("seed", "1")]
    assert problem(good, "med_ddpm_3d") is None
    assert "--seed was meant?" in problem([*good, ("sed", "1")], "med_ddpm_3d")
    assert "trian.json" in problem([("config_file", "configs/trian.json")], "med_ddpm_3d")
    assert _unknown_flags(["python", "-m", "common.masks", "sample", "--cuont", "1"])
    monkeypatch.setattr("tests.docs.test_commands.script_of", lambda page: "python -m x --config_file \"['a']\n")
    with pytest.raises(AssertionError, match="unexpected EOF"):
        commands_of("a page with an open quote")
