"""MONAI Label 0.8.5: the plain monaibundle app and ours give what ``monai.bundle run`` writes."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data.finder import stem_of
from common.data.reader import read_image
from common.utils.files import sha256_of
from tests.bundles.restoration_runs import grey, write_dicom
from tests.fixtures import REPOSITORY, two_part_mask, write_dataset, write_nifti
from tests.integration.environments import environment_of, python_of, served

pytestmark = [pytest.mark.integration, pytest.mark.slow]
requests = pytest.importorskip("requests")
sys.path.append(str(REPOSITORY / "docs" / "examples" / "label"))
from client import generate  # noqa: E402

BUNDLES = REPOSITORY / "bundles"
MASKS, RESTORED = "med_ddpm_3d", ["med_cdiff_xray_denoise", "med_cdiff_mri_superres", "med_cdiff_mri_inpaint"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A mask, and an image and a hole in each format, oblique where it can be."""
    folder = tmp_path_factory.mktemp("inputs")
    write_nifti(folder / "mask.nii.gz", two_part_mask())
    smooth, hole = grey((40, 48)), np.zeros((40, 48), np.uint8)
    hole[10:20, 12:30] = 255
    for name, pixels in (("image", smooth), ("hole", hole)):
        Image.fromarray(pixels).save(folder / f"{name}.png")
        write_dicom(folder / f"{name}.dcm", pixels.astype(np.uint16) * 16)
        volume = np.stack([pixels.T, pixels.T[::-1]], axis=-1).astype(np.int16)
        write_nifti(folder / f"{name}.nii.gz", volume)
    Image.fromarray(smooth).save(folder / "image.jpg")
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Folder of what the apps print, as NAME.log."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def label(logs):
    """Starts an app of MONAI Label with bundles and settings; gives its address."""
    python = python_of("label")
    environment = environment_of(python)

    def start(app, *conf):
        (logs / app.name).mkdir()
        words = [python, "-m", "monailabel.main", "start_server", "--app", app, "--studies", logs / app.name]
        words += [word for pair in conf for word in ("--conf", *pair)]
        return served([*words, "--host", "127.0.0.1", "--port", "PORT"], environment, logs / f"{app.name}.log")

    return start


@pytest.fixture(scope="module")
def plain(label, tmp_path_factory):
    """The app monaibundle as it is downloaded, with our bundles in its folder."""
    apps = tmp_path_factory.mktemp("apps")
    command = [python_of("label"), "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle"]
    subprocess.run([*command, "--output", apps], check=True, capture_output=True, env=environment_of(command[0]))
    (apps / "monaibundle" / "model").mkdir(exist_ok=True)
    names = [MASKS, *RESTORED, "med_vdm_cxr"]
    for name in names:
        (apps / "monaibundle" / "model" / name).symlink_to(BUNDLES / name)
    conf = [("models", ",".join(names)), ("zoo_source", "local"), ("skip_trainers", "true"), ("sam2", "false")]
    with label(apps / "monaibundle", *conf) as address:
        yield address


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Copies of the bundles, to be trained."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in [MASKS, *RESTORED, "med_vdm_cxr"]:
        shutil.copytree(
            BUNDLES / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "output", "train_output")
        )
    return folder


@pytest.fixture(scope="module")
def own(label, copies, tmp_path_factory):
    """Our app."""
    app = tmp_path_factory.mktemp("own") / "label"
    shutil.copytree(REPOSITORY / "docs" / "examples" / "label", app)
    names = ",".join(path.name for path in copies.iterdir())
    with label(app, ("models", names), ("bundles", str(copies))) as address:
        yield address


@pytest.fixture
def stored(own):
    """Puts an image, and a label for it, into the datastore of our app for the time of a test."""
    names = []

    def put(name, image, label=None):
        where = f"{own}/datastore"
        for kind, path in (("image", image), *([("label", label)] if label else [])):
            files = {"file" if kind == "image" else "label": (path.name, path.read_bytes())}
            answer = requests.put(f"{where}/{kind}?image={name}", files=files, timeout=60)
            assert answer.status_code == 200, answer.text
        names.append(name)

    yield put
    for name in names:
        requests.delete(f"{own}/datastore/image?id={name}", timeout=60)


def run_bundle(bundle, out, **settings):
    """What the command writes; the result and its record."""
    config = str(BUNDLES / bundle / "configs" / "inference.json")
    monai.bundle.run(config_file=config, logging_file=False, output_dir=str(out), **settings)
    (record,) = (json.loads(path.read_text()) for path in out.glob("*.json"))
    return out / record["outputs"]["pred"], record


def asked(address, bundle, image, hole=None, **params):
    """The plain app's answer."""
    files = {"file": (image.name, image.read_bytes())}
    if hole is not None:
        files["label"] = (hole.name, hole.read_bytes())
    data = {"params": json.dumps(params)}
    return requests.post(f"{address}/infer/{bundle}?output=image", files=files, data=data, timeout=900)


