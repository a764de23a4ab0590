"""Image sets measured: ``python -m common.evaluation compare|audit|differences|observer|reader-study|… --help``."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..data.checks import check_folder
from ..features.registry import REGISTRY, SHIPPED
from ..utils.commands import run_commands
from ..utils.files import write_text
from .audit import run_audit, verdict
from .cache import FeatureCache, Features
from .choice import Options, about_folders, check_together, load_networks, plan
from .compare import Comparison
from .differences import differences as differences_of
from .differences import table_of
from .entries import METRICS
from .folders import folder_facts
from .groups import groups_of_folders
from .memorisation import AuditSettings, check_groups
from .observer import run as run_forced_choice
from .page import page, tables
from .reader_answers import run_results
from .reader_study import reader_study as write_reader_study
from .results import markdown_table, without_folders, write_report


def _with_options(*names: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the fields of ``Options`` of these names, or all, as flags, each with its meaning."""

    def decorated(command: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(command).parameters.values())
        flags = [f for f in dataclasses.fields(Options) if not names or f.name in names]
        more = [inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default) for f in flags]
        command.__signature__ = inspect.Signature([*own[:-1], *more, own[-1]])  # type: ignore[attr-defined]
        meanings = re.split(
            r"\n(?=    \w+: )", str(inspect.getdoc(Options)).partition("Attributes:\n")[2].split("\n\n")[0]
        )
        kept = [text for text in meanings if text.split(":")[0].strip() in {f.name for f in flags}]
        command.__doc__ = "\n".join([str(inspect.getdoc(command)), *kept])
        return command

    return decorated


_OF_METRICS = ("metrics", "lpips_weights", "vgg16_weights", "max_images")  # what an audit has no use for


@_with_options()
def compare(
    real: str,
    fake: str,
    *more: Any,
    train: str | None = None,
    out: str = "report",
    cache: str | None = None,
    **given: Any,
) -> int:
    """
    Measure a folder of generated images against a folder of real ones.

    Writes metrics.json, metrics.md and index.html (pictures inside). Exit status: 0; 2 for input that cannot be
    measured; 3 when --train is given and copies of training images were found.

    Args:
        real: folder of .nii, .nii.gz, or of .png, .jpg; subfolders are searched where it holds none.
        fake: folder of generated images of the same kind.
        train: images that the generator was trained with: adds the memorisation audit, with --real as held-out control.
        out: folder of the report, and of the cached features that let a second run go on.
        cache: folder of the cached features; by default inside --out.
    """
    options = _options(compare, more, given)
    folder = _folder(out)
    chosen = plan(str(real), str(fake), None if train is None else str(train), options)
    check_folder(folder, "--out")
    _print_notices(chosen.notices)
    comparison = Comparison(chosen, options, cache or folder / "features", command=_command())
    content = comparison.run(folder)
    write_report(content, markdown_table(content), folder)
    worst = folder / "worst_pairs.png" if comparison.audit else None
    write_text(folder / "index.html", page(content, chosen.real, chosen.fake, worst, comparison.features()))
    _print_results(content, shown=len(chosen.notices))
    print(f"\nReport: {folder / 'index.html'}, metrics.md, metrics.json")
    return comparison.audit.exit_code if comparison.audit else 0


