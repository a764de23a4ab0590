"""A bundle's configs in use: items for other configs, and a bundle opened from Python on images in memory."""

from __future__ import annotations

import contextlib
import copy
import difflib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import convert_to_tensor
from torch import Tensor

from ..data.image_file import AS_SHOWN
from .record import recall

_OF_INFERENCE = ("checkpointloader", "network", "inferer", "preprocessing", "postprocessing", "evaluator")
_WHEN_OPENED = ("weights", "run_dir", "network_def", "precision")  # what the network and its weights come from


def from_config(
    item: str,
    given: Mapping[str, Any],
    **arguments: Any,
) -> Any:
    """
    Build an item of another config of a bundle, so that train.json need not repeat what inference.json says.

    MONAI's macro ``%file::id`` takes paths relative to the working folder and fails from any other.

    Args:
        item: file in the bundle's ``configs`` folder and id of the item in it, e.g. "inference.json::network_def";
            with commas, later files over earlier ones.
        given: top-level values that replace those of the file: ``bundle_root``, and what differs, e.g. ``labels``.
        arguments: of the item itself that differ, e.g. ``use_checkpointing=True``; one by one, so that an overlay's
            ``network_def#use_checkpointing`` means the same in both configs.

    Returns:
        The item, instantiated or evaluated.

    Raises:
        FileNotFoundError: when there is no such file.
        KeyError: when the file has no such item, or ``given`` no ``bundle_root``.
    """
    parser, id = item_parser(item, given, **arguments)
    return parser.get_parsed_content(id)


def item_parser(item: str, given: Mapping[str, Any], **arguments: Any) -> tuple[ConfigParser, str]:
    """The parser of another config and the id of the item in it, with everything set as ``from_config`` takes it."""
    files, _, id = item.partition("::")
    paths = [Path(given["bundle_root"], "configs", file) for file in files.split(",")]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"No config {path}.")
    parser = ConfigParser(ConfigParser.load_config_files([str(path) for path in paths]))
    parser.update(dict(given))
    parser.update({f"{id}::{name}": value for name, value in arguments.items()})
    if id not in parser:
        raise KeyError(f"{paths[-1]} has no item {id!r}.")
    return parser, id


def open_bundle(root: str | Path, *configs: str, **settings: Any) -> OpenedBundle:
    """
    Open a bundle to use it from Python: build its network, load its weights.

    Args:
        root: folder of the bundle, of the repository or unpacked from a zip.
        configs: names of files in its ``configs``, later ones over earlier ones, which together make an inference
            config; "inference.json" where none is given.
        settings: values of the config, named as on the command line, e.g. ``device="cpu"``.

    Returns:
        The opened bundle.

    Raises:
        FileNotFoundError: when there is no such config or there are no weights.
        ValueError: for configs of training or evaluation, and for an overlay without what it is laid over.
        KeyError: for a setting that the config does not have; names the nearest that it has.
    """
    return OpenedBundle(root, configs or ("inference.json",), settings)


