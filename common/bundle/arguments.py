"""What can be done, and every argument of every config with type, default and meaning: ``python -m common``."""

from __future__ import annotations

import argparse
import functools
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from ..utils.commands import with_last_line

_NO_CONFIGS = ("metadata.json", "study.json")
_LONGEST = 60  # characters of a default
_OF_ITS_CLASS = "that of its class"
_TEXTS = ("text", "file", "folder", "column")
_EXPECTED = {
    "true or false": "True or False",
    "whole number": "a whole number",
    "number": "a number",
    "numbers": 'a list of numbers, such as "[64, 64]",',
    "number or numbers": "a number, or a list of them,",
    "texts": "a list of texts, such as \"['a', 'b']\",",
    "labels": "names with their values, such as \"{'a': 1}\",",
    "options": "names with their values, such as \"{'a': 1}\",",
}


class Argument(NamedTuple):
    """An argument of a config, as ``--name value`` sets it on the command line."""

    name: str
    kind: str
    default: str
    meaning: str


@functools.cache
def glossary() -> dict[str, Any]:
    """What ``arguments.json`` says of commands, configs and arguments."""
    return json.loads(Path(__file__).with_name("arguments.json").read_text(encoding="utf-8"))


def kinds_of(name: str) -> set[str]:
    """What kinds of values an argument takes, by the first words of ``arguments.json``; none where nothing is said."""
    said = glossary()["arguments"].get(name) or glossary()["nested"].get(name.replace("::", "#"))
    return {one[0] for one in (said.values() if isinstance(said, Mapping) else [said] if said else [])}


def unlike(name: str, value: Any) -> str:
    """
    What was expected instead of a value of another kind, such as "a whole number"; "" where it fits.

    None, expressions and definitions of components fit everywhere, as does any value where nothing is said or checked.

    Example:
        >>> unlike("seed", 1.5), unlike("overwrite", "false"), unlike("seed", "$int(3)"), unlike("seed", 3)
        ('a whole number', 'True or False', '', '')
    """
    kinds = sorted(kinds_of(name))
    free = value is None or (isinstance(value, str) and value[:1] in tuple("$@%"))
    free = free or (isinstance(value, Mapping) and "_target_" in value)
    if free or any(_fits(kind, value) for kind in kinds):
        return ""
    return " or ".join(_EXPECTED[kind] for kind in kinds)


def _fits(kind: str, value: Any) -> bool:
    whole, truth = isinstance(value, int), isinstance(value, bool)
    checks = {
        "true or false": truth,
        "whole number": whole and not truth,
        "number": isinstance(value, (int, float)) and not truth,
        "numbers": isinstance(value, (list, tuple)) and _are_numbers(value),
        "number or numbers": _are_numbers(value),
        "texts": isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value),
        "labels": isinstance(value, Mapping),
        "options": isinstance(value, Mapping),
    }
    return checks.get(kind, True)


