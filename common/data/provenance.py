"""What made a generated volume: bundle, version, weights and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..utils.files import sha256_of


def provenance(bundle_root: str | Path, weights: str | Path, **settings: Any) -> dict[str, Any]:
    """
    A record to store beside generated volumes.

    Args:
        bundle_root: folder with ``configs/metadata.json``, which knows the bundle's name and version.
        weights: file of the weights, whose SHA-256 is recorded; None stands there while it does not exist.
        settings: anything else that a rerun needs, e.g. ``steps=10``.

    Returns:
        JSON-ready values; "synthetic" is True.
    """
    metadata = Path(bundle_root) / "configs" / "metadata.json"
    about = json.loads(metadata.read_text()) if metadata.is_file() else {}
    return {
        "synthetic": True,
        "bundle": Path(bundle_root).resolve().name,
        "version": about.get("version"),
        "weights": Path(weights).name,
        "weights_sha256": sha256_of(weights) if Path(weights).is_file() else None,
        **settings,
    }


def describe(record: Mapping[str, Any]) -> str:
    """
    A provenance as one line.

    Example:
        >>> describe({"bundle": "med_ddpm_3d", "version": "0.1.0", "seed": 7, "steps": 20})
        'synthetic med_ddpm_3d 0.1.0 seed 7 steps 20'
    """
    parts = ["synthetic", str(record.get("bundle") or ""), str(record.get("version") or "")]
    parts += [f"{name} {record[name]}" for name in ("seed", "steps") if record.get(name) is not None]
    if record.get("weights_sha256"):
        parts.append(f"weights {record['weights_sha256'][:12]}")
    return " ".join(filter(None, parts))