def sources(bundle, image, hole):
    key = "mask" if bundle == MASKS else "image"
    return {key: str(image), **({"hole": str(hole)} if bundle == RESTORED[2] else {})}


CASES = [(MASKS, "mask.nii.gz"), *((name, f"image{end}") for name in RESTORED for end in (".nii.gz", ".png", ".dcm"))]


@pytest.mark.parametrize(("bundle", "name"), [*CASES, (RESTORED[0], "image.jpg")])
def test_the_plain_app_answers_what_the_command_writes(plain, inputs, tmp_path, bundle, name):
    image, hole = inputs / name, inputs / name.replace("image", "hole")
    ending = ".png" if name.endswith(".jpg") else name[name.index(".") :]
    answer = asked(plain, bundle, image, hole if bundle == RESTORED[2] else None, result_extension=ending)
    assert answer.status_code == 200, answer.text
    path, _ = run_bundle(bundle, tmp_path / "run", **sources(bundle, image, hole))
    (tmp_path / f"served{ending}").write_bytes(answer.content)
    found, wanted = read_image(tmp_path / f"served{ending}"), read_image(path)
    np.testing.assert_array_equal(found.values, wanted.values)
    assert not list((BUNDLES / bundle).glob("output/*"))
    if ".nii" in ending:
        np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-4)


def test_the_plain_app_says_to_the_client_what_it_cannot_use(plain, inputs):
    answer = asked(plain, "med_vdm_cxr", inputs / "image.png")
    assert answer.status_code == 400
    assert "no image was expected, since images are drawn from noise alone here" in answer.json()["detail"]
    answer = asked(plain, RESTORED[2], inputs / "image.png")
    assert answer.status_code == 400
    assert "the hole to be filled was expected as 'label'" in answer.json()["detail"]


@pytest.mark.parametrize(("bundle", "name"), CASES)
def test_our_app_answers_the_file_that_the_command_writes(own, inputs, tmp_path, bundle, name):
    image, hole = inputs / name, inputs / name.replace("image", "hole")
    settings = {"seed": 3, "num_inference_steps": 2}
    ending, content, record = generate(
        own, bundle, image, hole if bundle == RESTORED[2] else None, **{k: str(v) for k, v in settings.items()}
    )
    path, wanted = run_bundle(bundle, tmp_path / "run", **sources(bundle, image, hole), **settings)
    (tmp_path / f"served{ending}").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / f"served{ending}").values, read_image(path).values)
    names = {"mask", "image", "hole", "outputs"}  # of temporary files on the server
    assert {k: v for k, v in record.items() if k not in names} == {k: v for k, v in wanted.items() if k not in names}
    asked_for = record.get("set_seed", record["seed"])  # each mask has a seed of its own, mixed from the run's
    assert (record["synthetic"], asked_for, record["steps"]) == (True, 3, 2)
    if ending == ".nii.gz":
        assert b"synthetic med" in bytes(nib.load(path).header["descrip"])


def test_our_app_gives_a_series(own, inputs, tmp_path):
    ending, content, _ = generate(own, MASKS, inputs / "mask.nii.gz", num_inference_steps=2, output_format="dicom")
    assert ending == ".zip"
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path / "series")
    path, _ = run_bundle(MASKS, tmp_path / "run", mask=str(inputs / "mask.nii.gz"), num_inference_steps=2)
    found, wanted = (
        nib.as_closest_canonical(nib.Nifti1Image(i.values[0], i.affine))
        for i in (read_image(tmp_path / "series"), read_image(path))
    )
    np.testing.assert_array_equal(found.get_fdata(), wanted.get_fdata())


@pytest.mark.parametrize(
    ("bundle", "settings", "said"),
    [
        (RESTORED[2], {}, "label: the hole to be filled was expected"),
        (RESTORED[0], {"seed": "$print(1)"}, "seed: a number such as 0 was expected"),
        (RESTORED[0], {"num_inference_steps": 0}, "num_inference_steps"),
        (RESTORED[0], {"model_filename": "../../x.pt"}, "model_filename: one of"),
        (MASKS, {}, "a 3D volume was expected"),
        ("med_vdm_cxr", {}, "draws images from noise alone"),
    ],
)
def test_our_app_says_what_is_wrong(own, inputs, bundle, settings, said):
    with pytest.raises(RuntimeError, match=r"^400: ") as caught:
        generate(own, bundle, inputs / "image.png", **settings)
    assert said in str(caught.value)


