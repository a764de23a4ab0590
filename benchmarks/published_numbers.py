"""
Published numbers: one file a bundle, ``bundles/NAME/docs/numbers.json``, from which the pages' tables are rendered.

    python -m benchmarks.published_numbers tables                          # write the tables of all pages anew
    python -m benchmarks.published_numbers rerun med_vdm_cxr --rows eval   # run the command again and compare

A file has "runs" and "tables". A run has the arguments of Python ("command"), the folder in which they run, the data
sets behind placeholders such as DATA ("given": folders of MEDICAL_DATA_DIR), seed, device, precision, date, the file
of results in its folder OUT, and "values": the path of an entry in that file -> [value] or [value, low, high], the
interval of 95 %. Without a command it says why ("why"). ``OUT:judge`` is the folder of the run "judge", which is run
before. Other placeholders in capitals are environment variables ("optional": those whose option may be left out).

A table has rows of cells. In them ``{run: path}`` is a value with its interval, ``{run: path|value}`` or ``|interval``
one of them, ``{run: path:.1f%}`` both in per cent with one digit. A page shows the table between the comments
``<!-- numbers: NAME/table -->`` and ``<!-- /numbers -->``. "eval_metrics" does the same for metadata.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from common.utils.files import written_whole

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/**/*.md", "bundles/*/docs/*.md")
NEAR = 0.02  # of a value without an interval: other processors and libraries round differently
BAD = ("OUTSIDE", "MISSING")
_CELL = re.compile(r"\{(\w+): ([^|{}]+?)(?:\|(value|interval))?(?::(\.\d\w)(%?))?\}")
_MARKED = re.compile(r"(<!-- numbers: (\w+)/(\w+) -->\n).*?(<!-- /numbers -->)", re.DOTALL)


def numbers_file(bundle: str) -> Path:
    """Where the numbers of a bundle stand."""
    return ROOT / "bundles" / bundle / "docs" / "numbers.json"


def read(bundle: str) -> dict[str, Any]:
    """The content of a bundle's file; FileNotFoundError names the bundles that have one."""
    path = numbers_file(bundle)
    if not path.is_file():
        known = sorted(file.parents[1].name for file in ROOT.glob("bundles/*/docs/numbers.json"))
        raise FileNotFoundError(f"There is no {path.relative_to(ROOT)}; numbers are kept of {', '.join(known)}.")
    return json.loads(path.read_text(encoding="utf-8"))


def dumps(content: Any, indent: str = "") -> str:
    """As JSON, with each list that holds no other list on one line."""
    inner = indent + "  "
    if isinstance(content, Mapping) and content:
        lines = [f"{inner}{json.dumps(k, ensure_ascii=False)}: {dumps(v, inner)}" for k, v in content.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(content, list) and content and isinstance(content[0], list):
        return "[\n" + ",\n".join(inner + dumps(v, inner) for v in content) + f"\n{indent}]"
    return json.dumps(content, ensure_ascii=False)


def cell(content: Mapping[str, Any], text: str) -> str:
    """A table's cell with its references replaced by numbers; ValueError for one that leads nowhere."""

    def number(match: re.Match[str]) -> str:
        run, path, part, digits, per_cent = match.groups()
        try:
            values = content["runs"][run]["values"][path]
        except KeyError as error:
            raise ValueError(f"{match[0]} names no value: {error} is missing.") from None
        shown = [format(v * (100 if per_cent else 1), digits or ".4g") for v in values]
        if part == "value" or len(shown) == 1:
            return shown[0]
        interval = f"{shown[1]} to {shown[2]}"
        return interval if part == "interval" else f"{shown[0]} ({interval})"

    return _CELL.sub(number, text)


def table(content: Mapping[str, Any], name: str) -> str:
    """A table as Markdown."""
    rows = [[cell(content, text) for text in row] for row in content["tables"][name]]
    lines = [f"| {' | '.join(row)} |".replace("  |", " |") for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]]) + "\n"


def rendered(text: str) -> str:
    """A page with its tables as the files have them."""

    def one(match: re.Match[str]) -> str:
        start, bundle, name, end = match.groups()
        return start + table(read(bundle), name) + end

    return _MARKED.sub(one, text)


def pages() -> Iterator[Path]:
    """All pages."""
    return (path for pattern in PAGES for path in sorted(ROOT.glob(pattern)))


def write_tables() -> list[Path]:
    """Write the tables of all pages anew; returns the pages that changed."""
    changed = []
    for page in pages():
        old = page.read_text(encoding="utf-8")
        if (new := rendered(old)) != old:
            changed.append(page)
            with written_whole(page) as path:
                path.write_text(new, encoding="utf-8")
    return changed


def verdict(published: Sequence[float], measured: float | None, left_out: bool = False) -> str:
    """
    What a rerun says about a published number.

    >>> verdict([0.5, 0.4, 0.6], 0.5), verdict([0.5, 0.4, 0.6], 0.59), verdict([0.5, 0.4, 0.6], 0.7)
    ('same', 'inside', 'OUTSIDE')
    >>> verdict([100.0], 101.0), verdict([100.0], 103.0), verdict([1.0], None)
    ('near', 'OUTSIDE', 'MISSING')
    """
    if measured is None:
        return "left out" if left_out else "MISSING"
    value, *interval = published
    if f"{value:.4g}" == f"{measured:.4g}":
        return "same"
    if interval:
        return "inside" if interval[0] <= measured <= interval[1] else "OUTSIDE"
    return "near" if abs(measured - value) <= NEAR * abs(value) else "OUTSIDE"


