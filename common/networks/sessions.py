"""
Exported networks run by ONNX Runtime or OpenVINO.

This file imports neither PyTorch nor the rest of the package: ``try_out`` runs it as a program, so that a runtime that
crashes on this machine takes a process of its own with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
_TRIES = 2


def open_session(
    runtime: str, path: str | Path, shapes: Mapping[str, tuple[int, ...]], precision: str = "fp32", threads: int = 1
) -> Callable[[Arrays], np.ndarray]:
    """
    A network from a file, ready to run.

    Args:
        runtime: "openvino", "onnxruntime" (on the CPU), "onnxruntime-cuda" or "tensorrt" (by ONNX Runtime).
        path: ONNX file with one output.
        shapes: of the inputs by name; OpenVINO compiles for these alone, the others take any.
        precision: "fp32"; "bf16" for OpenVINO, "fp16" for TensorRT.
        threads: on the CPU.

    Returns:
        Called with the inputs by name; returns the output.
    """
    open_it = _openvino if runtime == "openvino" else _onnxruntime
    return open_it(runtime, str(path), shapes, precision, threads)


def _openvino(runtime: str, path: str, shapes: Mapping[str, Any], precision: str, threads: int) -> Any:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(shape) for name, shape in shapes.items()})
    # without the hint, OpenVINO computes in bf16 wherever the CPU has it
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint})
    return lambda inputs: compiled(dict(inputs))[0].copy()  # the next call writes where this result stands


def _onnxruntime(runtime: str, path: str, shapes: Mapping[str, Any], precision: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers: list[Any] = ["CPUExecutionProvider"]
    if runtime != "onnxruntime":
        providers.insert(0, "CUDAExecutionProvider")
    if runtime == "tensorrt":
        providers.insert(0, ("TensorrtExecutionProvider", {"trt_fp16_enable": precision == "fp16"}))
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise RuntimeError(f"ONNX Runtime has no {wanted} here; it would compute by {session.get_providers()[0]}.")
    return lambda inputs: session.run(None, dict(inputs))[0]


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What ``run`` returns, and the seconds of the fastest of two calls after a first one."""
    result, seconds = run(), []
    for _ in range(_TRIES):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def try_out(inputs: Arrays, **session: Any) -> tuple[np.ndarray, float]:
    """
    Open a session in a process of its own and run it.

    Args:
        inputs: by name.
        session: ``runtime``, ``path``, ``precision`` and ``threads`` of ``open_session``.

    Returns:
        The output, and the seconds of a run.

    Raises:
        RuntimeError: when the process fails or crashes; says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "inputs.npz"), **inputs)  # type: ignore[arg-type]
        given = json.dumps({**session, "path": str(session["path"])})
        child = subprocess.run([sys.executable, __file__, folder, given], capture_output=True, text=True, check=False)
        if child.returncode < 0:
            raise RuntimeError(f"it crashes on this machine (signal {-child.returncode})")
        if child.returncode:
            raise RuntimeError((child.stderr.strip() or f"it ends with status {child.returncode}").splitlines()[-1])
        return np.load(Path(folder, "output.npy")), float(child.stdout.split()[-1])


def main(folder: str, given: str) -> None:
    """What the process of ``try_out`` does."""
    with np.load(Path(folder, "inputs.npz")) as file:
        inputs = {name: file[name] for name in file.files}
    run = open_session(**json.loads(given), shapes={name: value.shape for name, value in inputs.items()})
    output, seconds = timed(lambda: run(inputs))
    np.save(Path(folder, "output.npy"), output)
    print(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