def test_our_app_reads_the_datastore_and_what_is_sent_and_no_other_file(own, inputs, stored):
    image, hole = inputs / "image.png", inputs / "hole.png"
    stored("known", image)

    def asked_for(where="", files=None, **params):
        data = {"params": json.dumps({"num_inference_steps": 1, **params})}
        return requests.post(f"{own}/infer/{RESTORED[2]}{where}", files=files, data=data, timeout=900)

    sent = {"label": (hole.name, hole.read_bytes())}
    assert asked_for("?image=known", sent).status_code == 200
    both = {**sent, "file": (image.name, image.read_bytes())}
    others = [(f"?image={image}", sent, {}), ("?image=unknown", sent, {}), ("?image=..", sent, {})]
    others += [("", both, {"image": str(image)}), ("", both, {"image": 3}), ("", both, {"label": str(hole)})]
    for where, files, params in others:
        answer = asked_for(where, files, **params)
        assert answer.status_code == 400, (where, params, answer.text)
        assert "a file that is sent, or one of the datastore, was expected, got" in answer.text


def trained(own, bundle, **settings):
    """Have a bundle trained on the datastore; the status when it has ended, and its last lines."""
    assert requests.post(f"{own}/train/{bundle}", json=settings, timeout=60).status_code == 200
    end = time.monotonic() + 900
    while (task := requests.get(f"{own}/train/", timeout=60).json())["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < end, task
        time.sleep(1)
    return task["status"], "\n".join(task["details"])


@pytest.mark.parametrize("bundle", [MASKS, *RESTORED[:2]])
def test_a_training_is_served_beside_the_shipped_weights(own, copies, inputs, stored, tmp_path, bundle):
    models, name = copies / bundle / "models", "mask.nii.gz" if bundle == MASKS else "image.png"
    settings = {"max_epochs": 1, "publish_as": "mine"}
    if bundle == MASKS:
        for label in sorted((write_dataset(tmp_path, 5) / "labels").iterdir()):
            stored(stem_of(label), tmp_path / "images" / label.name, label)
        stored("without_label", inputs / name)
    else:
        for number in range(6):
            Image.fromarray(grey((40, 48), seed=number)).save(tmp_path / f"{number}.png")
            stored(f"case_{number}", tmp_path / f"{number}.png")
            if number == 1:
                status, said = trained(own, bundle, **settings)
                assert (status, "there are only 2 subjects" in said) == ("ERROR", True)
    shipped = {path.name: sha256_of(path) for path in models.iterdir()}
    status, said = trained(own, bundle, **settings)
    assert status == "DONE", said
    offered = requests.get(f"{own}/info/", timeout=60).json()["models"][bundle]["config"]["model_filename"]
    assert offered == ["model.pt", "label_mine.pt"]
    assert {path.name for path in models.iterdir()} == {*shipped, "label_mine.pt", "label_mine.json"}
    assert {name: sha256_of(models / name) for name in shipped} == shipped

    answers = [generate(own, bundle, inputs / name, num_inference_steps=1, model_filename=one) for one in offered]
    assert [record["weights_sha256"] for *_, record in answers] == [sha256_of(models / one) for one in offered]
    assert answers[0][1] != answers[1][1]
    status, said = trained(own, bundle, **settings)
    assert status == "ERROR"
    assert "label_mine is there already; another name was expected" in said


def test_parallel_requests_get_what_each_asked_for(own, inputs):
    def one(seed):
        return generate(own, RESTORED[0], inputs / "image.png", seed=seed % 3, num_inference_steps=1)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    assert [record["seed"] for _, _, record in answers] == [seed % 3 for seed in range(20)]
    assert len({content for _, content, _ in answers}) == 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_shows_the_result(own, inputs):
    playwright = pytest.importorskip("playwright.sync_api")
    address = (REPOSITORY / "docs" / "examples" / "label" / "page.html").as_uri()
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{address}?server={own}")
        for bundle, name, size in ((MASKS, "mask.nii.gz", [17, 22]), (RESTORED[0], "image.png", [48, 40])):
            page.select_option("#model", bundle, timeout=60_000)
            page.set_input_files("#file", str(inputs / name))
            page.fill("[name=num_inference_steps]", "1")
            page.click("button")
            page.wait_for_function("!document.getElementById('state').value", timeout=300_000)
            assert page.inner_text("#error") == ""
            assert page.evaluate("[document.all.image.width, document.all.image.height]") == size
            shown = page.evaluate(
                "[...document.all.image.getContext('2d').getImageData(0, 0, 17, 22).data].filter((v, i) => i % 4 == 0)"
            )
            assert len(set(shown)) > 10
            assert '"synthetic": true' in page.inner_text("#record")
        page.select_option("#model", RESTORED[2])
        page.click("button")
        page.wait_for_function("document.getElementById('error').textContent", timeout=60_000)
        assert "the hole to be filled" in page.inner_text("#error")
        browser.close()
