from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from tests.bundles.inference_runs import TINY, save_tiny_weights
from tests.fixtures import REPOSITORY, write_dataset

LIMIT = 600  # seconds; it takes less than one minute where both processes share one busy core


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed package")
def test_two_processes_train_resume_and_write_once(tmp_path):
    data = write_dataset(tmp_path / "data", 10)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "tests.bundles.dist_train", str(data), str(tmp_path), str(LIMIT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            code = process.wait(timeout=LIMIT + 60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = "none: it did not end"
    assert code == 0, f"exit status {code}\n{log.read_text()[-8000:]}"
    first, second = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2))
    assert first["whole"] == second["whole"], "the processes end with one network"
    assert first["resumed"] == first["whole"]
    assert second["resumed"] == second["whole"]
    assert not first["group_is_left"]
    assert not second["group_is_left"]
    assert first["iterations"] == 4, "8 cases, 2 processes, batch 2: 2 iterations an epoch"
    assert not set(first["cases"]) & set(second["cases"]), "each process has its own half of the data"
    once = {"CheckpointWriter", "ProgressLog", "TensorBoardStatsHandler", "ValidationHandler"}
    assert once <= set(first["handlers"])
    assert not once & set(second["handlers"])
    assert "ResumeTraining" in second["handlers"]
    written = sorted(path.name for path in (tmp_path / "parts").glob("*.pt"))
    assert written == ["checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt", "model.pt"]
    writers = {path.name.split(".")[-2] for path in (tmp_path / "parts" / "tensorboard").iterdir()}
    assert len(writers) == 1, "one process writes statistics"


def wait_until(condition):
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# one agent that is lost ends the workers of all; a new round begins with those that are there
AGENT = ["--rdzv_backend=c10d", "--rdzv_id=set", "--nnodes=1:2", "--nproc_per_node=1", "--max_restarts=9"]


@pytest.mark.exhaustive
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed package")
def test_a_set_of_two_agents_one_of_them_killed_and_brought_back_is_the_set_of_one_process(tmp_path):
    weights = save_tiny_weights(tmp_path / "model.pt")
    configs = [f"bundles/med_ddpm_3d/configs/{name}.json" for name in ("inference", "generate")]
    given = {"weights": weights, "count": 12, "num_inference_steps": 2, "check_quality": False, **TINY}
    run = ["-m", "monai.bundle", "run", "--config_file", str(configs)]
    run += [part for name, value in given.items() for part in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def start(launcher, folder):
        command = [sys.executable, *launcher, *run, "--output_dir", str(tmp_path / folder)]
        log = (tmp_path / "log.txt").open("a")
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    agent = ["-m", "torch.distributed.run", *AGENT, f"--rdzv_endpoint=127.0.0.1:{port}"]
    agents = [start(agent, "shared")]  # the first keeps the store of the rendezvous
    try:
        wait_until(lambda: listens(port))
        agents.append(start(agent, "shared"))
        wait_until(lambda: list((tmp_path / "shared").rglob("images/*.nii.gz")))
        os.killpg(agents[1].pid, signal.SIGKILL)
        agents[1].wait()
        agents[1] = start(agent, "shared")
        assert agents[0].wait(timeout=LIMIT) == 0, (tmp_path / "log.txt").read_text()[-8000:]
    finally:
        for one in agents:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
    assert start([], "alone").wait(timeout=LIMIT) == 0
    sets = [
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (tmp_path / "shared", tmp_path / "alone")
    ]
    assert len(list((tmp_path / "shared" / "images").glob("*.nii.gz"))) == 12
    assert sets[0] == sets[1]
