"""One HTML page of a comparison, complete in itself: tables, images, definitions, what the numbers rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..visualize.html import address, document, figure, paragraph, safe, side_by_side, table
from ..visualize.panels import image_panel, slice_panels
from ..visualize.pictures import thumbnail
from ..visualize.plots import histogram_plot, scatter_plot
from .entries import METRICS
from .folders import ImageFolder
from .results import table_rows
from .verdict import sentences

_OF_EACH = 40  # images of a set whose grey values are in the histogram
_SHOWN = 4  # best and worst cases
_AT_ONCE, _POINTS = 512, 1000  # features compared at once; points of a set in a plot


def page(
    content: Mapping[str, Any],
    real: ImageFolder,
    fake: ImageFolder,
    audit_picture: str | Path | None = None,
    features: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> str:
    """
    The page, complete in itself.

    Args:
        content: of metrics.json.
        real: folder of the real images.
        fake: of the generated ones.
        audit_picture: PNG of the memorisation audit's worst pairs, if there is one.
        features: label of a network -> features of the generated and of the real images, (n, d) and (m, d).

    Returns:
        HTML; no other file and no address is needed to show it.
    """
    context = content["context"]
    counts = f"{context['fake']['n']} generated and {context['real']['n']} real images"
    parts = [
        f"<h1>{safe(context['fake']['folder'])} against {safe(context['real']['folder'])}</h1>",
        f"<p>{counts}.</p>",
    ]
    parts += ["<h2>In words</h2>", *(paragraph(line) for line in sentences(content))]
    parts += [paragraph(line, "notice") for line in content.get("notices", ())]
    parts += _verdict(content["metrics"], audit_picture)
    for title, rows in tables(content):
        parts.append(f"<h2>{safe(title)}</h2>" + table(("metric", "value", "95 % interval", "n"), rows))
    parts += ["<h2>Plots</h2>", *_plots(real, fake, features or {})]
    parts += ["<h2>Images</h2>", *_images(real, fake, bool(context["paired"]))]
    parts += _extremes(content, real, fake, features or {})
    parts += ["<h2>What the metrics are</h2>", _definitions(content["metrics"])]
    parts += ["<h2>What the numbers rest on</h2>", _facts(content)]
    return document("Comparison of image sets", parts)


def tables(content: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """Rows of the results by what they rest on, so that values of two networks never stand in one table."""
    groups: dict[str, list[tuple[str, str, str, str]]] = {}
    for row, entry in zip(table_rows(content), content["metrics"].values()):
        network = entry.get("network") or entry.get("features") or {}
        title = "On pixels"
        if network or row[0].startswith("lpips"):
            title = f"In the features of {row[0].partition('[')[2].rstrip(']').removeprefix('rbf, ')}"
        elif row[0] == "memorisation":
            title = "Against the training images"
        groups.setdefault(title, []).append(row)
    return list(groups.items())


def picture(folder: ImageFolder, index: int) -> bytes:
    """An image as a PNG: 2D as it is, 3D as three middle slices, the patient's right on the left."""
    image, spacing = folder[index], folder.spacings[index]
    if folder.spatial_dims == 3:
        panels = slice_panels(image, affine=np.diag([*spacing, 1.0]))[0]
    else:  # the axes of a stored slice point to the right and to the front
        panel = image_panel(image, upright=True) if folder.stored_as_shown else image_panel(image.flip(1, 2))
        panels = [panel if folder.stored_as_shown else panel._replace(size=_extent(image.shape[1:], spacing))]
    return thumbnail([panel._replace(window=(-1.0, 1.0), labels=None) for panel in panels])


def _extent(shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, float]:
    return shape[0] * spacing[0], shape[1] * spacing[1]


def _images(real: ImageFolder, fake: ImageFolder, paired: bool, count: int = 8) -> list[str]:
    count = count if fake.spatial_dims == 2 else 4
    chosen = {"generated": (fake, _sample_of(fake, count)), "real": (real, _sample_of(real, count))}
    parts = ["<p>The same places in both folders.</p>" if paired else "<p>Evenly over each folder, sorted by name.</p>"]
    for title, (folder, indices) in chosen.items():
        wide = "wide" * (folder.spatial_dims == 3)
        figures = [figure(picture(folder, index), folder.names[index], wide) for index in indices]
        parts.append(f"<h3>{title}</h3>{side_by_side(figures)}")
    return parts