@_with_options(*(f.name for f in dataclasses.fields(Options) if f.name not in _OF_METRICS))
def audit(
    fake: str, train: str, held_out: str, *more: Any, out: str = "audit", cache: str | None = None, **given: Any
) -> int:
    """
    Look for copies of training images among generated ones.

    Writes audit.json, audit.md and worst_pairs.png. Exit status: 0 no copies, 3 copies found, 2 input that cannot be
    audited.

    Args:
        fake: folder of generated images.
        train: what the generator was trained with.
        held_out: real images of other patients from the same source, at least 10: the control.
        out: folder of the results.
        cache: folder of the cached features; by default inside --out.
    """
    options = _options(audit, more, given)
    if len(options.network) > 1:
        raise ValueError("audit takes one network.")
    where = _folder(out)
    folders = {
        name: options.folder(str(path)) for name, path in (("fake", fake), ("train", train), ("held_out", held_out))
    }
    check_together(folders, options.crop, one_size=False)
    groups = groups_of_folders(folders, options.subject_of, options.group_by)
    of_real = (groups["train"], groups["held_out"]) if groups else None
    check_groups(of_real)
    check_folder(where, "--out")
    _print_notices(about_folders(folders))
    features = None
    networks = load_networks(options.network, options, folders["fake"].spatial_dims)
    for one in networks:
        kept = FeatureCache(cache or where / "features", one, folders["fake"].describe())
        features = tuple(
            Features(f, one, kept, options.batch_size).tensor(f"{name} features") for name, f in folders.items()
        )
    context = {
        **{name: folder_facts(folder) for name, folder in folders.items()},
        "reading": folders["fake"].describe(),
        "networks": [one.describe() for one in networks],
        "command": _command(),
    }
    sets = (folders["fake"], folders["train"], folders["held_out"])
    settings = AuditSettings(seed=options.seed)
    result = run_audit(*sets, where, features, settings=settings, context=context, groups=of_real)  # type: ignore[arg-type]
    print(verdict(result))
    print(f"\nWorst pairs: {where / 'worst_pairs.png'}, audit.md, audit.json")
    return result.exit_code


def differences(
    first: str,
    second: str,
    *more: Any,
    method: str | None = None,
    other: str | None = None,
    out: str | None = None,
    **unknown: Any,
) -> int:
    """
    Take the values of one evaluation from those of another of the same cases, case by case.

    Args:
        first: folder of an evaluation by a bundle's evaluate.json, or its metrics.json.
        second: the evaluation whose values are taken away.
        method: row of the first that is compared alone; by default each is with the row of its name.
        other: row of the second that it is compared with.
        out: folder for differences.json and differences.md; printed only without it.
    """
    _nothing_else(differences, more, unknown)
    folder = None if out is None else _folder(out)
    content, notices = differences_of(str(first), str(second), method, other)
    text = table_of(content)
    _print_notices(notices)
    print(text, end="")
    if folder is not None:
        write_report(content, text, folder, "differences")
        print(f"\nReport: {folder / 'differences.md'}, differences.json")
    return 0


def observer(answers: Any, *more: Any, key: str | None = None, out: str | None = None, **unknown: Any) -> int:
    """
    Evaluate a two-alternative forced choice: how often readers told the generated image from the real one.

    Args:
        answers: CSV with a column `correct` (1 or 0), or `answer` and `truth`; optionally `reader`. With --key: the
            answers of a reader study, several files separated by commas.
        key: key.csv of the reader study: results by method, and agreement of the readers.
        out: folder for observer.json and observer.md; printed only without it.
    """
    _nothing_else(observer, more, unknown)
    folder = None if out is None else _folder(out)
    if key is None:
        return run_forced_choice(str(answers), folder)
    files = answers.split(",") if isinstance(answers, str) else [str(path) for path in answers]
    return run_results([file.strip() for file in files], str(key), folder)


@_with_options("scaling", "grey", "size", "spacing")
def reader_study(
    real: str,
    fake: str,
    *more: Any,
    pairs: int = 50,
    singles: int = 0,
    out: str = "reader_study",
    seed: int = 0,
    **given: Any,
) -> int:
    """
    Make a page on which readers tell generated images from real ones, and the key to their answers.

    Writes index.html, complete in itself, for the readers, and key.csv, which they must not see. The answers that the
    page saves are evaluated by `observer ANSWERS.csv --key key.csv`.

    Args:
        real: folder of real images.
        fake: folder of generated ones; further methods with --fake2, --fake3 and so on. Files of the names of real ones
            are paired with these.
        pairs: shown of each method.
        singles: single images of each method, half of them real.
        out: folder of the study.
        seed: of choice, order and sides.
    """
    fakes = {name: given.pop(name) for name in sorted(given) if re.fullmatch(r"fake\d+", name)}
    options = _options(reader_study, more, given)
    folders = [options.folder(str(path)) for path in (fake, *fakes.values())]
    names = [folder.path.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"The methods are called by their folders, which need different names, got {names}.")
    where = _folder(out)
    items = write_reader_study(options.folder(str(real)), dict(zip(names, folders)), where, pairs, singles, seed)
    print(f"{where / 'index.html'}: {len(items)} items, for the readers; {where / 'key.csv'}: for you alone.")
    return 0