class OpenedBundle:
    """
    What ``open_bundle`` returns: a bundle's inference config, run on images in memory.

    Preprocessing, inferer and postprocessing are those of the config, less the transforms that read and write files:
    a result is the one that the command line writes, before it is rounded to the file's type.

    Attributes:
        network: with its weights.
        inferer: called as ``inferer(inputs, network)``, with inputs as the preprocessing makes them.
        inputs: what ``generate`` needs: ("image",), ("image", "hole"), or () where images are drawn from noise alone.

    Example:
        >>> open_bundle("no_such_folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no_such_folder is no bundle: it has no configs/inference.json.
    """

    def __init__(self, root: str | Path, configs: Sequence[str], settings: Mapping[str, Any]) -> None:
        self.root = Path(root).resolve()
        for name in configs:
            if not (self.root / "configs" / name).is_file():
                raise FileNotFoundError(f"{root} is no bundle: it has no configs/{name}.")
        self._config = _inference_config([self.root / "configs" / name for name in configs])
        self._settings = {**settings, "bundle_root": str(self.root)}
        with self._own_code():
            parser = self._parser({})
            parser.get_parsed_content("checkpointloader")
            self.network = parser.get_parsed_content("network")
            self.inferer = parser.get_parsed_content("inferer")
            running = parser.get_parsed_content("running_network") if "running_network" in parser else self.network
            self._running = None if running is self.network else running  # on another runtime, checked once
            readers = _take_out(parser.get_parsed_content("preprocessing"), "Load")
        self.inputs = tuple(key for reader in readers for key in reader.keys)

    def generate(self, image: Any = None, count: int | None = None, **settings: Any) -> Tensor:
        """
        Generate one image under a condition, or several from noise alone.

        Args:
            image: the condition: a volume (1, X, Y, Z), in the place that its affine says if it is a ``MetaTensor``,
                or a picture (1, X, Y), x to the right and y down.
            count: number of images (of each class, or of ``class_name``), for bundles without ``inputs``.
            settings: further ``inputs`` (``hole``), and values of the config for this call, e.g. ``seed=1``; those that
                make the network (``weights``, ``run_dir``, ``network_def``, ``precision``) go to ``open_bundle``.

        Returns:
            The result on the grid of ``image``, with its affine, in the units that the bundle writes; or images
            (N, C, *spatial) in [0, 1], class by class.

        Raises:
            TypeError: for an input that is no array, such as the name of a file.
            ValueError: for a missing input, one too many, or one of another shape, and a setting of ``open_bundle``.
            KeyError: for an unknown setting.
        """
        if (image if not self.inputs else count) is not None:
            raise ValueError(
                f"{self.root.name} generates from {' and '.join(self.inputs) or 'noise alone: give count'}."
            )
        if not self.inputs:
            drawn = self.run(None, **settings, **({} if count is None else {"num_samples": count}))
            return torch.stack([convert_to_tensor(case["pred"]) for case in drawn])
        case = {"image": image, **{key: settings.pop(key) for key in self.inputs if key in settings}}
        pred = self.run([case], **settings)[0]["pred"]
        return pred[..., 0] if np.ndim(image) < pred.ndim else pred

    def run(self, cases: Sequence[Mapping[str, Any]] | None = None, **settings: Any) -> list[dict[str, Any]]:
        """
        Run cases, with all that the postprocessing makes of them: "pred", and with several samples "mean" and "std".

        Args:
            cases: the ``inputs`` of each, see ``generate``; None for those of the config, where there are no inputs.
            settings: see ``generate``, as for errors.
        """
        if isinstance(cases, Mapping) or not all(isinstance(case, Mapping) for case in cases or ()):
            raise TypeError(f"cases: a list of dictionaries of {' and '.join(self.inputs) or 'nothing'} was expected.")
        if late := [name for name in settings if re.split("#|::", name)[0] in _WHEN_OPENED]:
            raise ValueError(f"{' and '.join(late)}: open_bundle takes that, which makes the network.")
        results: list[dict[str, Any]] = []
        with self._own_code(), tempfile.TemporaryDirectory() as empty:
            parser = self._parser({**settings, "output_dir": empty})
            parser.update({"network_def": self.network, "network": self.network, "handlers": []})
            if self._running is not None and "runtime" not in settings:
                parser["running_network"] = self._running
            parser["postprocessing"] = {"_target_": "Compose", "transforms": [parser["postprocessing"]]}
            if self.inputs:
                parser["cases"] = [{key: _as_read(case.get(key), key) for key in self.inputs} for case in cases or ()]
            _take_out(parser.get_parsed_content("preprocessing"), "Load")
            _take_out(parser.get_parsed_content("postprocessing"), "Save")
            evaluator = parser.get_parsed_content("evaluator")
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: results.extend(engine.state.output))
            evaluator.run()
        return results

    def _parser(self, settings: Mapping[str, Any]) -> ConfigParser:
        """The config with settings, those of a call over those of the bundle."""
        every = {name: str(v) if isinstance(v, Path) else v for name, v in {**self._settings, **settings}.items()}
        for name in (re.split("#|::", name)[0] for name in every):
            if name not in self._config:
                near = difflib.get_close_matches(name, self._config, 1)
                raise KeyError(f"{self.root.name} has no setting {name!r}" + (f"; is it {near[0]!r}?" if near else "."))
        parser = ConfigParser(copy.deepcopy(self._config))
        parser.update(every)
        recall(parser, every)
        return parser

    @contextlib.contextmanager
    def _own_code(self) -> Iterator[None]:
        """Let ``scripts`` be this bundle's, not another's opened before, and errors be what they were raised as."""
        own, loaded = (self.root / "scripts").resolve(), sys.modules.get("scripts")
        if loaded is not None and own not in [Path(folder).resolve() for folder in loaded.__path__]:
            for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
                del sys.modules[name]
        sys.path.insert(0, str(self.root))
        try:
            yield
        except RuntimeError as error:  # MONAI's "Failed to instantiate" and "applying transform"
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise cause from None
        finally:
            sys.path.remove(str(self.root))


def _inference_config(paths: Sequence[Path]) -> dict[str, Any]:
    """Configs laid over one another; a ValueError where they do not make one to generate with."""
    try:
        config: dict[str, Any] = ConfigParser.load_config_files([str(path) for path in paths])
        lacking = [name for name in _OF_INFERENCE if name not in config]
    except KeyError as error:  # "a#b" of an overlay, and no "a"
        lacking = [str(error.args[0]).removeprefix("query key: ")]
    if lacking:
        given = " and ".join(repr(path.name) for path in paths)
        raise ValueError(
            f"{given}: a config to generate with was expected, it has no {lacking[0]!r}; overlays such as 'paper.json' "
            "come after 'inference.json', configs of training and evaluation are for the command line."
        )
    return config


def _take_out(compose: Compose, kind: str) -> list[Any]:
    """
    Remove transforms from ``compose``, in place and at every depth, and return them.

    Those of a class that is named ``kind`` ("Load" or "Save"), or inherits from one: a bundle brings its own classes.
    """
    found: list[Any] = []
    for transform in compose.transforms:
        if any(base.__name__.startswith(kind) for base in type(transform).__mro__):
            found.append(transform)
        elif isinstance(transform, Compose):
            found += _take_out(transform, kind)
    compose.transforms = tuple(transform for transform in compose.transforms if transform not in found)
    return found


def _as_read(image: Any, key: str) -> MetaTensor:
    """(1, X, Y, Z) float64 with its affine alone, as a file's reader gives it."""
    if image is None:
        raise ValueError(f"{key} is missing.")
    if not isinstance(image, (list, tuple)) and not hasattr(image, "__array__"):
        kind = type(image).__name__
        raise TypeError(f"{key}: an array or tensor was expected, got {kind}; monai.transforms.LoadImage reads files.")
    values = torch.as_tensor(image)
    if values.ndim not in (3, 4) or len(values) != 1:
        raise ValueError(f"{key}: (1, X, Y, Z) or (1, X, Y) was expected, got {tuple(values.shape)}.")
    affine = torch.as_tensor(AS_SHOWN if values.ndim == 3 else getattr(image, "affine", torch.eye(4))).double()
    plain = values.as_tensor() if isinstance(values, MetaTensor) else values
    meta = {"filename_or_obj": key}  # for messages
    return MetaTensor(plain.reshape(1, *plain.shape[1:3], -1).double(), affine=affine, meta=meta)
