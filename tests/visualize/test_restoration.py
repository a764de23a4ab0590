"""The report of a restoration: what it holds of each case, and what a browser draws of it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data.names import OutputNames
from common.visualize.html import safe
from common.visualize.restoration import known_limits, restoration_report
from tests.bundles.restoration_runs import (
    BUNDLES,
    DENOISE,
    INPAINT,
    SUPERRES,
    folder_of,
    grey,
    pixels,
    restore,
    tiny_weights,
    write_dicom,
    write_picture,
)
from tests.fixtures import write_nifti

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A report of each bundle: two samples of a picture, of a volume on an oblique grid, and of a DICOM image."""
    root = tmp_path_factory.mktemp("reports")
    hole = np.zeros((20, 24), np.uint8)
    hole[5:11, 8:17] = 1
    for bundle in BUNDLES:
        folder = root / bundle
        write_picture(folder / "in" / "a.png", grey((20, 24)))
        options = {"scale": 2.0} if bundle == SUPERRES else {}
        if bundle == INPAINT:
            options["hole"] = str(write_picture(folder / "hole.png", hole))
        else:
            write_nifti(folder / "in" / "b.nii.gz", grey((20, 24, 9), np.int16, 900)[..., ::4] - 300)
        if bundle == DENOISE:
            write_dicom(folder / "in" / "c.dcm", grey((20, 24), np.uint16, 4000), RescaleSlope=2, RescaleIntercept=-100)
        restore(
            bundle, dataset_dir=str(folder / "in"), output_dir=str(folder / "out"), weights=tiny_weights(bundle, root),
            num_samples=2, report=True, **options,
        )  # fmt: skip
    return root


def contents(page):
    return json.loads(re.search(r"const CASES = (.*);\n", page.read_text(encoding="utf-8"))[1])


def values(case, key):
    """(rows, columns) of each slice, in the units of the file, and the region that is marked."""
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(case[key])))).astype(int)
    x, y, z = case["shape"]
    levels = (256 * picture[..., 0] + picture[..., 1]).reshape(z, y, x)
    low, step = (0, case["largest"] / 65535) if key == "deviation" else (case["low"], case["step"])
    return low + step * levels, picture[..., 2].reshape(z, y, x) > 0


def test_the_page_holds_the_values_of_the_files(reports):
    folder = reports / DENOISE
    png, volume, dicom = contents(folder / "out" / "report.html")
    np.testing.assert_array_equal(values(png, "image")[0][0], pixels(folder / "in" / "a.png"))
    np.testing.assert_array_equal(values(png, "result")[0][0], pixels(folder / "out" / "a_denoised.png"))
    record = json.loads((folder / "out" / "a_denoised.json").read_text())
    deviation = pixels(folder / "out" / "a_denoised_std.png") * record["std_of_one_step"]
    np.testing.assert_allclose(values(png, "deviation")[0][0], deviation, atol=png["largest"] / 65535)
    np.testing.assert_array_equal(values(dicom, "image")[0][0], pixels(folder / "in" / "c.dcm") * 2.0 - 100)
    stored = nib.load(folder / "out" / "b_denoised.nii.gz").get_fdata()
    assert sorted(np.unique(values(volume, "result")[0])) == sorted(np.unique(stored))
    assert volume["slices"] == [0, 1, 2]


