"""The one writer of HTML pages that are complete in themselves: style, tables, pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# No connection is opened whatever a page holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 1080px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; margin: .5em 0; } td, th { padding: .25em .9em .25em 0; text-align: left;
  border-bottom: 1px solid #ddd; vertical-align: top; } td.number { font-variant-numeric: tabular-nums; }
.notice { background: #fff6e0; border-left: 4px solid #e69f00; padding: .4em .8em; margin: .4em 0; }
.copies { background: #fde8e0; border-left: 4px solid #d55e00; padding: .4em .8em; white-space: pre-line; }
.clean { background: #e6f4ee; border-left: 4px solid #009e73; padding: .4em .8em; white-space: pre-line; }
.row { display: flex; flex-wrap: wrap; gap: 6px; margin: .3em 0; } figure { margin: 0; width: 120px; }
figure.wide { width: 258px; } figure.plot { width: 500px; }
figure img { width: 100%; display: block; background: #000; image-rendering: auto; }
figcaption { font-size: 11px; color: #555; overflow-wrap: anywhere; } code { font-size: .9em; overflow-wrap: anywhere; }
.audit { max-width: 100%; }
"""


def document(title: str, parts: Iterable[str], style: str = "", code: str = "") -> str:
    """
    A page of HTML parts; no other file and no address is needed to show it.

    Args:
        title: of the window.
        parts: of the body.
        style: CSS beside that of all pages.
        code: JavaScript, run after the body.
    """
    body = "\n".join([*parts, f"<script>{code}</script>"] if code else parts)
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    head += f"<title>{safe(title)}</title><style>{_STYLE}{style}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def asset(name: str) -> str:
    """A script or a style sheet of pages, from the file of that name beside this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def paragraph(text: Any, kind: str = "") -> str:
    """
    A paragraph, of the kind "notice", "copies" (red) or "clean" (green).

    Example:
        >>> paragraph("1 < 2", "clean")
        '<p class="clean">1 &lt; 2</p>'
    """
    return f"<p{_kind(kind)}>{safe(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of plain cells."""
    top = "".join(f"<th>{safe(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f'<td class="number">{safe(cell)}</td>' for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def figure(png: bytes, caption: str, kind: str = "") -> str:
    """A picture over its caption, of the kind "wide" (three slices) or "plot"; "" for a small one."""
    text = safe(caption)
    return f'<figure{_kind(kind)}><img alt="{text}" src="{address(png)}"><figcaption>{text}</figcaption></figure>'


def side_by_side(figures: Iterable[str]) -> str:
    """Figures beside one another."""
    return f'<div class="row">{"".join(figures)}</div>'


def address(png: bytes) -> str:
    """A PNG as a data address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def safe(text: Any) -> str:
    """``text`` with the signs of HTML escaped."""
    return html.escape(str(text))


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""
