"""What ``monai.bundle run`` is given: its configs and arguments, and what is refused before anything is done."""

from __future__ import annotations

import difflib
import inspect
import json
import logging
import re
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from .arguments import as_texts, kinds_of, unlike
from .last_line import LastLine
from .record import recall

_COMMAND_LINE = "monai.bundle.__main__"
_MAIN_CONFIGS = tuple(
    f"{name}.json" for name in ("inference", "train", "evaluate", "classify", "fine_tune", "resume", "multi_gpu_train")
)
_READ_BY_CODE = ("imports", "bundle_root", "output_dir", "run_dir", "debug", "_meta_")
_GPU = re.compile(r"cuda(:\d+)?|\$torch\.device\(['\"]cuda(:\d+)?['\"]\)")
logger = logging.getLogger(__name__)
_given: list[str] = []  # config files of this process's command
_arguments: dict[str, Any] = {}  # and its other arguments


def command_line() -> None:
    """
    Make ``python -m monai.bundle run`` end a mistake in its message; elsewhere, as in Python or in tests, do nothing.

    Every config calls it in "initialize". It refuses arguments that no config knows, and from then on an error is
    printed as its message alone (``LastLine``). What the record of a run's weights says is taken over (``recall``), in
    Python too. Texts that the command line takes for numbers, such as ``--output_dir 20240501``, become texts again.

    Raises:
        ValueError: for an argument that no config file defines and nothing refers to; names the nearest known one.
        FileNotFoundError: for a ``run_dir`` that is not there.

    Example:
        >>> command_line()  # this is no run of monai.bundle
    """
    workflow = running_workflow()
    if workflow is None:
        return
    if getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "") != _COMMAND_LINE:
        recall(workflow.parser, changed_names(workflow))
        return
    LastLine.install(workflow.parser)
    given = changed_names(workflow)
    made = next((f for f in _frames() if "_args" in f and "config_file" in f), None)
    if made is not None:
        _given[:] = [made["config_file"]] if isinstance(made["config_file"], str) else made["config_file"]
        settings = set(inspect.signature(type(workflow).__init__).parameters)
        arguments = [name for name in made["_args"] if name not in settings]
        defined = ConfigParser.load_config_files(made["config_file"])
        check_arguments(arguments, defined, workflow.parser.get())
        check_configs(_given)
        items = [name for name in arguments if isinstance(defined.get(name), Mapping) and "_target_" in defined[name]]
        check_values({name: made["_args"][name] for name in arguments if name not in items})
        run_by = (workflow.init_id, workflow.run_id, workflow.final_id)
        for name in without_effect(arguments, workflow.parser.get(), run_by):
            logger.warning(f"--{name} has no effect: nothing that runs here reads it.")
        run_dir = made["_args"].get("run_dir")
        if isinstance(run_dir, str) and not run_dir.startswith("$") and not Path(run_dir).is_dir():
            raise FileNotFoundError(f"{run_dir}: no such folder; run_dir is the output_dir of a training.")
        _arguments.clear()
        _arguments.update({name: made["_args"][name] for name in arguments})
        given += arguments
    if texts := as_texts(workflow.parser.get()):
        workflow.parser.update(texts)
        workflow.parser.parse(reset=True)
    recall(workflow.parser, given)
    changed = changed_transforms(given_configs(), given_arguments(), Path(workflow.config_root_path))
    if changed and "provenance" in workflow.parser.get():
        workflow.parser.update({"provenance#changed_transforms": changed})
        workflow.parser.parse(reset=True)


def changed_transforms(files: Collection[str], arguments: Mapping[str, Any], of_bundle: Path) -> list[str]:
    """
    What a run's user changed in "preprocessing" and "postprocessing", of which no other entry of a record tells.

    Args:
        files: configs of the run; those of the bundle itself do not count.
        arguments: of the command line.
        of_bundle: folder of the bundle's configs.

    Returns:
        One text a change, sorted.

    Example:
        >>> changed_transforms([], {"seed": 1, "preprocessing#transforms#3#b_max": 2.0}, Path("configs"))
        ['preprocessing::transforms::3::b_max: 2.0']
    """
    own = [ConfigParser.load_config_file(file) for file in files if Path(file).resolve().parent != of_bundle.resolve()]
    changed = {name.lstrip("+").replace("#", "::"): value for file in (*own, arguments) for name, value in file.items()}
    names = sorted(name for name in changed if name.split("::")[0] in ("preprocessing", "postprocessing"))
    return [f"{name}: {json.dumps(changed[name])}" for name in names]


def given_configs() -> list[str]:
    """The config files that the running ``monai.bundle run`` was given, in their order; none where Python runs one."""
    return list(_given)


