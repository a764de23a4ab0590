"""Metrics made by their names, as a command line and the ``evaluate.json`` of a bundle give them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .entries import METRICS


def known(names: Any) -> list[str]:
    """
    Metric names as given on a command line ("fid,kid" or a list), in the order of the catalogue.

    Raises:
        ValueError: for a name that is not in ``METRICS`` or belongs to bundles; lists those that can be named.
    """
    given = [part.strip() for part in names.split(",")] if isinstance(names, str) else [str(part) for part in names]
    possible = [name for name, entry in METRICS.items() if entry.kind != "bundle"]
    unknown = [name for name in given if name not in possible]
    if unknown or not given:
        raise ValueError(f"No metric {', '.join(map(repr, unknown))}; there are {', '.join(possible)}.")
    return [name for name in possible if name in given]


def metrics_by_name(
    names: Sequence[str],
    networks: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **shared: Any,
) -> dict[str, Any]:
    """
    Metrics by their names, as an ``evaluate.json`` lists them.

    A name is one of ``METRICS``; with ``_real`` behind it where the metric looks at one set and the real one is meant;
    with the key of a feature network in brackets, ``fid[v1]``, where it is not the first of ``networks``.

    Args:
        names: such as ``["kid", "fid[v1]", "ms_ssim_real"]``.
        networks: key -> feature network; the metrics of a network that is None are left out.
        options: name -> further arguments of this metric's class; without brackets, for every network.
        shared: given to every class that takes an argument of that name (see ``Entry.given``), such as ``spacing``,
            ``device``, ``lpips_weights``, ``classifier``; a metric whose argument is None here is left out.

    Returns:
        Name -> metric.

    Raises:
        ValueError: for an unknown name or network, of a metric or an option, or where a class needs an argument.

    >>> list(metrics_by_name(["ssim", "acutance_real", "lpips"], spacing=1.0, lpips_weights=None))
    ['ssim', 'acutance_real']
    """
    return {name: make() for name, make in metric_makers(names, networks, options, **shared).items()}


def metric_makers(
    names: Sequence[str],
    networks: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **shared: Any,
) -> dict[str, Callable[[], Any]]:
    """Name -> makes a new metric, for tables of several methods; arguments as of ``metrics_by_name``."""
    networks, given = dict(networks or {}), dict(options or {})
    makers: dict[str, Callable[[], Any]] = {}
    for full in given:
        _parsed(full, networks)  # one that is not measured here may have options; one that there is not, may not
    for full in names:
        name, of, key = _parsed(full, networks)
        entry = METRICS[name]
        made_by = entry.metric_class()
        arguments: dict[str, Any] = {**entry.arguments, **({"of": of} if of else {})}
        parameters = inspect.signature(made_by).parameters
        if "features" in parameters and entry.kind != "sets" and key:
            arguments["features"] = networks[key]
        for parameter in parameters:
            source = entry.given.get(parameter, parameter)
            if source in shared:
                arguments[parameter] = shared[source]
        if any(value is None for value in arguments.values()):
            continue
        arguments |= {**given.get(name, {}), **given.get(full, {})}
        missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in arguments]
        if missing:
            needed = ", ".join(entry.given.get(argument, argument) for argument in missing)
            raise ValueError(f"The metric {full} needs {needed}.")
        makers[full] = functools.partial(made_by, **arguments)
    return makers


def _parsed(full: str, networks: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name in the catalogue, "real" or "generated" where it looks at one set, and key of the network."""
    name, _, key = full.removesuffix("]").partition("[")
    of = ""
    if name not in METRICS and METRICS.get(name.removesuffix("_real"), METRICS["fid"]).one_set:
        name, of = name.removesuffix("_real"), "real"
    if name not in METRICS:
        raise ValueError(f"No metric {full!r}; there are {', '.join(METRICS)}.")
    if key and key not in networks:
        raise ValueError(f"{full} names a network that is not among {', '.join(networks)}.")
    return name, of or "generated" * METRICS[name].one_set, key or next(iter(networks), "")
