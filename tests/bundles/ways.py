"""Starting a bundle as users do: ``python -m monai.bundle`` in a process and a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import forks

# MONAI's own: its notice that configs are code, and of a codec where pydicom is installed
_KNOWN = ("parsing config_file", "nvImageCodec")


def start(arguments: Sequence[Any], folder: Path) -> forks.Fork:
    """``python -m monai.bundle`` in ``folder``, with nothing of this repository on the path."""
    return forks.module("monai.bundle", arguments, folder, PYTHONPATH=None, OMP_NUM_THREADS="1")


def run_everywhere(
    ways: Mapping[str, tuple[Path, str | Path, Path]], out: Path, check: Callable[[Path, Path], None]
) -> None:
    """
    Run all ``ways`` at once; each must end well and warn of nothing.

    ``ways`` has the working folder, the config and the bundle of each; ``check`` looks at its output and bundle.
    """
    runs = {
        name: start(["run", "--config_file", config, "--output_dir", out / name], folder)
        for name, (folder, config, _) in ways.items()
    }
    for name, run in runs.items():
        status, said, told = run.wait()
        text = said + told
        assert status == 0, f"{name}: {text}"
        check(out / name, ways[name][2])
        alarming = [
            line for line in text.splitlines() if any(w in line for w in ("WARN", "Warning", "ERROR", "Traceback"))
        ]
        assert not [line for line in alarming if not any(known in line for known in _KNOWN)], text
