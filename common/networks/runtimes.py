"""Networks on other inference runtimes than PyTorch: exported once, checked against PyTorch on the first case."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import json
import logging
import platform
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..utils import packages
from ..utils.files import write_json
from .onnx_export import HOW, digest, export, is_intact, onnx_path
from .sessions import open_session, timed, try_out

PACKAGES = {
    "torch": ("torch",),
    "openvino": ("openvino", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "tensorrt": ("onnxruntime-gpu", "onnx"),
    "compile": ("torch",),
}
"""What each runtime needs; onnx writes the file that they read. "compile" is ``torch.compile``."""
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
"""How much an output may differ from PyTorch's in the same precision: RMS of the difference over its deviation."""
_KEPT = 4  # sizes that stay compiled

logger = logging.getLogger(__name__)


def check_runtime(runtime: str, device: torch.device | str = "cpu") -> str | None:
    """
    Refuse a runtime that cannot run here, before any work.

    Args:
        runtime: "torch", "openvino", "onnxruntime", "tensorrt", "compile", or "auto".
        device: where the network runs.

    Returns:
        What a record says of the choice: None for "torch".

    Raises:
        ValueError: for an unknown runtime, or one that does not run on ``device``.
        ImportError: when a package is missing; names it.

    >>> check_runtime("torch"), check_runtime("auto")
    (None, 'auto')
    """
    if runtime not in (*PACKAGES, "auto"):
        raise ValueError(f"runtime must be one of {[*PACKAGES, 'auto']}, got {runtime!r}.")
    needed = {"openvino": "cpu", "tensorrt": "cuda"}.get(runtime)
    if needed not in (None, torch.device(device).type):
        raise ValueError(f"runtime {runtime} runs on {needed} alone, the device is {torch.device(device)}.")
    needs = _packages(runtime, device) if runtime != "auto" else ()
    packages.require(needs, f"runtime {runtime}", f"{HOW}, or --runtime torch")
    return None if runtime == "torch" else runtime


def _packages(runtime: str, device: torch.device | str) -> tuple[str, ...]:
    """What a runtime needs; ONNX Runtime has a package of its own for GPUs."""
    on_gpu = runtime == "onnxruntime" and torch.device(device).type == "cuda"
    return PACKAGES["tensorrt" if on_gpu else runtime]


def on_runtime(
    network: nn.Module, runtime: str, folder: str | Path, record: MutableMapping[str, Any] | None = None
) -> nn.Module:
    """
    A network as an inferer calls it, computed by a runtime.

    Args:
        network: on its device; of a ``VariationalDiffusionModel``, the score network alone changes its runtime.
        runtime: see ``check_runtime``; "auto" is the fastest on this machine of those that are installed and agree with
            PyTorch, on a GPU PyTorch itself.
        folder: for exported networks.
        record: takes what ran: runtime with version, precision, difference from PyTorch.

    Returns:
        ``network`` itself for "torch", else a ``RuntimeNetwork`` or a model with one in it.

    Raises:
        ValueError, ImportError: see ``check_runtime``.
    """
    record = {} if record is None else record
    record["runtime"] = f"torch {torch.__version__}"
    if runtime == "torch":
        return network
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    check_runtime(runtime, device)
    if runtime == "auto" and device.type != "cpu":
        return network
    if hasattr(network, "eps_hat"):
        model = copy.copy(network)
        model._modules = dict(network._modules)
        model.score = RuntimeNetwork(network.score, runtime, folder, record)  # type: ignore[arg-type]
        return model
    return RuntimeNetwork(network, runtime, folder, record)