def _plots(real: ImageFolder, fake: ImageFolder, features: Mapping[str, tuple[Tensor, Tensor]]) -> list[str]:
    """Grey values of a sample of both sets, and both sets in the plane of each network's features."""
    values = {
        title: np.concatenate([folder[index].numpy().ravel() for index in _sample_of(folder, _OF_EACH)])
        for title, folder in (("generated", fake), ("real", real))
    }
    counts = " and ".join(str(len(_sample_of(folder, _OF_EACH))) for folder in (fake, real))
    figures = [figure(histogram_plot(values, "grey value, -1 to 1"), f"Grey values of {counts} images.", "plot")]
    for label, (own, other) in features.items():
        if own.shape[1] > 1:
            sets = {"generated": own, "real": other}
            shown = scatter_plot({k: v[_sample_of(v, _POINTS)].numpy() for k, v in sets.items()})  # type: ignore
            figures.append(figure(shown, f"Features of {label}: a point an image.", "plot"))
    return [side_by_side(figures)]


def _extremes(
    content: Mapping[str, Any], real: ImageFolder, fake: ImageFolder, features: Mapping[str, tuple[Tensor, Tensor]]
) -> list[str]:
    """Best and worst cases: of pairs by a metric of pairs, otherwise by the distance to the nearest real image."""
    ranked = next(
        (
            (label, np.array(entry["per_case"], dtype=np.float64), METRICS[entry["metric"]].read.startswith("higher"))
            for label, entry in content["metrics"].items()
            if METRICS.get(entry["metric"]) and METRICS[entry["metric"]].kind == "pairs" and entry.get("per_case")
        ),
        None,
    )
    if ranked is not None and len(ranked[1]) == len(fake) == len(real):
        label, values, higher = ranked
        titles = ("Best", "Worst")
        partners, by = list(range(len(fake))), f"by {label}, beside the real image of the same name"
        order = np.argsort(-values if higher else values, kind="stable")
        order = order[~np.isnan(values[order])]
    elif features:
        label, (own, other) = next(iter(features.items()))
        found = [torch.cdist(part.double(), other.double()).min(1) for part in own.split(_AT_ONCE)]
        values = torch.cat([nearest.values for nearest in found]).numpy()
        partners = torch.cat([nearest.indices for nearest in found]).tolist()
        titles = ("Nearest", "Farthest")
        by = f"by the distance to the nearest real image in the features of {label}, which stands beside it"
        order = np.argsort(values, kind="stable")
    else:
        return []
    count = min(_SHOWN, len(order) // 2)
    parts = []
    for title, chosen in zip(titles, (order[:count], order[::-1][:count])):
        figures = []
        for index in map(int, chosen):
            about = f"{fake.names[index]}: {values[index]:.4g}"
            figures.append(figure(picture(fake, index), about, "wide" * (fake.spatial_dims == 3)))
            name = f"real, {real.names[partners[index]]}"
            figures.append(figure(picture(real, partners[index]), name, "wide" * (real.spatial_dims == 3)))
        parts.append(f"<h3>{title}</h3>{side_by_side(figures)}")
    return [f"<h2>Best and worst</h2><p>Ranked {safe(by)}.</p>", *parts] if count else []


def _sample_of(images: Sequence[Any], count: int) -> list[int]:
    """Positions of at most ``count`` images, evenly over the folder."""
    return sorted({int(v) for v in np.linspace(0, len(images) - 1, min(count, len(images))).round()})


def _verdict(metrics: Mapping[str, Any], audit_picture: str | Path | None) -> list[str]:
    entry = metrics.get("memorisation")
    if entry is None:
        return []
    kind = "copies" if entry["copies"] else "clean"
    parts = ["<h2>Copies of training images</h2>", paragraph(entry["verdict"], kind)]
    if audit_picture is not None:
        worst = address(Path(audit_picture).read_bytes())
        parts.append(f'<img class="audit" alt="worst pairs" src="{worst}">')
    return parts


def _definitions(metrics: Mapping[str, Any]) -> str:
    used = [name for name in METRICS if any(entry["metric"] == name for entry in metrics.values())]
    rows = [(name, METRICS[name].definition, METRICS[name].read, METRICS[name].source) for name in used]
    return table(("metric", "definition", "reading", "source"), rows)


def _facts(content: Mapping[str, Any]) -> str:
    context = content["context"]
    rows = [(side, _flat(context[side])) for side in ("real", "fake", "train") if side in context]
    rows += [("reading", _flat(context["reading"]))]
    rows += [("network", _flat(network)) for network in context["networks"]]
    rows += [(key, str(context[key])) for key in ("command", "seed") if key in context]
    rows += [
        ("intervals", "95 %; metrics.json says for each metric how it was found"),
        ("seconds", str(content["seconds"])),
    ]
    rows += [("versions", _flat(content["versions"]))]
    return table(("what", "value"), rows)


def _flat(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in values.items() if value is not None)
