"""A data set looked at as a bundle's training will: ``python -m common check DIR --bundle NAME``."""

from __future__ import annotations

import argparse
import ast
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Compose
from tqdm import tqdm

from ..bundle.arguments import find_bundle
from ..bundle.errors import check_arguments
from ..data.dataset import problem_of
from ..data.image_file import sides
from ..data.reader import LoadSliced, read_image
from ..data.survey import Survey
from ..handlers.run_report import bundle_command
from ..utils import message_of
from ..utils.commands import with_last_line
from ..utils.files import write_text
from ..visualize.html import document, figure, paragraph, safe, side_by_side, table
from ..visualize.panels import image_panel, slice_panels
from ..visualize.pictures import thumbnail

_COLUMNS = ("case", "subject", "side", "class", "voxels", "mm", "axes", "smallest", "median", "largest", "ml")


def check(directory: str | Path, bundle: Path, overlays: Sequence[str] = (), **settings: Any) -> Survey:
    """
    Read every case of a data set and put it through the preprocessing of a bundle's training.

    Args:
        directory: ``dataset_dir`` of the training.
        bundle: its folder.
        overlays: configs over train.json, such as "slices.json".
        settings: values of the config, e.g. ``labels``.

    Returns:
        What was found; ``errors`` are those that training would stop at.

    Raises:
        OSError, ValueError: when there is no data set to look at, such as files without partners; as training says it.
    """
    files = [str(bundle / "configs" / name) for name in ("train.json", *overlays)]
    content = ConfigParser.load_config_files(files)
    check_arguments(list(settings), content, content)
    parser = ConfigParser(content)
    given = {"bundle_root": str(bundle.resolve()), "dataset_dir": str(directory), **settings}
    parser.update({**given, "survey#pixels": True, "survey#progress": partial(tqdm, desc="Reading", leave=False)})
    sys.path.insert(0, str(bundle.resolve()))  # where "scripts" is
    try:
        found: Survey = parser.get_parsed_content("survey")
        id = next(id for id in ("train#deterministic_transforms", "load_image") if id in parser)
        given_transforms = parser.get_parsed_content(id)
        transform = given_transforms if callable(given_transforms) else Compose(given_transforms)
        cases = [case for side in parser.get_parsed_content("survey#shares").values() for case in side]
    except RuntimeError as error:  # MONAI's, around ours
        raise ValueError(message_of(error)) from error
    finally:
        sys.path.remove(str(bundle.resolve()))
    problems = []
    for case in tqdm(cases, desc="Preprocessing", leave=False):
        try:
            transform(dict(case))
        except Exception as error:  # as training reports it
            problems.append(problem_of(case, error))
    further = [error for error in found.errors if not any(error.split(": ")[0] in problem for problem in problems)]
    found.errors = sorted({*problems, *further})
    return found


def page(found: Survey, title: str) -> str:
    """A page with what was found, a table of the cases and a picture of each."""
    parts = [f"<h1>{safe(title)}</h1>", paragraph(found.summary())]
    parts += [paragraph(error, "copies") for error in found.errors]
    parts += [paragraph(notice, "notice") for notice in found.notices]
    parts += [] if found.errors or found.notices else [paragraph("Nothing odd was found.", "clean")]
    parts += ["<h2>Pictures</h2>", side_by_side(_pictures(found)), "<h2>Cases</h2>"]
    return document(title, [*parts, table(_COLUMNS, map(_cells, found.rows))])


def _pictures(found: Survey) -> list[str]:
    figures = []
    for row in found.rows:
        files = row["files"]
        try:
            if "slice" in row or row.get("shape", (0, 0, 0))[2] == 1:
                low, high = row["range"][0], row["range"][-1]
                if "slice" in row:
                    one: dict[Any, Any] = {**row, **files}
                    values = LoadSliced("image")(one)["image"].numpy()
                else:
                    values = read_image(files["image"]).values[..., 0]
                panels = [image_panel(values, (low, high if high > low else low + 1))]
            else:
                panels = slice_panels(files["image"], files.get("label"))[0]
        except (OSError, ValueError, KeyError):
            continue  # it stands among the errors
        plain = [panel._replace(labels=None, letters="") for panel in panels]
        figures.append(figure(thumbnail(plain), str(row["case"]), "wide" * (len(panels) > 1)))
    return figures


def _cells(row: dict[str, Any]) -> list[str]:
    low, _, middle, _, high = row.get("range", [float("nan")] * 5)
    volumes = ", ".join(f"{name} {value:g}" for name, value in row.get("volumes", {}).items())
    spacing = " x ".join(f"{side:g}" for side in row.get("spacing", ()))
    start = [row["case"], row["group"], row["side"], row.get("class", ""), sides(row.get("shape", ())), spacing]
    return [*map(str, start), row.get("axes", ""), f"{low:.4g}", f"{middle:.4g}", f"{high:.4g}", volumes]


@with_last_line
def main(given: Sequence[str] | None = None) -> int:
    """Command line. Exit status: 0; 1 for cases that cannot be used; 2 where there is no data set to look at."""
    parser = argparse.ArgumentParser(prog="python -m common check", description=__doc__)
    parser.add_argument("directory", help="dataset_dir of a training")
    parser.add_argument("--bundle", required=True, help="name or folder of the bundle")
    parser.add_argument("--overlays", default="", help="configs over train.json, separated by commas")
    parser.add_argument("--out", default="data_check.html", help="page to write (default: data_check.html)")
    parser.epilog = "Further --NAME VALUE are arguments of train.json, such as --labels."
    options, rest = parser.parse_known_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if Path(options.out).is_dir():
        raise ValueError(f"--out {options.out} is a folder; a file was expected.")
    overlays = [name for name in options.overlays.split(",") if name]
    bundle, settings = find_bundle(options.bundle), _settings(rest)
    found = check(options.directory, bundle, overlays, **settings)
    write_text(options.out, page(found, f"{options.directory} for {Path(options.bundle).name}"))
    lines = [
        found.summary(),
        *(f"Error: {line}" for line in found.errors),
        *(f"Look at: {line}" for line in found.notices),
    ]
    lines.append(f"Pictures and a table of the cases: {options.out}")
    if not found.errors:
        run = {"dataset_dir": options.directory, "output_dir": "runs/mine", **settings}
        lines.append(f"Next: {bundle_command(bundle, ['train.json', *overlays], **run)}")
    print("\n".join(lines))
    return 1 if found.errors else 0


def _settings(rest: Sequence[str]) -> dict[str, Any]:
    """``--name value`` pairs, values read as MONAI's command line does."""
    if len(rest) % 2 or any(not name.startswith("--") for name in rest[::2]):
        raise ValueError(f"--NAME VALUE was expected, got {' '.join(rest)}.")
    result: dict[str, Any] = {}
    for name, text in zip(rest[::2], rest[1::2]):
        try:
            result[name[2:]] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            result[name[2:]] = text
    return result
