"""Networks on other inference runtimes than PyTorch: exported once, checked against PyTorch on the first case."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import json
import logging
import platform
import warnings
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..utils.files import written_whole, written_whole_folder
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
FORMATS = ("onnx", "openvino")
_OPSET = 18
_KEPT = 4  # sizes that stay compiled
_NOT_IN_HASH = ("training", "precision", "memory_format", "use_checkpointing")

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
    _require(needs, f"runtime {runtime}", ", or --runtime torch")
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
        installed = [name for name in ("openvino", "onnxruntime") if all(map(_version, PACKAGES[name]))]
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
                    raise RuntimeError(f"runtime {runtime}: {reason}. Use --runtime torch.") from error
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
            tried = json.loads(known.read_text()) if known.is_file() else {}
            machine = f"{self._name(runtime)} {platform.node()} {torch.get_num_threads()}"
            if machine not in tried:
                output, tried[machine] = try_out(arrays, path=path, **self._options(runtime))
                _check(torch.from_numpy(output), expected, precision)
                with written_whole(known) as temporary:
                    temporary.write_text(json.dumps(tried, indent=1))
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
        fixed = _path(self.folder, self._digest, sides)
        if fixed.is_file():
            return fixed
        free = _path(self.folder, self._digest, ())
        return free if free.is_file() else export(self.module, self.folder, ["onnx"], inputs=inputs)[0]

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
        return f"{runtime} {_version(_packages(runtime, device)[0])}"

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


def export(
    network: nn.Module,
    folder: str | Path,
    formats: Sequence[str] = FORMATS,
    sizes: Iterable[Sequence[int]] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
) -> list[Path]:
    """
    Write a network as ONNX and for OpenVINO, in fp32; files that are there already are left as they are.

    Args:
        network: the network, which is not changed; of a ``VariationalDiffusionModel``, the score network is written.
        folder: of the files, whose names begin with a hash of weights and structure.
        formats: "onnx" (a file) and "openvino" (a folder with network.xml and network.bin).
        sizes: sides of the images, for runtimes that need them fixed; None for one file that takes every size. The
            number of images stays free.
        inputs: of a call, by name, the image first; None for the network's ``example_inputs``.

    Returns:
        The paths.

    Raises:
        ValueError: for an unknown format, or a network without ``example_inputs``.
        ImportError: when a package is missing.
        OSError: when ``folder`` cannot be written.
    """
    network = getattr(network, "score", network)
    if unknown := [one for one in formats if one not in FORMATS]:
        raise ValueError(f"formats must be of {FORMATS}, got {unknown}.")
    _require(["onnx", *(["openvino"] if "openvino" in formats else [])], "An export")
    if hasattr(network, "example_inputs"):
        inputs = network.example_inputs()  # type: ignore[operator]  # smaller than those of a call
    if inputs is None:
        raise ValueError(f"{type(network).__name__} has no example_inputs to be exported by.")
    name, made = digest(network), []
    for size in [None] if sizes is None else sizes:
        path = _path(Path(folder), name, size or ())
        if not path.is_file():
            _write_onnx(network, path, inputs, size)
        made += [path] if "onnx" in formats else []
        if "openvino" in formats:
            made.append(path.with_name(f"{path.stem}_openvino"))
            if not made[-1].is_dir():
                _write_openvino(path, made[-1])
    return made


def digest(network: nn.Module) -> str:
    """
    16 hexadecimal digits that stand for what a network computes in fp32: its parts, their options, their weights.

    >>> digest(nn.Conv2d(1, 1, 1)) == digest(nn.Conv2d(1, 1, 1)), len(digest(nn.Identity()))
    (False, 16)
    """
    found = hashlib.sha256(f"{type(network).__name__} {network!r} {torch.__version__}".encode())
    for name, part in network.named_modules():
        options = {key: value for key, value in vars(part).items() if isinstance(value, str | int | float | tuple)}
        found.update(f"{name} {sorted((k, v) for k, v in options.items() if k not in _NOT_IN_HASH)}".encode())
    for name, value in network.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _path(folder: Path, name: str, sides: Sequence[int]) -> Path:
    return folder / ("_".join([name, *(["x".join(map(str, sides))] if len(sides) else [])]) + ".onnx")


def _write_onnx(network: nn.Module, path: Path, inputs: Mapping[str, Tensor], size: Sequence[int] | None) -> None:
    plain = copy.deepcopy(network).float().cpu().eval()
    for part in plain.modules():
        for option, plainest in (("precision", "fp32"), ("memory_format", "contiguous")):
            if hasattr(part, option):
                setattr(part, option, plainest)
    example: dict[str, Tensor] = {}
    free: dict[str, dict[int, str]] = {}
    for name, value in inputs.items():
        sides = [size[i] if size else side for i, side in enumerate(value.shape[2:])]
        # one image: what a trace takes from their number for a constant then fits any
        example[name] = torch.zeros(1, *value.shape[1:2], *sides, dtype=value.dtype)
        free[name] = {0: "N", **({} if size else {axis + 2: f"side{axis}" for axis in range(len(sides))})}
    logger.info("Exporting the network to %s.", path)
    with torch.no_grad(), warnings.catch_warnings(), written_whole(path) as temporary:
        warnings.simplefilter("ignore")  # of branches, which check the input, and of the exporter's age
        torch.onnx.export(
            plain,
            (),
            str(temporary),
            kwargs=example,
            input_names=list(example),
            output_names=["output"],
            dynamic_axes={**free, "output": next(iter(free.values()))},
            opset_version=_OPSET,
            dynamo=False,
        )


def _write_openvino(source: Path, folder: Path) -> None:
    import openvino

    with written_whole_folder(folder) as temporary:
        model = openvino.Core().read_model(source)
        openvino.save_model(model, temporary / "network.xml", compress_to_fp16=False)


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


def _require(packages: Iterable[str], what: str, otherwise: str = "") -> None:
    if missing := [name for name in packages if _version(name) is None]:
        raise ImportError(f"{what} needs {' and '.join(missing)}: pip install -r requirements-runtimes.txt{otherwise}.")


@functools.cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
