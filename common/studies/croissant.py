"""A description of a synthetic set that other tools read: Croissant 1.1, ``croissant.json`` beside the manifest."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.finder import MANIFEST
from ..utils.files import sha256_of, write_json
from .synthetic import RECORDED, synthetic_cases, synthetic_record

NAME = "croissant.json"
_TYPES = {"number": "sc:Integer", "seed": "sc:Integer", "steps": "sc:Integer", "synthetic": "sc:Boolean"}
_PRIVACY = (
    "None: every image is generated and depicts no real patient. No audit for copies of training images is implied."
)
# The names of Croissant 1.1 (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html).
_CROISSANT = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty"),
    *(
        "fileObject",
        "fileSet",
        "format",
        "includes",
        "isArray",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
    ),
    *("path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator", "source"),
    *("subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{name: f"cr:{name}" for name in _CROISSANT},
}


def write_croissant(folder: str | Path, bundle_root: str | Path) -> Path:
    """
    Describe a complete synthetic set: what it is, what made it, under which terms, and its files.

    Args:
        folder: of the set, with its manifest, see ``write_manifest``.
        bundle_root: of the bundle that drew it, whose ``configs/metadata.json`` and ``docs/data_license.txt`` are read.

    Returns:
        ``folder/croissant.json``.

    Raises:
        FileNotFoundError: when the set is not complete, or the bundle lacks one of the two.
        ValueError: when an image is not as the manifest says.
    """
    folder, root = Path(folder), Path(bundle_root)
    cases = synthetic_cases(folder)
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    written = datetime.datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, datetime.UTC)
    content = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        **_about(cases, metadata),
        "datePublished": written.date().isoformat(),
        "license": (root / "docs" / "data_license.txt").read_text(encoding="utf-8"),
        "distribution": _files(folder),
        "recordSet": [_rows()],
    }
    return write_json(folder / NAME, content, 1, ensure_ascii=False)


def _about(cases: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the images show and what made them, from the bundle's metadata and the record of an image of each class."""
    first = {case["class"]: case["image"] for case in reversed(cases)}  # with a model a class, weights differ
    records = [synthetic_record(path) or {} for _, path in sorted(first.items())]
    made, classes = records[0], sorted(first)
    return {
        "name": f"{made['bundle']}_synthetic_{made['weights_sha256'][:8]}_seed_{made['set_seed']}",
        "description": f"{len(cases)} synthetic images of {', '.join(classes)}. {metadata['description']}",
        "version": metadata["version"],
        "citeAs": metadata["references"][0],
        "creator": {"@type": "sc:Organization", "name": metadata["authors"]},
        "keywords": ["synthetic", "generated", *classes],
        "isLiveDataset": False,
        "isBasedOn": metadata["data_source"],
        "rai:dataCollectionType": "Synthetic",
        "rai:dataCollection": _how(records),
        "rai:dataUseCases": metadata["intended_use"],
        "rai:personalSensitiveInformation": _PRIVACY,
    }


def _how(records: Sequence[Mapping[str, Any]]) -> str:
    made = records[0]
    weights = dict.fromkeys(f"{one['weights']} (SHA-256 {one['weights_sha256']})" for one in records)
    settings = ("step_rule", "steps", "level_spacing", "guidance_scale", "spacing", "precision", "batch_size")
    told = ", ".join(f"{name} {made[name]}" for name in settings if name in made)
    return (
        f"Drawn by the bundle {made['bundle']} {made['version']}, weights {', '.join(weights)}, seed of the set "
        f"{made['set_seed']}, {told}. Each image says so in its header."
    )


def _files(folder: Path) -> list[dict[str, Any]]:
    """The manifest, and the images, which lie beside it in a folder a class."""
    manifest = {
        "@type": "cr:FileObject",
        "@id": MANIFEST,
        "name": MANIFEST,
        "contentUrl": MANIFEST,
        "encodingFormat": "text/csv",
        "sha256": sha256_of(folder / MANIFEST),
    }
    about = {"description": "one file an image; path and SHA-256 of each are in the manifest"}
    images = {"@type": "cr:FileSet", "@id": "images", "name": "images", **about, "encodingFormat": "image/png"}
    return [manifest, {**images, "includes": "*/*.png"}]


def _rows() -> dict[str, Any]:
    """The rows of the manifest: an image and what made it."""
    columns = ("path", *RECORDED, "synthetic", "sha256")
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"manifest/{name}",
            "name": name,
            "dataType": _TYPES.get(name, "sc:Text"),
            "source": {"fileObject": {"@id": MANIFEST}, "extract": {"column": name}},
        }
        for name in columns
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "manifest",
        "name": "manifest",
        "key": {"@id": "manifest/path"},
        "field": fields,
    }
