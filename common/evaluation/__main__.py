"""Image sets measured: ``python -m common.evaluation compare|audit|observer|networks|metrics --help``."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..features.registry import REGISTRY, SHIPPED
from ..metrics.catalogue import METRICS
from ..utils.files import written_whole
from .audit import run_audit, verdict
from .cache import FeatureCache, Features
from .choice import Options, check_together, load_networks, plan
from .compare import Comparison
from .folders import ImageFolder, folder_facts
from .memorisation import AuditSettings
from .observer import run as run_forced_choice
from .page import page, tables
from .results import markdown_table, write_report


def compare(
    real: str,
    fake: str,
    *more: Any,
    train: str | None = None,
    metrics: Any = None,
    network: Any = None,
    weights: Any = None,
    lpips_weights: str | None = None,
    out: str = "report",
    scaling: str = "auto",
    grey: bool = False,
    size: Any = None,
    crop: bool = False,
    seed: int = 0,
    batch_size: int = 8,
    max_images: int = 256,
    device: str = "cpu",
    cache: str | None = None,
    **unknown: Any,
) -> int:
    """
    Measure a folder of generated images against a folder of real ones.

    Writes metrics.json, metrics.md and index.html (pictures inside). Exit status: 0; 2 for input that cannot be
    measured; 3 when --train is given and copies of training images were found.

    Args:
        real: folder of .nii, .nii.gz, or of .png, .jpg; subfolders are not searched.
        fake: folder of generated images of the same kind.
        train: images that the generator was trained with: adds the memorisation audit, with --real as held-out control.
        metrics: names, comma between; `metrics` lists them. By default what data and --network allow.
        network: one or several feature networks, comma between; `networks` lists them. None is chosen by itself.
        weights: a file for each network that brings none, in the same order.
        lpips_weights: torchvision's AlexNet for lpips.
        out: folder of the report, and of the cached features that let a second run go on.
        scaling: of intensities to [-1, 1]: percentiles (0.5 and 99.5 of each image), dtype (range of the file's
            integers), none (is there already), auto (percentiles for NIfTI, dtype for PNG and JPEG).
        grey: measure the luminance of colour pictures.
        size: sides to bring every image to, e.g. 224,224.
        crop: accept folders of different image sizes.
        seed: of every draw.
        batch_size: images that a network sees at a time.
        max_images: most images of a folder that pixel metrics of whole sets keep in memory.
        device: for the networks, e.g. cuda.
        cache: folder of the cached features; by default inside --out.
    """
    _nothing_else(compare, more, unknown)
    options = Options(
        metrics=_words(metrics),
        networks=_words(network),
        weights=_words(weights),
        lpips_weights=lpips_weights,
        scaling=str(scaling),
        grey=bool(grey),
        size=tuple(int(side) for side in _words(size)) or None,
        crop=bool(crop),
        seed=int(seed),
        batch_size=int(batch_size),
        device=device,
        max_images=int(max_images),
    )
    folder = _folder(out)
    chosen = plan(str(real), str(fake), None if train is None else str(train), options)
    for notice in chosen.notices:
        print(f"note: {notice}", file=sys.stderr)
    comparison = Comparison(chosen, options, cache or folder / "features")
    content = comparison.run(folder)
    content["context"]["command"] = shlex.join(["python", "-m", "common.evaluation", *sys.argv[1:]])
    write_report(content, markdown_table(content), folder)
    with written_whole(folder / "index.html") as path:
        worst = folder / "worst_pairs.png" if comparison.audit else None
        path.write_text(page(content, chosen.real, chosen.fake, worst), encoding="utf-8")
    _print_results(content, shown=len(chosen.notices))
    print(f"\nReport: {folder / 'index.html'}, metrics.md, metrics.json")
    return comparison.audit.exit_code if comparison.audit else 0


def audit(
    fake: str,
    train: str,
    held_out: str,
    *more: Any,
    network: Any = None,
    weights: Any = None,
    out: str = "audit",
    scaling: str = "auto",
    grey: bool = False,
    size: Any = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "cpu",
    cache: str | None = None,
    **unknown: Any,
) -> int:
    """
    Look for copies of training images among generated ones.

    Writes audit.json, audit.md and worst_pairs.png. Exit status: 0 no copies, 3 copies found, 2 input that cannot be
    audited.

    Args:
        fake: folder of generated images.
        train: what the generator was trained with.
        held_out: real images of other patients from the same source, at least 10: the control.
        network: feature network that helps to find candidates; by pixels alone without it.
        weights: its file, where it brings none.
        out: folder of the results.
        scaling: see `compare --help`.
        grey: luminance of colour pictures.
        size: sides to bring every image to.
        seed: of every draw.
        batch_size: images that the network sees at a time.
        device: for the network.
        cache: folder of the cached features; by default inside --out.
    """
    _nothing_else(audit, more, unknown)
    sides = tuple(int(side) for side in _words(size)) or None
    options = Options(networks=_words(network), weights=_words(weights), device=device, batch_size=int(batch_size))
    if len(options.networks) > 1:
        raise ValueError("audit takes one network.")
    where = _folder(out)
    names = ("fake", "train", "held_out")
    folders = {
        name: ImageFolder(str(path), str(scaling), bool(grey), sides)
        for name, path in zip(names, (fake, train, held_out))
    }
    check_together(folders, crop=True)
    features = None
    networks = load_networks(options.networks, options, folders["fake"].spatial_dims)
    for one in networks:
        kept = FeatureCache(cache or where / "features", one, folders["fake"].describe())
        features = tuple(
            Features(f, one, kept, options.batch_size).tensor(f"{name} features") for name, f in folders.items()
        )
    context = {
        **{name: folder_facts(folder) for name, folder in folders.items()},
        "reading": folders["fake"].describe(),
        "networks": [one.describe() for one in networks],
        "command": shlex.join(["python", "-m", "common.evaluation", *sys.argv[1:]]),
    }
    settings = AuditSettings(seed=int(seed))
    sets = (folders["fake"], folders["train"], folders["held_out"])
    result = run_audit(*sets, where, features, settings=settings, context=context)  # type: ignore[arg-type]
    print(verdict(result))
    print(f"\nWorst pairs: {where / 'worst_pairs.png'}, audit.md, audit.json")
    return result.exit_code


def observer(answers: str, *more: Any, out: str | None = None, **unknown: Any) -> int:
    """
    Evaluate a two-alternative forced choice: how often readers told the generated image from the real one.

    Args:
        answers: CSV with a column `correct` (1 or 0), or `answer` and `truth`; optionally `reader`.
        out: folder for observer.json and observer.md; printed only without it.
    """
    _nothing_else(observer, more, unknown)
    return run_forced_choice(str(answers), None if out is None else _folder(out))


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


def _words(given: Any) -> tuple[str, ...]:
    """Fire gives "a,b" as text or as a tuple."""
    if given is None:
        return ()
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, (tuple, list)) else [given]
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _nothing_else(command: Callable[..., int], more: Sequence[Any], unknown: dict[str, Any]) -> None:
    """Refuse what the command does not know before it works; fire would complain only afterwards."""
    extra = [str(value) for value in more] + [f"--{name}" for name in unknown]
    if extra:
        takes = [f"--{n}" for n, p in inspect.signature(command).parameters.items() if p.kind not in (2, 4)]
        raise ValueError(f"unknown argument {', '.join(extra)}; {command.__name__} takes {', '.join(takes) or 'none'}.")


def _folder(out: Any) -> Path:
    folder = Path(str(out))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; a folder was expected.")
    return folder


def _print_results(content: dict[str, Any], shown: int = 0) -> None:
    for notice in content["notices"][shown:]:
        print(f"note: {notice}", file=sys.stderr)
    for title, rows in tables(content):
        print(f"\n{title}")
        cells = [("metric", "value", "95 % interval", "n"), *rows]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        for row in cells:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    entry = content["metrics"].get("memorisation")
    if entry:
        print(f"\n{entry['verdict']}")


def main(command: list[str] | None = None) -> int:
    """The command line; mistakes end it with one line and status 2."""
    import fire

    commands = {f.__name__: f for f in (compare, audit, observer, networks, metrics)}
    try:
        status = fire.Fire(commands, command=command, name="common.evaluation", serialize=lambda result: None)
    except (ValueError, KeyError, OSError, ModuleNotFoundError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {' '.join(str(text).split())}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
