"""A zoo of one's own: MONAI downloads a bundle from it by name and version, runs it, and pushes it to a hub."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from common.bundle.release import release
from common.bundle.zoo import ZooHandler, commit_of, releases, serve
from common.studies.synthetic import synthetic_record
from tests.fixtures import REPOSITORY

NAME = "dm_brain_tumor_mri"
OPTIONAL = ("torchvision", "lpips", "pytorch_fid", "lime", "pydicom", "highdicom", "itk")
# A user's process, with what requirements.txt brings alone.
SCRIPT = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL}))
from monai.bundle import download, push_to_hf_hub, run
name, version, few = {NAME!r}, sys.argv[1], dict(num_samples=1, class_name="glioma", num_inference_steps=2)
download(name=name, version=version, bundle_dir=".", progress=False)
run(config_file=name + "/configs/inference.json", output_dir="out", **few)
push_to_hf_hub(repo="me/" + name, name=name, bundle_dir=".", version="9.0.0", token="secret")
download(name=name, version="9.0.0", source="huggingface_hub", repo="me/" + name, bundle_dir="again", progress=False)
"""


class Hub(ZooHandler):
    """Takes what is pushed, as the Hugging Face Hub does, and makes a release of it when it is tagged."""

    def do_POST(self):
        body, host = self.rfile.read(int(self.headers.get("Content-Length", 0))), f"http://{self.headers['Host']}"
        assert self.headers["Authorization"] == "Bearer secret"
        what = self.path.partition("?")[0].split("/")
        answer = {"url": f"{host}/me/{NAME}", "commitUrl": f"{host}/me/{NAME}/commit/{'0' * 40}", "commitOid": "0" * 40}
        if "preupload" in what:
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            answer["files"] = [{"path": file["path"], **plain} for file in json.loads(body)["files"]]
        elif "commit" in what:
            lines = [json.loads(line) for line in body.splitlines()]
            self.server.pushed = {line["value"]["path"]: line["value"] for line in lines if line["key"] == "file"}
        elif "tag" in what:
            target = Path(self.directory) / f"{NAME}_v{json.loads(body)['tag']}.zip"
            with zipfile.ZipFile(target, "w") as archive:
                for path, file in self.server.pushed.items():
                    archive.writestr(f"{NAME}/{path}", base64.b64decode(file["content"]))
        self.wfile.write(self._content(json.dumps(answer).encode(), {"Content-Type": "application/json"}).read())

    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path):
    """Starts a server in a thread; it is closed at the end."""
    running = []

    def start(server):
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_monai_downloads_runs_and_pushes_by_name_and_version(served, tmp_path):
    (tmp_path / "empty").mkdir()
    release([REPOSITORY / "bundles" / NAME], tmp_path / "zoo")
    (packed,) = (tmp_path / "zoo").glob("*.zip")
    version = packed.stem.rpartition("_v")[2]
    address = served(ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, directory=str(tmp_path / "zoo"))))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, version]
    run = subprocess.run(
        command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert synthetic_record(tmp_path / "empty" / "out" / "glioma" / "glioma_00000.png")["version"] == version
    with zipfile.ZipFile(packed) as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for folder in (tmp_path / "empty" / NAME, tmp_path / "empty" / "again" / NAME):
        assert {name: (folder / name).read_bytes() for name in files} == files
    card = (tmp_path / "empty" / "again" / NAME / "README.md").read_text()
    assert card.startswith(
        "---\ntags:\n- monai\n- medical\nlibrary_name: monai\nlicense: apache-2.0\n---\n# Model Overview"
    )


def test_the_newest_version_is_served_unless_one_is_asked_for(served, tmp_path):
    with pytest.raises(FileNotFoundError, match="make release writes them"):
        serve(tmp_path)
    for version in ("0.9.0", "0.10.0"):
        with zipfile.ZipFile(tmp_path / f"med_vdm_cxr_v{version}.zip", "w") as archive:
            archive.writestr("med_vdm_cxr/LICENSE", version)
    packed = releases(tmp_path, "med_vdm_cxr")
    assert list(packed) == ["0.9.0", "0.10.0"]
    assert releases(tmp_path, "med") == {}
    address = served(serve(tmp_path))

    def get(path):
        with urllib.request.urlopen(f"{address}/{path}") as answer:
            return answer.read()

    for version, expected in (("main", "0.10.0"), ("0.9.0", "0.9.0"), (commit_of(packed["0.9.0"]), "0.9.0")):
        assert get(f"me/med_vdm_cxr/resolve/{version}/LICENSE") == expected.encode()
        found = json.loads(get(f"api/models/me/med_vdm_cxr/revision/{version}"))
        assert found["sha"] == commit_of(packed[expected])
    tags = json.loads(get("api/models/me/med_vdm_cxr/refs"))["tags"]
    assert [tag["name"] for tag in tags] == ["0.9.0", "0.10.0"]
    assert zipfile.ZipFile(io.BytesIO(get("med_vdm_cxr_v0.9.0.zip"))).namelist() == ["med_vdm_cxr/LICENSE"]
    for path, code in (
        ("api/models/me/med_vdm_cxr/revision/1.0.0", "RevisionNotFound"),
        ("api/models/me/other/revision/1.0.0", "RepoNotFound"),
        ("me/med_vdm_cxr/resolve/main/none", "EntryNotFound"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(path)
        assert caught.value.headers["X-Error-Code"] == code
