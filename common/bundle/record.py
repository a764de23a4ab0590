"""What a training run leaves beside its weights, so that nothing has to be said again: ``model.json``."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..utils.files import write_json
from .arguments import glossary

OF_THE_NETWORK = (
    *("labels", "optional_labels", "out_channels", "spacing", "classes", "channels", "conditional", "spatial_size"),
    *(
        "condition_channels",
        "image_channels",
        "b_max",
        "intensity_max",
        "prediction_type",
        "network_def",
        "noise_schedule",
        "noise_scale",
    ),
)
"""What a network was trained as, and what its sampler was set to: inference, evaluation and training take it over."""
OF_THE_SPLIT = ("dataset_dir", "subject_of", "group_by", "lookalike_by", "split", "fraction", "split_seed")
"""Which cases it was trained on: evaluation and further training take it over too."""

_OF_ONE_RUN = ("device", "output_dir", "run_dir", "overwrite", "weights", "initial_weights")
_BUILT = {"network_def": "scripts.networks.", "noise_schedule": "scripts.diffusion.schedules."}
_PLAIN = (str, int, float, bool, type(None))

logger = logging.getLogger(__name__)


def update_record(weights: str | Path, **entries: Any) -> Path:
    """
    Write ``entries`` into the record of a file of weights, and leave its others as they are.

    Args:
        weights: the file, which may be written later; the record has its name and the ending .json.
        entries: JSON-ready values.

    Returns:
        The path of the record.
    """
    return write_json(Path(weights).with_suffix(".json"), {**record_of(weights), **entries}, 1)


def record_of(weights: str | Path) -> dict[str, Any]:
    """What stands in the record of a file of weights; nothing where there is none."""
    path = Path(weights).with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def settings_of(parser: ConfigParser) -> dict[str, Any]:
    """
    The arguments of a config that runs, as plain data, and its network.

    Args:
        parser: of the config; what it has not evaluated yet is evaluated.

    Returns:
        Value by name; functions, transforms and other objects are left out. "network_def" and "noise_schedule" have the
        class and its plain arguments.
    """
    config = parser.get()
    names = [name for name in glossary()["arguments"] if name in config and name not in _OF_ONE_RUN]
    # what a component makes, such as the lists of a split, is made anew from the arguments
    names = [name for name in names if not (isinstance(config[name], Mapping) and "_target_" in config[name])]
    values = {name: _value(parser, name) for name in names}
    built = {name: _definition(parser, name) for name in _BUILT if name in config}
    return {name: value for name, value in {**values, **built}.items() if _is_plain(value)}


def recall(parser: ConfigParser, given: Collection[str]) -> None:
    """
    Set in a config what the record of its weights says, as its item "recall" asks.

    Args:
        parser: of a config, whose "recall" names the "weights" and what is taken over ("of"): "network", "split" or
            "all". Without it nothing is done.
        given: names that the user or an overlay has set, which stay as they are.

    Raises:
        ValueError: for a record that holds expressions; a run writes plain data alone.
    """
    if "recall" not in parser.get():
        return
    asked = parser.get_parsed_content("recall")
    wanted = {"network": OF_THE_NETWORK, "split": (*OF_THE_NETWORK, *OF_THE_SPLIT)}.get(asked["of"])
    path = Path(asked["weights"]).with_suffix(".json")
    settings = record_of(path).get("settings", {})
    kept = {name.replace("::", "#").split("#")[0] for name in given}
    if "group_by" in kept:  # another split, of images that may have no such column
        kept.add("lookalike_by")
    taken = {
        name: value
        for name, value in settings.items()
        if name in parser.get() and name not in kept and (wanted is None or name in wanted)
    }
    if wanted is None and parser.get("run_dir") and "output_dir" not in kept:
        taken["output_dir"] = str(parser.get("run_dir"))
    if not taken:
        return
    for name, value in taken.items():
        _check_plain(path, name, value)
    changed = sorted(name for name, value in taken.items() if not _is_here(parser, name, value))
    for name in _BUILT.keys() & taken.keys():
        taken[name] = _merged(parser.get(name), taken[name])
    if "bundle_root" in parser.get():  # looked for among the callers, which are others when it is asked again
        taken["bundle_root"] = parser.get_parsed_content("bundle_root")
    parser.update(taken)
    parser.parse(reset=True)
    if changed:
        logger.info(f"Taken from {path}: {', '.join(changed)}.")


def _is_here(parser: ConfigParser, name: str, value: Any) -> bool:
    """Whether a value of the record is that of the config already, as it stands or as what it refers to."""
    if name in _BUILT:
        here = _definition(parser, name)  # the precision is that of the run
        return {**here, "precision": None} == {**value, "precision": None}
    refers = str(parser.get(name)).startswith(("$", "@"))
    return value == parser.get(name) or (refers and value == _value(parser, name))


def _value(parser: ConfigParser, name: str) -> Any:
    try:
        value = parser.get_parsed_content(name)
    except Exception:  # it depends on what this run does not use
        return parser
    return list(value) if isinstance(value, tuple) else value


def _definition(parser: ConfigParser, id: str) -> dict[str, Any]:
    """The class of an item and its plain arguments, references resolved and nothing built."""
    own = ConfigParser(copy.copy(parser.get()))
    found = dict(own.get_parsed_content(id, instantiate=False).get_config())
    if str(found.get("_target_", "")).endswith("bundle.from_config"):
        from .configs import item_parser  # which imports this module

        found.pop("_target_")
        other, id = item_parser(**found)
        found = dict(other.get_parsed_content(id, instantiate=False).get_config())
    return {name: value for name, value in found.items() if _is_plain(value) and name != "_requires_"}


def _merged(definition: Any, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A network as it is recorded; what a record cannot hold, and its precision, as the config defines them."""
    target, not_arguments = recorded["_target_"], ("_target_", "_requires_", "item", "given")
    if target.startswith(_BUILT["noise_schedule"]):  # whose arguments are all plain, and others for another formula
        return {**recorded, "_requires_": "@code_path"}
    base = dict(definition) if isinstance(definition, Mapping) else {}
    own = {name: value for name, value in base.items() if name not in not_arguments}
    if "item" not in base and base.get("_target_") != target:
        own = {name: value for name, value in own.items() if str(value).startswith("@")}
    here = {"precision": "@precision"} if "precision" in recorded else {}
    return {"_target_": target, "_requires_": "@code_path", **own, **recorded, **here}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) for name in value) and all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if isinstance(value, (list, tuple)) else isinstance(value, _PLAIN)


def _check_plain(path: Path, name: str, value: Any) -> None:
    """A record comes with weights that anybody can send; it sets values and never runs code."""
    inner = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    target = value.get("_target_") if isinstance(value, Mapping) else None
    code = isinstance(value, str) and value[:1] in ("$", "@", "%")
    built = target is not None and not (name in _BUILT and str(target).startswith(_BUILT[name]))
    if code or built or (isinstance(value, Mapping) and any(key[:1] == "_" and key != "_target_" for key in value)):
        raise ValueError(f"{path}: {name} is no plain value ({value!r}); a record of a training run was expected.")
    for one in inner:
        _check_plain(path, "", one)
