"""The report of a restoration: one page with input, result, difference and deviation of each case, and how sure."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.finder import MAPS, stem_of
from ..data.image_file import read_record
from ..data.names import OutputNames, find_partner, output_paths
from ..utils.files import write_text
from .html import asset, document, paragraph, safe, table
from .restored_case import RestoredCase, embedded, measured, read_case

_MOST = 60_000_000  # numbers that the page holds: about 100 MB
_OF_A_CASE = ("outputs", "std_of_one_step", "image", "image_sha256", "hole", "hole_sha256", "synthetic")
_UNIT = "grey values, in the units of the file"
_NOT_FOR_DIAGNOSIS = "AI-restored (synthetic) images. Not for diagnosis: detail may be invented, altered or lost."
_SURENESS = (
    "The deviation is that of the drawn samples in each pixel. It says how far the answers of the network differ, not "
    "how far they are from the truth: where the network is wrong in the same way in every sample, it is small."
)

logger = logging.getLogger(__name__)


def restoration_report(
    files: Sequence[str],
    output_dir: str | Path,
    postfix: str,
    bundle_root: str | Path,
    names: OutputNames | None = None,
    hole: str | Path | None = None,
    white_noise: bool = False,
) -> Path:
    """
    Write ``report.html`` beside the results of a restoration, of this run and of earlier ones.

    Args:
        files: inputs.
        output_dir: of the results, as ``postfix`` and ``names``; see ``pending_cases``.
        bundle_root: whose page says what is known to fail.
        hole: see ``find_partner``; None for a restoration without.
        white_noise: whether to warn of noise that is wider than a pixel, see ``noise_width``.

    Returns:
        Its path.

    Raises:
        OSError, ValueError: when an image cannot be read or the page cannot be written.
    """
    names, cases, missing = names or OutputNames(), [], []
    shown: list[dict[str, Any]] = []
    room = _MOST
    for file in files:
        paths = output_paths(file, output_dir, postfix, MAPS, names=names)
        record = read_record(paths["pred"].with_name(f"{stem_of(paths['pred'])}.json"))
        if record is None or not paths["pred"].exists():
            missing.append(names.of(file))
            continue
        partner = None if hole is None else find_partner(hole, file, names.place(file))
        case = read_case(file, paths, record, names.of(file), partner, white_noise)
        content = embedded(case)
        room -= content.pop("numbers")
        if room < 0:
            case.noted.append("The page is full: its pictures are left out. --image FILE makes a report of one image.")
        shown.append(content if room >= 0 else {})
        # the pixels are in the page now
        cases.append((case._replace(image=case.image[:0], result=case.result[:0], deviation=None), measured(case)))
    path = write_text(Path(output_dir) / "report.html", _page(cases, shown, missing, known_limits(bundle_root)))
    logger.info(f"Report of {len(cases)} image{'s' * (len(cases) != 1)}, to open in a browser or to print: {path}")
    return path


def known_limits(bundle_root: str | Path) -> list[str]:
    """What a bundle's page lists under "Intended use and limits", as plain sentences."""
    page = Path(bundle_root) / "docs" / "README.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    part = text.partition("## Intended use and limits")[2].partition("\n## ")[0]
    lines = re.findall(r"^- (.*(?:\n  .*)*)", part, re.MULTILINE)
    plain = [re.sub(r" \(\[[^\]]*\]\([^)]*\)\)|`", "", " ".join(line.split())) for line in lines]  # "([more](address))"
    return [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line) for line in plain]


def _page(
    cases: Sequence[tuple[RestoredCase, dict[str, float]]],
    shown: Sequence[Mapping[str, Any]],
    missing: Sequence[str],
    limits: Sequence[str],
) -> str:
    records = [case.record for case, _ in cases]
    common = {
        key: value
        for key, value in (records[0] if records else {}).items()
        if key not in _OF_A_CASE and all(record.get(key) == value for record in records)
    }
    title = f"Restored images of {common.get('bundle', 'several bundles')}"
    parts = [f"<h1>{safe(title)}</h1>", paragraph(_NOT_FOR_DIAGNOSIS, "copies")]
    if missing:
        parts.append(paragraph(f"{len(missing)} inputs have no result: {', '.join(missing)}.", "notice"))
    parts += ["<h2>What is known to fail</h2>", f"<ul>{''.join(f'<li>{safe(line)}</li>' for line in limits)}</ul>"]
    if any(case.record.get("num_samples", 1) > 1 for case, _ in cases):
        parts.append(paragraph(_SURENESS))
    parts += ["<h2>Cases</h2>", _overview(cases)]
    parts += [_section(n, case, found, shown[n], common) for n, (case, found) in enumerate(cases)]
    parts += [
        "<h2>Provenance</h2>",
        table(("what", "value"), [(k.replace("_", " "), _words(v)) for k, v in common.items()]),
    ]
    code = f"{asset('viewer.js')}\nconst CASES = {json.dumps(shown)};\n{asset('restoration.js')}"
    return document(title, parts, asset("restoration.css"), code)


