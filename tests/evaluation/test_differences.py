"""Two evaluations of the same cases: differences by hand, what is refused, what is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.evaluation.__main__ import main
from common.evaluation.differences import differences
from common.metrics.intervals import bootstrap_interval

SHARP = [0.5, 0.4, 0.7, 0.6]


def column(values, **how):
    return {"value": float(np.mean(values)), "interval95": None, "n": len(values), "per_case": list(values), **how}


def table(folder, lpips, name="med_cdiff", title="ten steps", real=SHARP, groups="aabb", size=(8, 8), **how):
    """The metrics.json of a restoration: a method, interpolation, which is always the same, and the originals."""
    rows = {
        "bilinear": {"title": "bilinear", "metrics": {"lpips": column([0.4, 0.5, 0.6, 0.3])}},
        name: {"title": title, "metrics": {"lpips": column(lpips, **how), "fid": {"value": 3.0, "n": 4}}},
        "original": {"title": "original", "metrics": {"acutance": column(real)}},
    }
    content = {"methods": rows, "context": {"size": list(size)}, **({"clusters": list(groups)} if groups else {})}
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def test_differences_and_their_intervals_by_hand(tmp_path):
    few = table(tmp_path / "few", [0.1, 0.3, 0.2, 0.5], name="med_cdiff_fast", title="two steps")
    ten = table(tmp_path / "ten", [0.2, 0.3, 0.4, 0.4], groups="xxyy")
    with pytest.raises(ValueError, match=r"no value differs.*few/metrics.json alone has med_cdiff_fast: --method"):
        differences(few, ten)
    with pytest.raises(ValueError, match=r"few/metrics.json has no row 'fast', it has bilinear, med_cdiff_fast, orig"):
        differences(few, ten, method="fast", other="med_cdiff")
    content, notices = differences(few, ten / "metrics.json", method="med_cdiff_fast", other="med_cdiff")
    assert list(content["methods"]) == ["med_cdiff_fast"]
    row = content["methods"]["med_cdiff_fast"]
    assert row["title"] == "two steps, minus ten steps"
    assert list(row["metrics"]) == ["lpips"], "FID has no values a case"
    entry = row["metrics"]["lpips"]
    assert entry["value"] == pytest.approx(-0.05)
    assert entry["interval95"] == pytest.approx(bootstrap_interval(np.array([-0.1, 0, -0.2, 0.1]), clusters="aabb"))
    assert (content["number"], content["bootstrap"]["over"], notices) == (1, "2 groups of cases", [])
    back, _ = differences(ten, few, method="med_cdiff", other="med_cdiff_fast")
    assert back["methods"]["med_cdiff"]["metrics"]["lpips"]["value"] == pytest.approx(0.05)


def test_cases_without_groups_and_cases_without_a_value(tmp_path):
    for name, values in (("one", [0.1, 0.3, 0.2, 0.5]), ("two", [0.2, 0.3, 0.4, 0.4])):
        table(tmp_path / name, values, groups="")
    content = json.loads((tmp_path / "two" / "metrics.json").read_text())
    content["methods"]["med_cdiff"]["metrics"]["lpips"]["per_case"][3] = None
    (tmp_path / "two" / "metrics.json").write_text(json.dumps(content))
    entry = differences(tmp_path / "one", tmp_path / "two")[0]["methods"]["med_cdiff"]["metrics"]["lpips"]
    assert (entry["n"], entry["value"]) == (3, pytest.approx(-0.1))


def test_a_report_without_methods(tmp_path):
    for name, error in (("one", 0.1), ("two", 0.2)):
        rows = {"mse": column([error] * 3), "grain_real": column([1.0, 2.0, 3.0])}
        (tmp_path / name).write_text(json.dumps({"metrics": rows, "context": {"labels": {"a": 1}}}))
    content, _ = differences(tmp_path / "one", tmp_path / "two")
    assert content["metrics"]["mse"]["value"] == pytest.approx(-0.1)
    assert list(content["metrics"]) == ["mse"], "nothing is drawn for the other"


def test_what_was_measured_in_another_way_or_in_one_alone_is_named(tmp_path):
    one = table(tmp_path / "one", [0.1, 0.3, 0.2, 0.5], name="ours")
    two = table(tmp_path / "two", [0.2, 0.3, 0.4, 0.4], name="ours", weights="other.ckpt")
    with pytest.raises(ValueError, match="no value differs"):
        differences(one, two)
    content = json.loads((two / "metrics.json").read_text())
    content["methods"]["ours"]["metrics"]["ssim"] = column([0.1] * 4)
    content["methods"]["theirs"] = content["methods"]["bilinear"]
    (two / "metrics.json").write_text(json.dumps(content))
    content = json.loads((one / "metrics.json").read_text())
    content["methods"]["ours"]["metrics"]["ssim"] = column([0.2] * 4)
    (one / "metrics.json").write_text(json.dumps(content))
    content, notices = differences(one, two)
    assert list(content["methods"]["ours"]["metrics"]) == ["ssim"]
    assert sorted(notices, reverse=True) == [
        "lpips is left out: it was not measured the same way in both.",
        f"{two / 'metrics.json'} alone has theirs: --method and --other name two rows to compare.",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size": (16, 16)}, r"size is \[8, 8\] in the first, \[16, 16\] in the second"),
        ({"real": [0.5, 0.4, 0.6, 0.7]}, "acutance of the real images is not the same"),
        ({"groups": "abab"}, "their groups are not the same"),
    ],
)
def test_other_cases_and_other_images_are_refused(tmp_path, changed, said):
    one = table(tmp_path / "one", [0.1, 0.3, 0.2, 0.5])
    two = table(tmp_path / "two", [0.2, 0.3, 0.4, 0.4], **changed)
    with pytest.raises(ValueError, match=said):
        differences(one, two)


def test_the_command_prints_the_table_and_ends_in_a_line_after_a_mistake(tmp_path, capsys):
    one, two = table(tmp_path / "one", [0.1, 0.3, 0.2, 0.5]), table(tmp_path / "two", [0.2, 0.3, 0.4, 0.4])
    assert main(["differences", str(one), str(two), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "| ten steps | -0.05 (" in printed
    assert (tmp_path / "out" / "differences.md").read_text() in printed
    assert json.loads((tmp_path / "out" / "differences.json").read_text())["number"] == 1
    for content in ("{", "[]", json.dumps({"metrics": {"fid": {"value": 1.0}}})):
        (tmp_path / "bad.json").write_text(content)
        assert main(["differences", str(one), str(tmp_path / "bad.json")]) == 2
        assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'bad.json'}: ")
    assert main(["differences", str(one), str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such file" in capsys.readouterr().err