def found(results: Any, path: str) -> list[float] | None:
    """``[value]`` or ``[value, low, high]`` at a path of a results file, None where there is none."""
    for key in path.split("/"):
        if isinstance(results, list):
            results = dict(enumerate(results)).get(int(key))
        else:
            results = results.get(key) if isinstance(results, Mapping) else None
    if not isinstance(results, Mapping):
        return None if results is None else [float(results)]
    ends = results.get("interval95") or []
    return None if results.get("value") is None else [float(v) for v in (results["value"], *ends)]


def arguments(run: Mapping[str, Any], out: Path, name: str) -> tuple[list[str], list[str]]:
    """
    A run's command with its placeholders filled, and the options that were left out for want of a variable.

    Raises:
        KeyError: for a variable that is not set and not optional.
    """
    filled: list[str] = []
    left_out: list[str] = []
    data = Path(os.environ.get("MEDICAL_DATA_DIR", "data"))
    for part in run["command"]:
        if part in run.get("given", {}):
            part = str(data / run["given"][part])
        elif part == "OUT" or part.startswith("OUT:"):
            part = str(out / (part[4:] or name))
        elif re.fullmatch(r"[A-Z][A-Z0-9_]+", part):
            if part not in os.environ and part in run.get("optional", ()):
                left_out.append(f"{filled.pop()} {part}")
                continue
            part = os.environ[part]
        filled.append(part)
    return filled, left_out


def needed(runs: Mapping[str, Any], name: str) -> list[str]:
    """A run behind those whose folders it reads."""
    first = [m[1] for part in runs[name]["command"] or () if (m := re.match(r"OUT:(\w+)", part))]
    return list(dict.fromkeys([other for run in first for other in needed(runs, run)] + [name]))


def rerun(
    bundle: str,
    rows: Sequence[str] = ("*",),
    out: str | Path = "numbers",
    more: Sequence[str] = (),
    write: bool = False,
) -> int:
    """
    Run commands again and print which numbers left their interval; a run that is complete is only compared.

    Args:
        bundle: name.
        rows: names of runs, or patterns of them.
        out: folder, which gets one of each run (those of rehearsals apart).
        more: further arguments for each command, such as ``--max_cases 2`` for a rehearsal; nothing is then compared.
        write: put what was measured into the bundle's file.

    Returns:
        The number of values that left their interval or are missing.

    Raises:
        ValueError: when no run that has a command is named so.
    """
    content, out = read(bundle), Path(out).resolve() / ("rehearsal" if more else "") / bundle
    runs = content["runs"]
    wanted = [name for name in runs if runs[name]["command"] and any(fnmatch(name, row) for row in rows)]
    if not wanted:
        possible = ", ".join(name for name in runs if runs[name]["command"])
        raise ValueError(f"No run of {bundle} is called {' or '.join(rows)}; those with a command are {possible}.")
    bad = 0
    for name in dict.fromkeys(other for row in wanted for other in needed(runs, row)):
        run, file = runs[name], out / name / runs[name]["results"]
        command, left_out = arguments(run, out, name)
        if not file.exists():
            print(f"{name}: {' '.join(command)} {' '.join(more)}", *left_out, sep="\n  without ", flush=True)
            subprocess.run([sys.executable, *command, *more], cwd=ROOT / run["folder"], check=True)
        if not run["values"]:
            continue
        results = json.loads(file.read_text(encoding="utf-8"))
        measured = {path: found(results, path) for path in run["values"]}
        for path, published in run["values"].items():
            value = measured[path]
            said = "" if more or not published else verdict(published, value[0] if value else None, bool(left_out))
            bad += said in BAD
            print(f"{name}: {path}: published {published}, measured {value} {said}", flush=True)
        if write:
            run["values"] = {path: measured[path] or old for path, old in run["values"].items()}
    if write:
        with written_whole(numbers_file(bundle)) as path:
            path.write_text(dumps(content) + "\n", encoding="utf-8")
    print(f"{bad} values outside" if not more else "A rehearsal: nothing was compared")
    return bad


def main(given: Sequence[str] | None = None) -> int:
    """Command line; status 1 when a value left its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("tables", help="write the tables of all pages anew")
    again = commands.add_parser("rerun", help="run commands again and compare")
    again.add_argument("bundle")
    again.add_argument("--rows", nargs="+", default=["*"], help="names or patterns of runs")
    again.add_argument("--out", default="numbers", help="folder of the results; complete runs in it are not repeated")
    again.add_argument("--more", default="", help='further arguments for a rehearsal, "--max_cases 2"')
    again.add_argument("--write", action="store_true", help="put what was measured into the bundle's file")
    args = parser.parse_args(given)
    if args.what == "tables":
        print(*(page.relative_to(ROOT) for page in write_tables()), sep="\n")
        return 0
    return int(rerun(args.bundle, " ".join(args.rows).split(), args.out, args.more.split(), args.write) > 0)


if __name__ == "__main__":
    sys.exit(main())
