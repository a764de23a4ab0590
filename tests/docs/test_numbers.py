"""Published numbers: the pages' tables and metadata.json say what ``bundles/NAME/docs/numbers.json`` says."""

from __future__ import annotations

import json
import re
import sys

import pytest
from monai.bundle import ConfigParser

from benchmarks import published_numbers as published
from tests.fixtures import REPOSITORY, real_data

BUNDLES = sorted(path.parents[1].name for path in REPOSITORY.glob("bundles/*/docs/numbers.json"))
EACH = pytest.mark.parametrize("bundle", BUNDLES)


def test_pages_show_the_tables_of_the_files():
    stale = [page.name for page in published.pages() if published.rendered(page.read_text()) != page.read_text()]
    assert stale == [], "make tables writes them anew"


@EACH
def test_every_table_stands_in_a_page_and_every_value_in_a_table(bundle):
    content = published.read(bundle)
    shown = "".join(page.read_text() for page in published.pages())
    assert [name for name in content["tables"] if f"<!-- numbers: {bundle}/{name} -->" not in shown] == []
    cells = str(content["tables"]) + str(content["eval_metrics"])
    values = [(name, path) for name, run in content["runs"].items() for path, value in run["values"].items() if value]
    assert [pair for pair in values if f"{{{pair[0]}: {pair[1]}" not in cells] == []


@EACH
def test_files_are_written_as_the_module_writes_them(bundle):
    assert published.numbers_file(bundle).read_text() == published.dumps(published.read(bundle)) + "\n"


@EACH
def test_metadata_has_the_values_of_the_file(bundle):
    content = published.read(bundle)
    said = json.loads((REPOSITORY / "bundles" / bundle / "configs" / "metadata.json").read_text())["eval_metrics"]
    assert {name: format(value, ".4g") for name, value in said.items()} == {
        name: published.cell(content, reference) for name, reference in content["eval_metrics"].items()
    }


@EACH
def test_runs_can_be_repeated_or_say_why_not(bundle):
    for name, run in published.read(bundle)["runs"].items():
        assert run["command"] or run["why"], name
        measured = any(run["values"].values())
        assert not measured or {"seed", "device", "precision", "date"} <= set(run), name
        assert all(value[1] <= value[0] <= value[2] for value in run["values"].values() if len(value) == 3), name
        if run["command"] and run["command"][1] == "monai.bundle":
            folder, given = REPOSITORY / run["folder"], run["command"]
            files = re.findall(r"[\w/]*configs/\w+\.json", given[given.index("--config_file") + 1])
            content = ConfigParser.load_config_files([str(folder / file) for file in files])
            keys = [part[2:] for part in given if part.startswith("--")]
            assert [k for k in keys if k != "config_file" and k.split("#")[0] not in content] == [], name


def a_file(tmp_path, monkeypatch, value):
    """A repository with one bundle, whose command writes 0.5 (0.4 to 0.6)."""
    script = (
        "import json, sys; json.dump({'m': {'value': 0.5, 'interval95': [0.4, 0.6]}}, open(sys.argv[1] + '.json', 'w'))"
    )
    run = {"command": ["-c", script, "OUT"], "folder": ".", "results": "../eval.json", "values": {"m": value}}
    content = {"runs": {"eval": run}, "tables": {"t": [["", "m"], ["a", "{eval: m}"], ["b", "{eval: m|value:.1f%} %"]]}}
    monkeypatch.setattr(published, "ROOT", tmp_path)
    path = published.numbers_file("toy")
    path.parent.mkdir(parents=True)
    path.write_text(published.dumps(content))
    (tmp_path / "out" / "toy" / "eval").mkdir(parents=True)
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("value", "status"), [([0.5, 0.4, 0.6], 0), ([0.55, 0.45, 0.65], 0), ([0.7, 0.6, 0.8], 1), ([0.6], 1)]
)
def test_a_rerun_says_what_left_its_interval(tmp_path, monkeypatch, capsys, value, status):
    out = a_file(tmp_path, monkeypatch, value)
    assert published.main(["rerun", "toy", "--out", str(out)]) == status
    assert ("OUTSIDE" in capsys.readouterr().out) == bool(status)


def test_a_complete_run_is_not_repeated_and_what_was_measured_can_be_written(tmp_path, monkeypatch):
    out = a_file(tmp_path, monkeypatch, [])
    page = tmp_path / "README.md"
    page.write_text("text\n<!-- numbers: toy/t -->\nold\n<!-- /numbers -->\n")
    assert published.rerun("toy", out=out, write=True) == 0
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert published.rerun("toy", out=out) == 0
    assert published.main(["tables"]) == 0
    assert page.read_text().split("\n", 2)[2] == (
        "| | m |\n| --- | --- |\n| a | 0.5 (0.4 to 0.6) |\n| b | 50.0 % |\n<!-- /numbers -->\n"
    )


def test_errors_name_what_was_expected(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="med_vdm_cxr"):
        published.read("none")
    with pytest.raises(ValueError, match="with a command are eval, fast"):
        published.rerun("med_cdiff_mri_inpaint", ["none"])
    a_file(tmp_path, monkeypatch, [0.5])
    with pytest.raises(ValueError, match="names no value"):
        published.cell(published.read("toy"), "{eval: n}")
    monkeypatch.delenv("WEIGHTS", raising=False)
    with pytest.raises(KeyError, match="WEIGHTS"):
        published.arguments({"command": ["--weights", "WEIGHTS"]}, tmp_path, "eval")
    assert published.arguments(
        {"command": ["-m", "--weights", "WEIGHTS"], "optional": ["WEIGHTS"]}, tmp_path, "eval"
    ) == (
        ["-m"],
        ["--weights WEIGHTS"],
    )
    assert published.needed({"a": {"command": ["OUT:b/x"]}, "b": {"command": ["OUT"]}}, "a") == ["b", "a"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "data"),
    [
        ("med_cdiff_mri_inpaint", "brain_tumor_mri"),
        pytest.param("med_cdiff_xray_denoise", "chest_xray", marks=pytest.mark.exhaustive),
    ],
)
def test_cheap_rows_are_inside_their_intervals(bundle, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDICAL_DATA_DIR", str(real_data(data).parent))
    assert published.rerun(bundle, ["fast"], tmp_path) == 0
