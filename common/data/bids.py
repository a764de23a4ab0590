"""Generated volumes as a BIDS derivative: ``python -m common.data.bids OUTPUT --out FOLDER``."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.commands import with_last_line
from ..utils.files import write_json, write_text, written_whole
from .finder import stem_of
from .image_file import read_record

VERSION = "1.10.0"
"""Of the specification (https://bids-specification.readthedocs.io)."""
_ENDINGS = (".nii.gz", ".nii")
_README = """Synthetic MR volumes, generated for segmentation masks. They depict no real patient, each mask is a
subject, and findings in them have no clinical meaning. The JSON file beside each volume says what made it; LICENSE,
where it is there, has the terms of the data from which the weights were made.
"""


def write_bids(
    output: str | Path,
    folder: str | Path,
    suffix: str = "T1w",
    licence: str | Path | None = None,
    skull_stripped: bool = False,
) -> list[Path]:
    """
    Copy generated volumes into a BIDS derivative, in which each mask is a subject.

    Args:
        output: folder of the volumes and their records, as ``med_ddpm_3d`` writes them.
        folder: of the derivative, made where it is missing.
        suffix: contrast that the weights have learnt, a suffix of BIDS for ``anat``.
        licence: a text with the terms of the volumes, e.g. the bundle's ``docs/data_license.txt``; None for none.
        skull_stripped: whether the weights were trained on volumes without skull, which BIDS asks for.

    Returns:
        The volumes written: ``sub-<label>/anat/sub-<label>_desc-synthetic_<suffix>.nii.gz``, where the label is the
        name of the mask without the characters that BIDS does not allow.

    Raises:
        FileNotFoundError: when there is no NIfTI volume with the record of a synthetic image in ``output``.
        ValueError: when two volumes would get the same label; names them.

    >>> write_bids("no_such_folder", "bids")
    Traceback (most recent call last):
    FileNotFoundError: no_such_folder: no generated NIfTI volume with its record (NAME_mr.json) there.
    """
    made = _made(Path(output))
    if not made:
        raise FileNotFoundError(f"{output}: no generated NIfTI volume with its record (NAME_mr.json) there.")
    names: dict[str, Path] = {}
    for volume in made:
        stem = re.sub("_(mr|0000)$", "", stem_of(volume))
        label = re.sub("[^0-9A-Za-z]", "", str(volume.relative_to(output).parent / stem))
        if not label:
            raise ValueError(f"{volume}: a name with letters or digits was expected.")
        if names.setdefault(label, volume) != volume:
            raise ValueError(f"{names[label]} and {volume} would both be sub-{label}: rename a mask.")
    root, written = Path(folder), []
    for label, volume in names.items():
        ending = next(ending for ending in _ENDINGS if volume.name.endswith(ending))
        place = root / f"sub-{label}" / "anat" / f"sub-{label}_desc-synthetic_{suffix}"
        with written_whole(place.with_name(place.name + ending)) as temporary:
            shutil.copyfile(volume, temporary)
        about = {"Description": "Synthetic, no real patient", "SkullStripped": skull_stripped}
        write_json(place.with_name(f"{place.name}.json"), {**about, **made[volume]})
        written.append(place.with_name(place.name + ending))
    _describe(root, sorted({(record["bundle"], record["version"]) for record in made.values()}))
    if licence is not None:
        with written_whole(root / "LICENSE") as temporary:
            shutil.copyfile(licence, temporary)
    return written


def _made(output: Path) -> dict[Path, dict[str, Any]]:
    """The records of generated volumes by the path of the volume."""
    found = {}
    for path in sorted(output.rglob("*.json")):
        record = read_record(path)
        outputs = None if record is None else record.get("outputs")
        name = outputs.get("pred", "") if isinstance(outputs, dict) else ""
        inside = isinstance(name, str) and Path(name).name == name and (path.parent / name).is_file()
        if record is not None and inside and name.endswith(_ENDINGS):
            found[path.parent / name] = record
    return found


def _describe(root: Path, bundles: Sequence[tuple[str, str]]) -> None:
    kind = {"Description": "MONAI bundle, conditional diffusion model"}
    made_by = [{"Name": name, "Version": version, **kind} for name, version in bundles]
    content = {"Name": "Synthetic MR volumes", "BIDSVersion": VERSION, "DatasetType": "derivative"}
    write_json(root / "dataset_description.json", {**content, "GeneratedBy": made_by})
    write_text(root / "README", _README)


@with_last_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: write the derivative and print how many volumes it has."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.bids", description=__doc__)
    parser.add_argument("output", help="folder of generated volumes and their records")
    parser.add_argument("--out", default="bids", help="folder of the derivative (default: bids)")
    parser.add_argument("--suffix", default="T1w", help="contrast of the volumes (default: T1w)")
    parser.add_argument("--licence", help="text with the terms of the volumes, copied to LICENSE")
    parser.add_argument("--skull_stripped", action="store_true", help="the weights know no skull")
    options = parser.parse_args(arguments)
    written = write_bids(options.output, options.out, options.suffix, options.licence, options.skull_stripped)
    print(f"{len(written)} volumes in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
