"""Rows of a table for the learned baselines, each as its own overlay of inference.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bundle.configs import from_config
from ..transforms.baselines import ByNetwork


def learned_methods(
    names: Sequence[str],
    folder: str | Path,
    given: Mapping[str, Any],
    inferer: str = "sampler",
    scale_key: str | None = "measured_scale",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, ByNetwork]:
    """
    The baselines whose weights are in a folder.

    Args:
        names: of overlays in the bundle's ``configs``, without ending; those that the bundle has not are passed over.
        folder: of their weights, called as their overlays have it; a baseline without weights has no row.
        given: top-level values, see ``from_config``.
        inferer: id of what calls the network in these configs.
        scale_key: of ``ByNetwork``.
        settings: further values of single baselines, such as ``{"pix2pix": {"network_def::channels": [8, 16]}}`` for
            weights of another size.

    Returns:
        The methods by name, for ``MethodImagesd``.

    Example:
        >>> learned_methods(["pix2pix"], "no_such_folder", {"bundle_root": "bundles/med_ddpm_3d"})
        {}
    """
    methods = {}
    for name in names:
        if not (Path(given["bundle_root"]) / "configs" / f"{name}.json").is_file():
            continue
        files = f"inference.json,{name}.json"
        weights = Path(folder) / Path(from_config(f"{files}::weights", given)).name
        if weights.is_file():
            own = {**given, "weights": str(weights), **(settings or {}).get(name, {})}
            network = from_config(f"{files}::checkpointloader", own)
            methods[name] = ByNetwork(network, from_config(f"{files}::{inferer}", own), scale_key=scale_key)
    return methods