def test_a_finer_result_stands_beside_its_input_of_the_same_size_and_a_hole_is_marked(reports):
    case = contents(reports / SUPERRES / "out" / "report.html")[0]
    assert case["shape"] == [48, 40, 1]
    assert (
        "input (24 x 20) is shown at the size of the result" in (reports / SUPERRES / "out" / "report.html").read_text()
    )
    (case,) = contents(reports / INPAINT / "out" / "report.html")
    np.testing.assert_array_equal(values(case, "result")[1][0], pixels(reports / INPAINT / "hole.png") > 0)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_page_says_what_must_be_known_and_opens_no_connection(reports, bundle):
    text = (reports / bundle / "out" / "report.html").read_text(encoding="utf-8")
    limits = known_limits(folder_of(bundle))
    assert len(limits) >= 3
    record = json.loads((reports / bundle / "out").glob("*.json").__next__().read_text())
    for said in (
        "Not for diagnosis",
        "2 samples deviate by",
        record["weights_sha256"],
        "DPMSolverPP2M",
        safe(limits[0]),
    ):
        assert said in text
    assert not re.search(r"(src|href)=\"(?!data:)|//[a-z]+\.[a-z]|fetch\(|XMLHttp", text)


def test_one_sample_missing_results_and_anonymous_names(reports, tmp_path):
    file = write_picture(tmp_path / "in" / "doe.png", grey((20, 24)))
    other = write_picture(tmp_path / "in" / "late.png", grey((20, 24)))
    restore(
        DENOISE, image=str(file), output_dir=str(tmp_path / "out"), weights=tiny_weights(DENOISE, tmp_path),
        anonymous_names=True,
    )  # fmt: skip
    files = [str(file), str(other)]
    names = OutputNames(files, anonymous=True)
    page = restoration_report(files, tmp_path / "out", "denoised", folder_of(DENOISE), names)
    text = page.read_text(encoding="utf-8")
    assert "1 inputs have no result: case_0002" in text
    assert "doe" not in text
    assert "One sample: no deviation." in text
    assert "unknown, this is a single sample" in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_draws_window_difference_and_deviation(reports, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page_file = reports / DENOISE / "out" / "report.html"
    png, volume, _ = contents(page_file)
    image, result, deviation = (values(png, key)[0][0] for key in ("image", "result", "deviation"))
    problems: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto(page_file.as_uri())
        page.wait_for_function("[...document.querySelectorAll('section')].every(one => one.dataset.ready)")

        def drawn(kind, case=0):
            read = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
            rows, columns = (png, volume)[case]["shape"][1::-1]
            found = page.locator(f"#case-{case} [data-kind={kind}] canvas").evaluate(read)
            return np.array(found).reshape(rows, columns, 4)[..., :3].astype(int)

        section = page.locator("#case-0")
        section.locator(".low").fill("50")
        section.locator(".high").fill("150")
        shown = (np.clip((image - 50) / 100, 0, 1) * 255)[..., None]
        np.testing.assert_allclose(drawn("image"), np.broadcast_to(shown, (*image.shape, 3)), atol=1)
        colour, change = drawn("difference"), result - image
        assert (colour[change > 5][:, 0] > colour[change > 5][:, 2]).all(), "red where the result is brighter"
        assert (colour[change < -5][:, 2] > colour[change < -5][:, 0]).all(), "blue where it is darker"
        overlay = drawn("deviation")
        saturation = overlay.max(-1) - overlay.min(-1)
        assert np.corrcoef(saturation.ravel(), deviation.ravel())[0, 1] > 0.9
        box = section.locator("[data-kind=result]").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 3.5 / 24, box["y"] + box["height"] * 2.5 / 20)
        said = section.locator(".readout").inner_text()
        assert said.startswith(f"Column 3, row 2: input {image[2, 3]:g}, result {result[2, 3]:g}")
        section.locator(".in").click()
        assert "scale(2)" in section.locator("[data-kind=image] canvas").get_attribute("style")
        before = drawn("result", 1)
        page.locator("#case-1 .slice").fill("2")
        assert (drawn("result", 1) != before).any()
        assert page.locator("#case-1 .depth output").inner_text() == "3 of 3"
        ends = page.locator("#case-0 figure:nth-child(4) .ends span").all_inner_texts()
        assert float(ends[-1]) == pytest.approx(png["largest"], rel=1e-3)
        page.screenshot(path=str(tmp_path / "report.png"), full_page=True)
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        browser.close()
    assert problems == []