def given_arguments() -> dict[str, Any]:
    """The arguments that the running ``monai.bundle run`` was given besides its config files, by name."""
    return dict(_arguments)


def running_workflow() -> ConfigWorkflow | None:
    """MONAI's workflow whose config runs at this moment, if there is one."""
    return next((found for found in (f.get("self") for f in _frames()) if isinstance(found, ConfigWorkflow)), None)


def changed_names(workflow: ConfigWorkflow) -> list[str]:
    """Names whose values differ from those of the bundle's main configs: what an overlay or Python code has set."""
    paths = [Path(workflow.config_root_path) / name for name in _MAIN_CONFIGS]
    files = [ConfigParser.load_config_file(path) for path in paths if path.is_file()]
    config = workflow.parser.get()
    return [name for name, value in config.items() if all(name not in file or file[name] != value for file in files)]


def check_arguments(given: Collection[str], defined: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """
    Refuse arguments without effect, which MONAI takes in silence.

    Args:
        given: names on the command line, e.g. "seed", "network_def#channels".
        defined: what the config files define.
        config: the same with what was given: what it refers to (``@name``) may be given too.

    Raises:
        ValueError: names each and the nearest known one.

    Example:
        >>> check_arguments(["sed", "inferer#seed"], {"seed": 0, "inferer": {}}, {})
        Traceback (most recent call last):
        ValueError: --sed: no such argument; --seed was meant? Nothing was done.
    """
    known = {*defined, "debug", "_meta_", *re.findall(r"@(\w+)", repr(config))}
    wrong = []
    for name in given:
        start, *inner = re.split("#|::", name)
        if inner == ["batch_size"] and "batch_sampler" in (defined.get(start) or {}):
            wrong.append(f"--{name}: a sampler makes the batches; --batch_size was meant.")
        elif start not in known:
            near = difflib.get_close_matches(start, sorted(known), 1)
            meant = near[0] + name[len(start) :] if near else ""
            wrong.append(f"--{name}: no such argument" + (f"; --{meant} was meant?" if meant else "."))
    if wrong:
        raise ValueError(" ".join([*wrong, "Nothing was done."]))


def without_effect(given: Collection[str], config: Mapping[str, Any], run_by: Collection[str]) -> list[str]:
    """
    Arguments that a config knows and that nothing of a run refers to, such as those which an overlay has replaced.

    Args:
        given: names on the command line, e.g. "seed", "network_def#channels".
        config: with what was given.
        run_by: ids that are run, e.g. "initialize" and "run".

    Example:
        >>> without_effect(["mask", "count"], {"mask": 1, "count": 2, "run": "$print(@count)"}, ["run"])
        ['mask']
    """
    read, names = set(), [*run_by, "recall", *_READ_BY_CODE]
    while names:
        name = names.pop()
        if name not in read:
            read.add(name)
            names += re.findall(r"@(\w+)", repr(config.get(name)))
    return [name for name in given if re.split("#|::", name)[0] not in read]


def check_values(given: Mapping[str, Any]) -> None:
    """
    Refuse a GPU that is not there, an argument whose value was left out, which MONAI takes for True, and values of
    another kind: the text "false" would count as true.

    Args:
        given: name on the command line -> value.

    Raises:
        ValueError: names the first one and what was expected.

    Example:
        >>> check_values({"report": True, "mask": True})
        Traceback (most recent call last):
        ValueError: --mask: a value was expected after it (file). Nothing was done.
    """
    if _GPU.fullmatch(str(given.get("device"))) and not torch.cuda.is_available():
        raise ValueError("--device: cpu, or no such argument, was expected: PyTorch finds no GPU. Nothing was done.")
    for name, value in given.items():
        kinds = kinds_of(name)
        if value is True and kinds and "true or false" not in kinds:
            raise ValueError(f"--{name}: a value was expected after it ({' or '.join(kinds)}). Nothing was done.")
        if expected := unlike(name, value):
            raise ValueError(f"--{name}: {expected} was expected, got {value!r}. Nothing was done.")


def check_configs(files: Collection[str]) -> None:
    """
    Refuse values of another kind in config files, such as a user's overlay.

    Raises:
        ValueError: names the file, the value and what was expected.
    """
    for file in files:
        for name, value in ConfigParser.load_config_file(file).items():
            if expected := unlike(name, value):
                raise ValueError(f"{file}: {expected} was expected as {name}, got {value!r}. Nothing was done.")


def _frames() -> Iterator[Mapping[str, Any]]:
    for frame, _ in traceback.walk_stack(sys._getframe()):
        yield frame.f_locals
