from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

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