def _overview(cases: Sequence[tuple[RestoredCase, dict[str, float]]]) -> str:
    head = (
        "case",
        "pixels",
        "mean change",
        "largest change",
        "mean deviation",
        "95 % of pixels below",
        "largest deviation",
    )
    keys = ("change", "most_changed", "deviation", "deviation_95", "most_unsure")
    rows = [(case.name, case.size, *(f"{found[k]:.4g}" if k in found else "–" for k in keys)) for case, found in cases]
    text = f"In {_UNIT}; where a hole was filled, inside it alone."
    return table(head, rows) + paragraph(text)


def _section(
    n: int, case: RestoredCase, found: Mapping[str, float], shown: Mapping[str, Any], common: Mapping[str, Any]
) -> str:
    parts = [f'<section id="case-{n}"><h2>{safe(case.name)}</h2>']
    parts += [paragraph(line, "notice") for line in case.noted]
    if shown:
        parts += [
            '<div class="views">',
            *(_view(kind, title, case, "deviation" in found) for kind, title in _views(case)),
            "</div>",
            _TOOLS,
        ]
    if "deviation" in found:
        mean, most, highest = (f"{found[key]:.4g}" for key in ("deviation", "deviation_95", "most_unsure"))
        text = (
            f"How sure: {case.record['num_samples']} samples deviate by {mean} grey values on average, by less than "
            f"{most} in 95 % of the pixels, and by {highest} at most."
        )
    else:
        text = "How sure: unknown, this is a single sample. --num_samples 8 draws eight and shows where they differ."
    own = {k: v for k, v in case.record.items() if k not in common and k not in ("outputs", "synthetic")}
    facts = "; ".join(f"{k.replace('_', ' ')}: {_words(v)}" for k, v in own.items())
    return "".join([*parts, paragraph(text), f"<p><small>{safe(facts)}</small></p></section>"])


_TOOLS = """<div class="tools">
<label>Window from <input type="number" class="low"></label> <label>to <input type="number" class="high"></label>
<label class="depth">Slice <input type="range" class="slice" min="0"> <output></output></label>
<span>Zoom <button class="out">−</button> <button class="in">+</button> <button class="reset">Reset</button></span>
<output class="readout">Drag to move, Ctrl and wheel to zoom; values of the pixel under the pointer.</output></div>"""


def _views(case: RestoredCase) -> list[tuple[str, str]]:
    hole = " (outline: hole)" * (case.hole is not None)
    return [
        ("image", f"Input{hole}"),
        ("result", "Result, AI-restored"),
        ("difference", "Result − input"),
        ("deviation", "Deviation of samples"),
    ]


def _view(kind: str, title: str, case: RestoredCase, several: bool) -> str:
    """The place of a picture, which the script fills."""
    if kind == "deviation" and not several:
        return '<figure><div class="none">One sample: no deviation. --num_samples 8 shows it.</div></figure>'
    places = ("left", "right", "top", "bottom")
    edges = "".join(f'<span class="{place}">{letter}</span>' for place, letter in zip(places, case.letters))
    stamp = "" if kind == "image" else '<span class="stamp">AI-restored – not for diagnosis</span>'
    bar = f'<div class="bar"></div><div class="ends"></div><small>{_UNIT}</small>'
    view = f'<div class="view" data-kind="{kind}">{edges}{stamp}</div>'
    return f"<figure><figcaption>{title}</figcaption>{view}{bar}</figure>"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in value.items()) or "–"
    return "none" if value is None else str(value)
