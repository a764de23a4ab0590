"""Networks as files for other runtimes: ONNX, and OpenVINO's own form."""

from __future__ import annotations

import copy
import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..utils import packages
from ..utils.files import sha256_of, write_text, written_whole, written_whole_folder

FORMATS = ("onnx", "openvino")
HOW = "pip install -r requirements-runtimes.txt"
"""How to get the packages."""
_OPSET = 18
_NOT_IN_HASH = ("training", "precision", "memory_format", "use_checkpointing")

logger = logging.getLogger(__name__)


def export(
    network: nn.Module,
    folder: str | Path,
    formats: str | Sequence[str] = FORMATS,
    sizes: Sequence[int] | Sequence[Sequence[int]] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
) -> list[Path]:
    """
    Write a network as ONNX and for OpenVINO, in fp32; files that are there already are left as they are.

    Args:
        network: the network, which is not changed; of a ``VariationalDiffusionModel``, the score network is written.
        folder: of the files, whose names begin with a hash of weights and structure.
        formats: "onnx" (a file) and "openvino" (a folder with network.xml and network.bin), or one of them.
        sizes: sides of the images, or a list of them, for runtimes that need them fixed; None for one file that takes
            every size. The number of images stays free.
        inputs: of a call, by name, the image first; None for the network's ``example_inputs``.

    Returns:
        The paths.

    Raises:
        ValueError: for an unknown format, or a network without ``example_inputs``.
        ImportError: when a package is missing.
        OSError: when ``folder`` cannot be written.
    """
    network = getattr(network, "score", network)
    formats = [formats] if isinstance(formats, str) else formats
    every: Any = [sizes] if sizes is None or (sizes and isinstance(sizes[0], int)) else sizes
    if unknown := [one for one in formats if one not in FORMATS]:
        raise ValueError(f"formats must be of {FORMATS}, got {unknown}.")
    packages.require(["onnx", *(["openvino"] if "openvino" in formats else [])], "An export", HOW)
    if hasattr(network, "example_inputs"):
        inputs = network.example_inputs()  # type: ignore[operator]  # smaller than those of a call
    if inputs is None:
        raise ValueError(f"{type(network).__name__} has no example_inputs to be exported by.")
    name, made = digest(network), []
    for size in every:
        path = onnx_path(Path(folder), name, size or ())
        if not is_intact(path):
            if path.is_file():
                logger.warning("%s is damaged or was altered; it is made again.", path)
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


def onnx_path(folder: Path, name: str, sides: Sequence[int]) -> Path:
    """The file of a network, ``name`` its ``digest``, for images of these sides; without sides, for all."""
    return folder / ("_".join([name, *(["x".join(map(str, sides))] if len(sides) else [])]) + ".onnx")


def is_intact(path: Path) -> bool:
    """Whether an exported network is there, and is what its checksum beside it says; one without a checksum passes."""
    if not path.is_file():
        return False
    try:
        wanted = path.with_suffix(".sha256").read_text(encoding="ascii").split()[0]
    except (OSError, ValueError, IndexError):
        return True
    return sha256_of(path) == wanted


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
        write_text(path.with_suffix(".sha256"), f"{sha256_of(temporary)}  {path.name}\n")


def _write_openvino(source: Path, folder: Path) -> None:
    import openvino

    with written_whole_folder(folder) as temporary:
        model = openvino.Core().read_model(source)
        openvino.save_model(model, temporary / "network.xml", compress_to_fp16=False)