def _are_numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_are_numbers, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Of arguments that are texts, files or folders, those that the command line has taken for numbers, as texts."""
    numbers = {n: v for n, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    texts = {n: n.endswith("_dir") or (kinds_of(n) and kinds_of(n) <= set(_TEXTS)) for n in numbers}
    return {name: str(value) for name, value in numbers.items() if texts[name] and name != "device"}


def bundles(folder: str | Path = ".") -> list[Path]:
    """The bundles in ``folder`` and in its folder "bundles"; ``folder`` itself where it is one."""
    root = Path(folder)
    if (root / "configs" / "metadata.json").is_file():
        return [root]
    found = [*root.glob("*/configs/metadata.json"), *root.glob("bundles/*/configs/metadata.json")]
    return sorted({path.parents[1] for path in found})


def configs(bundle: Path) -> list[Path]:
    """The configs of a bundle that can be run or laid over others: those that stand alone first."""
    found = [path for path in sorted(bundle.glob("configs/*.json")) if path.name not in _NO_CONFIGS]
    return sorted(found, key=lambda path: "imports" not in _content(path))


def arguments(config: Path) -> list[Argument]:
    """
    The arguments that a config defines, in its order, then those of its items that users set.

    Args:
        config: JSON file in a bundle's folder ``configs``.

    Raises:
        FileNotFoundError: when it is not there; names those that are.
    """
    if not config.is_file():
        there = ", ".join(path.name for path in configs(config.parents[1])) or "no config"
        raise FileNotFoundError(f"No config {config}; there are: {there}.")
    content, found = _content(config), []
    for section, names in (("arguments", list(content)), ("nested", list(glossary()["nested"]))):
        for name in names:
            said = _of(glossary()[section].get(name), config)
            if said is not None and name.split("#")[0] in content and not _is_item(_value(name, content)):
                found.append(Argument(name, said[0], _default(name, content, config), said[1]))
    return found


def meaning(config: Path) -> str:
    """What a config does, in a few words; "" where nothing is said of it."""
    return str(_of(glossary()["configs"].get(config.name), config) or "")


def overview(folder: str | Path = ".") -> str:
    """What can be done: commands, bundles, and their configs."""
    lines = ["Commands", *_aligned(glossary()["commands"].items())]
    alike: dict[tuple[str, ...], list[Path]] = {}
    for bundle in bundles(folder):
        alike.setdefault(tuple(_aligned((path.name, meaning(path)) for path in configs(bundle))), []).append(bundle)
    for rows, of in alike.items():
        lines += ["", ", ".join(bundle.as_posix() for bundle in of), *rows]
    return "\n".join([*lines, "", "Every argument of a bundle: python -m common BUNDLE"])


def listing(bundle: Path, config: str | None = None) -> str:
    """Every argument of a bundle, or of one of its configs."""
    lines: list[str] = []
    for path in [bundle / "configs" / config] if config else configs(bundle):
        found = arguments(path)
        lines += ["", f"{path.as_posix()}: {meaning(path)}" + ("" if "imports" in _content(path) else " (an overlay)")]
        for argument in found:
            lines += [f"  --{argument.name}  {argument.kind}, default {argument.default}"]
            lines += textwrap.wrap(argument.meaning, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines[1:])


@with_last_line
def main(given: Sequence[str] | None = None) -> int:
    """Command line: print what can be done, or every argument of a bundle or config."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__.rpartition('.')[0]}", description=__doc__)
    parser.add_argument("bundle", nargs="?", help="name or folder of a bundle")
    parser.add_argument("config", nargs="?", help="one of its configs, e.g. train.json")
    options = parser.parse_args(given)
    print(overview() if options.bundle is None else listing(find_bundle(options.bundle), options.config))
    return 0


def find_bundle(name: str | Path) -> Path:
    """
    The folder of a bundle, by its path or by its name in the working folder.

    Raises:
        FileNotFoundError: when there is none; names those that are there.
    """
    named = [path for path in bundles() if path.name == str(name)]
    for path in (Path(name), *named):
        if (path / "configs" / "metadata.json").is_file():
            return path
    there = ", ".join(path.name for path in bundles()) or "none"
    raise FileNotFoundError(f"No bundle {name}: its folder was expected, or one of these names: {there}.")


def _content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _of(said: Any, config: Path) -> Any:
    """What is said for this config, where several patterns of "bundle/config" have words of their own."""
    if not isinstance(said, Mapping):
        return said
    place = f"{config.parents[1].name}/{config.name}"
    fits = [text for patterns, text in said.items() for one in patterns.split("|") if fnmatchcase(place, _full(one))]
    return fits[0] if fits else None


def _full(pattern: str) -> str:
    return pattern if "/" in pattern or pattern == "*" else f"{pattern}/*"


def _value(name: str, content: Mapping[str, Any]) -> Any:
    value: Any = content
    for part in name.split("#"):
        value = value.get(part, _OF_ITS_CLASS) if isinstance(value, Mapping) else _OF_ITS_CLASS
    return value


def _is_item(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _default(name: str, content: Mapping[str, Any], config: Path) -> str:
    value = _value(name, content)
    study = config.with_name("study.json")
    if isinstance(value, str) and (match := re.fullmatch(r"\$@from_study\['(\w+)'\]", value)) and study.is_file():
        value = _content(study).get(match[1])
    return _words(value)


def _words(value: Any) -> str:
    """A default in few words: a path in the bundle, another argument, a value, an expression."""
    if value is None:
        return "none"
    if isinstance(value, str):
        if match := re.fullmatch(r"\$@bundle_root \+ '/([^']*)'", value):
            return f"{match[1]} in the bundle"
        if re.fullmatch(r"@\w+", value):
            return f"as {value[1:]}"
        text = value.removeprefix("$").replace("@", "") if value.startswith("$") else value or "empty"
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 4].rstrip() + " ..."


def _aligned(pairs: Any) -> list[str]:
    rows = [(str(left), str(right)) for left, right in pairs]
    width = min(30, max(len(left) for left, _ in rows))
    return [f"  {left:<{width}}  {right}" if len(left) <= width else f"  {left}\n      {right}" for left, right in rows]
