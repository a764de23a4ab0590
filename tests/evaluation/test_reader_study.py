"""The reader study: what the page shows and hides, its key, the evaluation, and a whole session in a browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.evaluation.__main__ import main
from common.evaluation.reader_answers import read_key, study_results
from common.evaluation.reader_study import draw_items

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
METHODS = ("ours", "theirs")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve real images, as many of one method and of another, of one size; the real ones are the brighter."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    for name, level in (("real", 150), ("ours", 120), ("theirs", 40)):
        (root / name).mkdir()
        for number in range(12):
            pixels = np.clip(rng.normal(level, 20, (12, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"patient_{number}.png")
    return root


def make_study(folders, out, *more):
    sets = ["--real", str(folders / "real"), "--fake", str(folders / "ours"), "--fake2", str(folders / "theirs")]
    assert main(["reader-study", *sets, "--pairs", "5", "--singles", "4", "--out", str(out), *more]) == 0
    text = (out / "index.html").read_text()
    shown = json.loads(re.search(r"const STUDY = (.*);\n", text)[1])
    return text, shown, list(csv.DictReader((out / "key.csv").open()))


def test_the_page_shows_the_items_of_the_key_and_says_nothing_of_them(folders, tmp_path):
    text, shown, key = make_study(folders, tmp_path)
    assert [item["id"] for item in shown["items"]] == [row["item"] for row in key]
    assert [len(item["images"]) for item in shown["items"]] == [
        2 if row["truth"] in ("left", "right") else 1 for row in key
    ]
    for hint in ("patient_", *METHODS, str(folders), "truth", "method"):
        assert hint not in text
    assert not re.search(r"(src|href)=\"http|//[a-z]+\.[a-z]|fetch\(|XMLHttp", text)
    for row, item in zip(key, shown["items"]):
        order = {"left": "real generated", "right": "generated real"}.get(row["truth"], row["truth"]).split()
        for kind, image in zip(order, item["images"]):
            folder = "real" if kind == "real" else row["method"]
            stored = np.asarray(Image.open(folders / folder / f"{row[kind]}.png"))
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(image["png"])))), stored)
            assert image["shape"] == [16, 12, 1]


def test_sides_order_and_number_of_items_are_drawn_by_the_seed(folders, tmp_path):
    first, again, other = (
        make_study(folders, tmp_path / n, "--seed", s) for n, s in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert first[0] == again[0]
    assert first[2] == again[2] != other[2]
    for method in METHODS:
        truths = [row["truth"] for row in first[2] if row["method"] == method]
        assert [truths.count("real"), truths.count("generated")] == [2, 2]
        assert truths.count("left") + truths.count("right") == 5
        used = [row["generated"] for row in first[2] if row["method"] == method and row["generated"]]
        assert len(set(used)) == len(used) == 7
    assert [row["method"] for row in first[2]] != sorted(row["method"] for row in first[2])


def test_sets_without_common_names_are_paired_at_random():
    items = draw_items([f"r{n}" for n in range(9)], {"m": [f"g{n}" for n in range(9)]}, pairs=9, seed=0)
    assert sorted(item.real for item in items) == sorted(item.generated for item in items) == list(range(9))
    assert any(item.real != item.generated for item in items)
    with pytest.raises(ValueError, match="need 10 generated"):
        draw_items(["r"] * 9, {"m": ["g"] * 9}, pairs=10)


def test_a_volume_is_stacked_as_the_page_unstacks_it(tmp_path):
    for name, seed in (("real", 0), ("fake", 1)):
        (tmp_path / name).mkdir()
        values = np.random.default_rng(seed).random((6, 7, 5)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([-1, 1, 2, 1.0])), tmp_path / name / "a.nii.gz")
    given = [
        "--real",
        str(tmp_path / "real"),
        "--fake",
        str(tmp_path / "fake"),
        "--pairs",
        "1",
        "--scaling",
        "percentiles",
    ]
    assert main(["reader-study", *given, "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "index.html").read_text()
    (item,) = json.loads(re.search(r"const STUDY = (.*);\n", text)[1])["items"]
    (row,) = csv.DictReader((tmp_path / "out" / "key.csv").open())
    image = item["images"][["left", "right"].index(row["truth"])]
    assert image["shape"] == [6, 7, 5]
    assert image["spacing"] == [1, 1, 2]
    stack = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["png"])))).reshape(5, 7, 6)
    stored = np.asarray(nib.load(tmp_path / "real" / "a.nii.gz").dataobj)  # its first axis runs to the left
    low, high = np.percentile(stored, (0.5, 99.5))
    wanted = np.rint(np.clip((stored - low) / (high - low), 0, 1) * 255)[:, ::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(stack, wanted, atol=1)


def test_other_sizes_are_refused(folders, tmp_path):
    (tmp_path / "small").mkdir()
    for number in range(12):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "small" / f"{number}.png")
    given = ["--real", str(folders / "real"), "--fake", str(tmp_path / "small"), "--out", str(tmp_path / "out")]
    assert main(["reader-study", *given]) == 2
    assert not (tmp_path / "out").exists()


def answer_all(key, reader, right, path):
    """An answer file in which the first ``right`` items of each method are right."""
    other = {"left": "right", "right": "left", "real": "generated", "generated": "real"}
    seen: dict[str, int] = {}
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["reader", "order", "item", "answer", "seconds"])
        for order, row in enumerate(key, start=1):
            number = seen[row["method"]] = seen.get(row["method"], 0) + 1
            answer = row["truth"] if number <= right[row["method"]] else other[row["truth"]]
            table.writerow([reader, order, row["item"], answer, 1.5])
    return path


def test_answers_become_accuracies_a_method_and_agreement(folders, tmp_path, capsys):
    _, _, key = make_study(folders, tmp_path / "study")
    files = [
        answer_all(key, name, {"ours": k, "theirs": 9}, tmp_path / f"{name}.csv") for name, k in (("a", 3), ("b", 6))
    ]
    result = study_results(files, tmp_path / "study" / "key.csv")
    ours, theirs = (result["methods"][method] for method in METHODS)
    assert [ours["readers"][name]["value"] for name in "ab"] == [3 / 9, 6 / 9]
    assert theirs["mean_of_readers"] == 1
    assert theirs["agreement"] == {"value": 1.0, "same": 1.0}
    assert ours["agreement"]["same"] == pytest.approx(6 / 9)
    assert result["kinds"]["pairs"]["n"] == 2 * 10
    command = [
        "observer",
        ",".join(map(str, files)),
        "--key",
        str(tmp_path / "study" / "key.csv"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(command) == 0
    assert "## theirs" in capsys.readouterr().out
    assert json.loads((tmp_path / "o" / "observer.json").read_text())["methods"]["theirs"]["pooled"]["correct"] == 18


@pytest.mark.parametrize(("change", "said"), [
    (lambda rows: [*rows, rows[-1]], "twice"),
    (lambda rows: [*rows[:-1], {**rows[-1], "item": "ffff"}], "not in the key"),
    (lambda rows: [*rows[:-1], {**rows[-1], "answer": "maybe"}], "was expected, got 'maybe'"),
])  # fmt: skip
def test_answers_that_do_not_fit_are_named_with_their_line(folders, tmp_path, change, said):
    _, _, key = make_study(folders, tmp_path)
    path = answer_all(key, "a", dict.fromkeys(METHODS, 9), tmp_path / "a.csv")
    rows = change(list(csv.DictReader(path.open())))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    with pytest.raises(ValueError, match=rf"a\.csv, line \d+: .*{said}"):
        study_results([path], tmp_path / "key.csv")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_whole_session_by_key_presses_with_a_reload_in_the_middle(folders, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    sets = ["--real", str(folders / "real"), "--fake", str(folders / "ours"), "--pairs", "10", "--singles", "4"]
    assert main(["reader-study", *sets, "--out", str(tmp_path / "study")]) == 0
    key = list(csv.DictReader((tmp_path / "study" / "key.csv").open()))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)

        def start():
            page.goto((tmp_path / "study" / "index.html").as_uri())
            page.fill("#reader", "dr a")
            page.press("#reader", "Enter")

        def answer(row):
            number = key.index(row) + 1
            page.wait_for_function(f"document.getElementById('count').textContent.startsWith('Item {number} of')")
            page.wait_for_function("since > 0")
            page.keyboard.press("ArrowLeft" if row["truth"] in ("left", "real") else "ArrowRight")

        start()
        for row in key[:6]:
            answer(row)
        page.wait_for_function("since > 0")
        page.keyboard.press("Backspace")
        answer(key[5])
        page.wait_for_function("since > 0")
        page.keyboard.press("p")
        assert page.is_visible("#paused")
        page.screenshot(path=str(tmp_path / "paused.png"))
        start()  # the page is loaded anew
        for row in key[6:]:
            answer(row)
        page.wait_for_selector("#end:not([hidden])")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "answers.csv")
        browser.close()
    assert problems == []
    rows = list(csv.DictReader((tmp_path / "answers.csv").open()))
    assert [(row["reader"], row["item"]) for row in rows] == [("dr a", row["item"]) for row in key]
    assert (
        study_results([tmp_path / "answers.csv"], tmp_path / "study" / "key.csv")["methods"]["ours"]["pooled"]["value"]
        == 1
    )


def test_the_key_of_another_study_is_not_written_over(folders, tmp_path, capsys):
    make_study(folders, tmp_path)
    key = (tmp_path / "key.csv").read_bytes()
    make_study(folders, tmp_path)  # the same study again
    sets = ["--real", str(folders / "real"), "--fake", str(folders / "ours"), "--pairs", "5", "--out", str(tmp_path)]
    assert main(["reader-study", *sets]) == 2
    assert "key.csv is the key of another study, and its answers need it" in capsys.readouterr().err
    assert (tmp_path / "key.csv").read_bytes() == key


def test_answers_fit_the_key_of_their_own_study_alone(folders, tmp_path):
    sets = ["--real", str(folders / "real"), "--pairs", "5"]
    for name in ("ours", "theirs"):
        assert main(["reader-study", *sets, "--fake", str(folders / name), "--out", str(tmp_path / name)]) == 0
    one, other = (read_key(tmp_path / name / "key.csv") for name in ("ours", "theirs"))
    assert not set(one) & set(other)


@pytest.mark.parametrize("numbers", [["--pairs", "-1"], ["--pairs", "x"], ["--pairs", "0"], ["--singles", "1.5"]])
def test_numbers_that_make_no_question_are_refused(folders, tmp_path, capsys, numbers):
    sets = ["--real", str(folders / "real"), "--fake", str(folders / "ours"), "--out", str(tmp_path)]
    assert main(["reader-study", *sets, *numbers]) == 2
    assert "pairs and singles must be whole numbers" in capsys.readouterr().err
