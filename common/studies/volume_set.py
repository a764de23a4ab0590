"""Sets of generated volumes with their masks: what lists them once they are complete, and what is trained on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.checks import is_done, opens
from ..data.finder import MANIFEST, stem_of
from ..data.image_file import read_record
from ..data.lists import Case
from ..data.names import OutputNames, channel_paths, output_paths
from ..data.reader import read_image
from ..masks.files import write_mask
from ..utils.files import read_csv, sha256_of, write_csv, write_json
from ..visualize.panels import slice_panels
from ..visualize.pictures import save_figure, sheet

LAYOUTS = {"plain": ("images", "labels", ""), "nnunet": ("imagesTr", "labelsTr", "0000"), "brats": ("", "masks", "")}
"""Folders of volumes and masks, and what follows the name of a volume: nnU-Net's number of the channel."""

_RECORDED = ("seed", "steps", "step_rule", "weights_sha256")
_SHOWN = 20  # cases of the sheet

logger = logging.getLogger(__name__)


def places(
    output_dir: str | Path, layout: str = "plain", output_format: str = "nifti", anonymous_names: bool = False
) -> dict[str, str]:
    """
    Where a set lies: "images", "labels" and the "postfix" of volumes.

    Raises:
        ValueError: for an unknown layout, and for volumes that would not be NIfTI files named as their masks.

    Example:
        >>> places("out", "nnunet")["images"]
        'out/imagesTr'
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {sorted(LAYOUTS)}, got {layout!r}.")
    if output_format != "nifti" or anonymous_names:
        raise ValueError("A set has NIfTI volumes named as their masks: leave out output_format and anonymous_names.")
    images, labels, postfix = LAYOUTS[layout]
    return {"images": str(Path(output_dir) / images), "labels": str(Path(output_dir) / labels), "postfix": postfix}


def finish_set(
    masks: Sequence[str],
    output_dir: str | Path,
    provenance: Mapping[str, Any],
    labels: Mapping[str, int],
    layout: str = "plain",
    channels: Sequence[str] = (),
    published_labels: Mapping[str, int] | None = None,
    then: str | None = None,
) -> Path | None:
    """
    List a set that is complete: ``manifest.csv``, ``contact_sheet.png``, and ``dataset.json`` for nnU-Net.

    With the layout "brats" each case is a folder of its name, into which its segmentation is written too.

    Args:
        masks: of the set, in the order of the rows.
        output_dir: of the set.
        provenance: what makes the volumes.
        labels: name -> value.
        layout: see ``places``.
        channels: names of the files of each case, such as modalities; none where a volume is one file.
        published_labels: name -> value in segmentations of the layout "brats"; what is not named becomes 0.
        then: what a user does next, to be told at the end.

    Returns:
        Path of the manifest; None where volumes are missing, with a notice.

    Raises:
        FileExistsError: when a volume is there that was made otherwise.
    """
    where = places(output_dir, layout)
    names = OutputNames(own_folder=layout == "brats")
    ending, postfix = ".nii.gz", where["postfix"]
    wholes = [output_paths(mask, where["images"], postfix, ending=ending, names=names)["pred"] for mask in masks]
    files = [channel_paths(whole, channels) or [whole] for whole in wholes]
    missing = _missing(files, masks, wholes, provenance)
    if missing:
        logger.info(f"{len(missing)} volumes of {len(masks)} masks are missing, such as {missing[0]}.")
        return None
    rows = [
        _row(volumes, mask, Path(output_dir), _record_path(whole), channels)
        for volumes, mask, whole in zip(files, masks, wholes)
    ]
    if layout == "brats":
        for mask, whole in zip(masks, wholes):
            place = whole.with_name(f"{stem_of(mask)}_seg.nii.gz")
            _write_segmentation(place, mask, labels, published_labels or labels)
    if layout == "nnunet":
        _write_nnunet(Path(output_dir) / "dataset.json", labels, len(masks))
    shown = [(volume, mask) for volumes, mask in zip(files, masks) for volume in volumes]
    _draw(Path(output_dir) / "contact_sheet.png", shown[:_SHOWN])
    manifest = _write_manifest(Path(output_dir) / MANIFEST, rows)
    logger.info(f"Wrote {manifest}: {len(rows)} volume{'s' * (len(rows) != 1)} with their masks")
    if then:
        logger.info(f"Next: {then}")
    return manifest


def training_cases(
    real: Sequence[Case], synthetic_dir: str | Path, train_on: str = "real_plus_synthetic"
) -> list[Case]:
    """
    What a segmenter is trained on.

    Args:
        real: training cases of the split.
        synthetic_dir: of ``generate.json``, either layout.
        train_on: "real", "synthetic" or "real_plus_synthetic".

    Raises:
        ValueError: for another ``train_on``.
        FileNotFoundError: when the set has no manifest, so that it is not complete.
    """
    if train_on not in (choices := ("real", "synthetic", "real_plus_synthetic")):
        raise ValueError(f"train_on must be one of {choices}, got {train_on!r}.")
    if train_on == "real":
        return list(real)
    root, manifest = Path(synthetic_dir), Path(synthetic_dir) / MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(f"No {manifest}: a set has one once it is complete; run generate.json to its end.")
    rows = read_csv(manifest, ("path", "mask"), "the manifest of a set of volumes")
    names = [stem_of(row["mask"]) for row in rows]
    drawn = [
        {"image": str(root / row["path"]), "label": str(root / row["mask"]), "case": name, "group": name}
        for row, name in zip(rows, names)
    ]
    return drawn if train_on == "synthetic" else [*real, *drawn]


def _record_path(volume: Path) -> Path:
    return volume.with_name(f"{stem_of(volume)}.json")


def _row(
    volumes: Sequence[Path], mask: str, root: Path, record_path: Path, channels: Sequence[str] = ()
) -> dict[str, Any]:
    record, first = read_record(record_path) or {}, volumes[0]
    paths = {"path": first.relative_to(root).as_posix(), "mask": Path(mask).relative_to(root).as_posix()}
    found = {f"quality_{name}": value for name, value in (record.get("quality") or {}).items()}
    row = {**paths, **{k: record.get(k) for k in _RECORDED}, "synthetic": True, "sha256": sha256_of(first), **found}
    return row | {f"sha256_{name}": sha256_of(volume) for name, volume in zip(channels, volumes)}


def _missing(
    files: Sequence[Sequence[Path]], masks: Sequence[str], wholes: Sequence[Path], provenance: Mapping[str, Any]
) -> list[Path]:
    """Volumes that are not there or not done; the last of several processes alone reads them all."""
    absent = [volume for volumes in files for volume in volumes if not volume.is_file()]
    return absent or [
        first
        for (first, *rest), mask, whole in zip(files, masks, wholes)
        if not is_done(first, rest, provenance, {"mask": mask}, record_path=_record_path(whole))
    ]


def _write_nnunet(path: Path, labels: Mapping[str, int], number: int) -> None:
    content = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, **labels},
        "numTraining": number,
        "file_ending": ".nii.gz",
        "description": "Synthetic volumes; see manifest.csv",
    }
    write_json(path, content)


def _draw(path: Path, cases: Sequence[tuple[Path, str]]) -> None:
    """A row a volume, plain and under the contours of its mask."""
    rows = [(slice_panels(volume, mask)[0], f"{stem_of(volume)} (synthetic)") for volume, mask in cases]
    save_figure(sheet([[row[0]._replace(title=title, labels=None), *row] for row, title in rows], width=8.0), path)


def _write_manifest(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))  # a set may be checked in part
    return write_csv(path, columns, [list(map(row.get, columns)) for row in rows], "\n")


def _write_segmentation(path: Path, mask: str, labels: Mapping[str, int], published: Mapping[str, int]) -> None:
    """The labels of a mask as a data set publishes them; a file that cannot be read is written again."""
    if not opens(path):
        image = read_image(mask)
        inside = {value: image.values[0] == value for value in labels.values()}
        segmentation = sum(inside[value] * published.get(name, 0) for name, value in labels.items())
        write_mask(path, np.asarray(segmentation), image.affine)