class RuntimeNetwork(nn.Module):
    """
    A network that PyTorch computes once and another runtime from then on, if both agree.

    The first call decides: a runtime is tried in a process of its own (some crash on some CPUs), then here; its output
    is compared with PyTorch's. Further shapes are compiled as they come.

    Args:
        module: the network, called with tensors.
        runtime: see ``on_runtime``, as ``folder`` and ``record``.

    >>> network = RuntimeNetwork(nn.Identity(), "auto", "unused")
    >>> network.candidates = ["torch"]
    >>> network(torch.ones(1)), network.record["runtime"].split()[0]
    (tensor([1.]), 'torch')
    """

    def __init__(
        self,
        module: nn.Module,
        runtime: str,
        folder: str | Path,
        record: MutableMapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.runtime = runtime
        self.folder = Path(folder)
        self.record = {} if record is None else record
        installed = [name for name in ("openvino", "onnxruntime") if all(map(packages.version_of, PACKAGES[name]))]
        self.candidates = ["torch", *installed] if runtime == "auto" else [runtime]
        self.chosen: str | None = None
        self._session = functools.lru_cache(maxsize=_KEPT)(self._open)
        self.train(module.training)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """As ``module``; its arguments are tensors or None."""
        bound = inspect.signature(self.module.forward).bind(*args, **kwargs).arguments
        inputs = {name: value for name, value in bound.items() if value is not None}
        if not all(isinstance(value, Tensor) for value in inputs.values()):
            raise ValueError(f"{type(self.module).__name__} takes more than tensors: run it with --runtime torch.")
        if self.chosen is None:
            return self._choose(inputs)
        return self._compute(self.chosen, inputs)

    def _choose(self, inputs: dict[str, Tensor]) -> Tensor:
        """PyTorch's output; afterwards ``chosen`` is set."""
        expected, seconds = timed(lambda: self.module(**inputs)) if self.runtime == "auto" else (None, 0.0)
        expected = self.module(**inputs) if expected is None else expected
        found = {"torch": (seconds, 0.0)} if "torch" in self.candidates else {}
        for runtime in self.candidates:
            if runtime == "torch":
                continue
            try:
                found[runtime] = self._tried(runtime, inputs, expected)
            except Exception as error:  # of as many types as there are runtimes
                reason = str(error).strip().split("\n")[0]
                if self.runtime != "auto":
                    other = "--export_dir with a folder that can be written, or " * isinstance(error, OSError)
                    raise RuntimeError(f"runtime {runtime}: {reason}. Use {other}--runtime torch.") from error
                logger.warning("Not run by %s: %s.", runtime, reason)
        self.chosen = min(found, key=lambda name: found[name][0])
        self._tell(found)
        return expected

    def _tell(self, found: Mapping[str, tuple[float, float]]) -> None:
        runtime = str(self.chosen)
        self.record["runtime"] = self._name(runtime)
        if runtime == "torch":
            return
        self.record.update({"precision": self._precision(runtime), "difference": float(f"{found[runtime][1]:.1e}")})
        faster = f", {found['torch'][0] / found[runtime][0]:.1f} times as fast as PyTorch" if "torch" in found else ""
        about = self.record
        logger.info("Run by %s: %.0e from PyTorch%s.", about["runtime"], about["difference"], faster)

    def _tried(self, runtime: str, inputs: dict[str, Tensor], expected: Tensor) -> tuple[float, float]:
        """Seconds of a call (as measured once on this machine), and the difference from PyTorch in its precision."""
        seconds, precision = 0.0, self._precision(runtime)
        if precision != self._running():
            expected = self._in(precision, inputs)
        if runtime != "compile":
            path, arrays = self._file(inputs), _arrays(inputs)
            known = path.with_name(f"{path.stem}_tried.json")
            tried = _times(known)
            machine = f"{self._name(runtime)} {platform.node()} {torch.get_num_threads()}"
            if machine not in tried:
                output, tried[machine] = try_out(arrays, path=path, **self._options(runtime))
                _check(torch.from_numpy(output), expected, precision)
                with contextlib.suppress(OSError):  # a file that lies in a read-only folder is tried in every run
                    write_json(known, tried, 1)
            seconds = tried[machine]
        return seconds, _check(self._compute(runtime, inputs), expected, precision)

    def _compute(self, runtime: str, inputs: dict[str, Tensor]) -> Tensor:
        if runtime == "torch":
            return self.module(**inputs)
        if runtime == "compile":
            return self._session(runtime, ())(**inputs)
        arrays = _arrays(inputs)
        run = self._session(runtime, tuple((name, value.shape) for name, value in arrays.items()))
        first = next(iter(inputs.values()))
        return torch.from_numpy(run(arrays)).to(first)

    def _open(self, runtime: str, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Any:
        if runtime == "compile":
            return torch.compile(self.module)
        example = {name: torch.empty(shape) for name, shape in shapes}
        return open_session(path=self._file(example), shapes=dict(shapes), **self._options(runtime))

    def _file(self, inputs: Mapping[str, Tensor]) -> Path:
        """The exported network: for these sides where there is one, else for any, which is made if need be."""
        sides = next(iter(inputs.values())).shape[2:]
        size = sides if onnx_path(self.folder, self._digest, sides).is_file() else None
        path = onnx_path(self.folder, self._digest, size or ())
        return path if is_intact(path) else export(self.module, self.folder, ["onnx"], size, inputs)[0]

    @functools.cached_property
    def _digest(self) -> str:
        return digest(self.module)

    def _options(self, runtime: str) -> dict[str, Any]:
        cuda = runtime == "onnxruntime" and next(self.module.parameters()).is_cuda
        name = "onnxruntime-cuda" if cuda else runtime
        return {"runtime": name, "precision": self._precision(runtime), "threads": torch.get_num_threads()}

    def _name(self, runtime: str) -> str:
        """With the version of its package."""
        device = next((one.device for one in self.module.parameters()), torch.device("cpu"))
        return f"{runtime} {packages.version_of(_packages(runtime, device)[0])}"

    def _in(self, precision: str, inputs: dict[str, Tensor]) -> Tensor:
        """PyTorch's output in another precision than that in which it runs here."""
        network: Any = self.module
        kept, network.precision = network.precision, precision
        try:
            return network(**inputs)
        finally:
            network.precision = kept

    def _running(self) -> str:
        """What PyTorch computes in."""
        return getattr(self.module, "running_precision", lambda: "fp32")()

    def _precision(self, runtime: str) -> str:
        running = self._running()
        can = {"openvino": ("bf16",), "tensorrt": ("fp16",), "compile": ("bf16", "fp16")}.get(runtime, ())
        return running if running in can else "fp32"


def _times(path: Path) -> dict[str, float]:
    """Seconds of a call by machine, as they are kept; none where they cannot be read."""
    try:
        return {str(name): float(seconds) for name, seconds in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _arrays(inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().contiguous().numpy() for name, value in inputs.items()}


def _check(output: Tensor, expected: Tensor, precision: str) -> float:
    """The difference of ``output`` from PyTorch's; a RuntimeError where it is too large."""
    wanted = expected.float().cpu()
    difference = float((output.float().cpu() - wanted).square().mean().sqrt() / wanted.std().clamp(min=1e-12))
    if not difference <= TOLERANCE[precision]:
        raise RuntimeError(
            f"its output differs from PyTorch's by {difference:.1e}, {TOLERANCE[precision]:g} is allowed"
        )
    return difference