def networks(*more: Any, **unknown: Any) -> int:
    """List the feature networks: images that they read, licence of the weights, and where to get them."""
    _nothing_else(networks, more, unknown)
    for name, spec in sorted(REGISTRY.items(), key=lambda item: (item[1].spatial_dims or 0, item[0])):
        shipped = spec.file is not None and (SHIPPED / spec.file).is_file()
        print(f"{name}  {spec.spatial_dims}D, {'weights shipped' if shipped else 'needs --weights or a download'}")
        print(f"    weights: {spec.source}\n    licence: {spec.licence}")
    print("module:factory  a torch module of your own that turns images in [-1, 1] into (N, d)")
    return 0


def metrics(*more: Any, **unknown: Any) -> int:
    """List the metrics that --metrics takes."""
    _nothing_else(metrics, more, unknown)
    for name, entry in METRICS.items():
        if entry.kind == "bundle":
            continue
        needs = (
            "network" if entry.needs_network else {"pairs": "same file names", "training": "--train"}.get(entry.kind)
        )
        print(f"{name:<15} {entry.definition}{f' [needs {needs}]' if needs else ''}\n{'':<15} {entry.read}")
    return 0


def _options(command: Callable[..., int], more: Sequence[Any], given: dict[str, Any]) -> Options:
    _nothing_else(command, more, {name: v for name, v in given.items() if name not in _flags(command)})
    return Options.of(**given)


def _flags(command: Callable[..., int]) -> list[str]:
    return [name for name, p in inspect.signature(command).parameters.items() if p.kind not in (2, 4)]


def _nothing_else(command: Callable[..., int], more: Sequence[Any], unknown: dict[str, Any]) -> None:
    """Refuse what the command does not know before it works; fire would complain only afterwards."""
    extra = [str(value) for value in more] + [f"--{name}" for name in unknown]
    if extra:
        takes = ", ".join(f"--{name}" for name in _flags(command))
        raise ValueError(f"unknown argument {', '.join(extra)}; {command.__name__} takes {takes or 'none'}.")


def _command() -> str:
    """As it was typed, without the folders of absolute paths."""
    return shlex.join(["python", "-m", "common.evaluation", *without_folders(sys.argv[1:])])


def _folder(out: Any) -> Path:
    folder = Path(str(out))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; a folder was expected.")
    return folder


def _print_notices(notices: Sequence[str]) -> None:
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)


def _print_results(content: dict[str, Any], shown: int = 0) -> None:
    _print_notices(content["notices"][shown:])
    for title, rows in tables(content):
        print(f"\n{title}")
        cells = [("metric", "value", "95 % interval", "n"), *rows]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        for row in cells:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    entry = content["metrics"].get("memorisation")
    if entry:
        print(f"\n{entry['verdict']}")


_COMMANDS = (compare, audit, differences, observer, reader_study, networks, metrics)


def main(command: list[str] | None = None) -> int:
    """The command line; mistakes end it with one line and status 2."""
    commands = {f.__name__.replace("_", "-"): f for f in _COMMANDS}
    more = [f"fake{number}" for number in range(10)]
    return run_commands(commands, "common.evaluation", command, more, silent=True)


if __name__ == "__main__":
    sys.exit(main())
