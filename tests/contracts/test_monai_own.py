"""
MONAI's own tests, run with our classes in place of those that they stand for.

They are no part of MONAI's wheel: clone its repository, name the folder, and install ``parameterized``::

    MONAI_REPOSITORY=MONAI python -m pytest tests/contracts -m exhaustive
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MONAI = Path(os.environ.get("MONAI_REPOSITORY", "."))
FILES = (
    "networks/nets/test_diffusion_model_unet.py",
    "inferers/test_diffusion_inferer.py",
    "inferers/test_controlnet_inferers.py",
    "transforms/test_spacingd.py",
    "transforms/test_resize_with_pad_or_cropd.py",
    "data/test_cachedataset.py",
    "metrics/test_compute_regression_metrics.py",
    "metrics/test_compute_fid_metric.py",
    "handlers/test_handler_regression_metrics.py",
)
# The first downloads its weights; the second is a helper of MONAI's that pytest takes for a test.
OTHER = ("test_compatibility_with_monai_generative", "test_resampler_lazy")


@pytest.mark.exhaustive
@pytest.mark.skipif(not (MONAI / "tests" / FILES[0]).is_file(), reason="MONAI_REPOSITORY names no clone of MONAI")
@pytest.mark.skipif(find_spec("parameterized") is None, reason="parameterized is not installed")
def test_monais_own_tests_pass_with_our_classes():
    found = (str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found))}
    command = [
        sys.executable,
        "-P",  # the installed MONAI, not that of the clone
        "-m",
        "pytest",
        "-p",
        "replaced",
        "-q",
        "-W",
        "ignore",
        "-k",
        " and ".join(f"not {n}" for n in OTHER),
    ]
    files = [f"tests/{file}" for file in FILES]
    run = subprocess.run([*command, *files], cwd=MONAI, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None, run.stdout
    print(passed[0])
    assert int(passed[1]) >= 160, run.stdout
