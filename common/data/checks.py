"""What a run looks at before it starts: what is done already, and which inputs can be used."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..networks.device import check_inference
from ..utils.files import NAME_BYTES, sha256_of, write_csv
from .dataset import CheckedDataset
from .dicom_volumes import is_whole
from .finder import EXPECTED, MAPS, stem_of
from .image_file import Unsuitable, check_same, read_record, source_record
from .names import OutputNames, channel_paths, find_partner, output_paths
from .reader import read_image

_NOT_COMPARED = ("outputs", "std_of_one_step", "quality")  # follow from the rest

logger = logging.getLogger(__name__)


def pending_cases(
    files: Sequence[str],
    output_dir: str | Path,
    postfix: str,
    num_samples: int = 1,
    ending: str | None = None,
    also: Sequence[str] = (),
    hole: str | Path | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    source_name: str = "image",
    names: OutputNames | None = None,
    partners: Mapping[str, str | Path | Mapping[str, str] | None] | None = None,
    channels: Sequence[str] = (),
) -> list[dict[str, str]]:
    """
    One case for each file that is not done: its outputs are missing or cannot be read.

    Args:
        files: inputs.
        output_dir: folder of the outputs.
        postfix: see ``output_paths``, as ``ending``.
        num_samples: with more than one, mean and standard deviation are outputs too.
        also: what further outputs end in, after stem and postfix, e.g. "_preview.png".
        hole: see ``find_partner``; None for cases without.
        overwrite: take every file, whatever is there.
        provenance: what makes the outputs, as ``SaveImaged`` has it, for the comparison with what made those there.
        source_name: as in ``SaveImaged``.
        names: of outputs; None for the stems of ``files``.
        partners: further files of a case by their keys, as ``hole``, or those of each file; None is left out.
        channels: names of those that ``SaveImaged`` writes one by one.

    Returns:
        ``{"image": file}`` a case, with "hole" where ``hole`` is given and the partners, in the order of ``files``.

    Raises:
        FileExistsError: when an output is there that was made from another input, or with other weights or settings.
        ValueError: when the name of an output would be too long, or a case has several partners.
    """
    names = names or OutputNames()
    cases = []
    places = {key: where for key, where in {"hole": hole, **(partners or {})}.items() if where is not None}
    for file in files:
        case = {"image": file}
        for key, where in places.items():
            case[key] = where[file] if isinstance(where, Mapping) else find_partner(where, file, names.place(file))
        paths = output_paths(file, output_dir, postfix, MAPS if num_samples > 1 else (), ending, names)
        others = [path for name, path in paths.items() if name != "pred"]
        others += [paths["pred"].with_name(f"{stem_of(paths['pred'])}{end}") for end in also]
        record = paths["pred"].with_name(f"{stem_of(paths['pred'])}.json")
        if max(len(os.fsencode(path.name)) for path in (paths["pred"], record, *others)) > NAME_BYTES:
            raise ValueError(f"{file}: the name of its result is too long: rename it, or --anonymous_names True.")
        # a missing file is named by check_run
        if overwrite or not all(Path(value).exists() for value in case.values()):
            cases.append(case)
            continue
        sources = {source_name if key == "image" else key: value for key, value in case.items()}
        first, *rest = channel_paths(paths["pred"], channels) or [paths["pred"]]
        if not is_done(first, [*rest, *others], provenance or {}, sources, names.anonymous, record):
            cases.append(case)
    return cases


def is_done(
    path: Path,
    others: Sequence[Path],
    provenance: Mapping[str, Any],
    sources: Mapping[str, str] | None = None,
    anonymous: bool = False,
    record_path: Path | None = None,
) -> bool:
    """
    Whether an image is there, made as this run would make it, and can be read, with all that stands beside it.

    Args:
        path: of the image; its record is the JSON file of the same stem.
        others: files that are written with it.
        provenance: what this run would record, without the sources.
        sources: files that the image is made from, by their names in the record.
        anonymous: whether the record leaves out what they are called.
        record_path: of the record, where several images have one.

    Raises:
        FileExistsError: when it is there, or its record, and it was made otherwise, or nobody knows how.
    """
    record_path = record_path or path.with_name(f"{stem_of(path)}.json")
    found = read_record(record_path)
    if found is None:
        if path.exists() or record_path.is_file():
            there = "a record that can be read" if record_path.is_file() else f"its record {record_path.name}"
            raise FileExistsError(
                f"{path} is there without {there}, so it is unknown how it was made: choose another output_dir, or "
                "--overwrite True."
            )
        return False
    wanted: dict[str, Any] = dict(provenance)
    for name, file in (sources or {}).items():
        wanted |= source_record(name, None if anonymous else file, sha256_of(file))
    ignored = _NOT_COMPARED if "seed" in provenance else (*_NOT_COMPARED, "seed")  # the case's, which follows
    check_same(path, found, wanted, ignored)
    return all(opens(one) for one in (path, *others))


def opens(path: str | Path) -> bool:
    """Whether an image is there and complete, to its last pixel; with a notice where it is there and is not."""
    if not Path(path).exists():
        return False
    if Path(path).is_dir():
        return is_whole(Path(path))
    try:
        read_image(path)
    except Unsuitable:
        pass  # whole, though it is no input
    except (OSError, ValueError) as error:
        logger.warning("%s; it is made again.", str(error).rstrip("."))
        return False
    return True


def check_run(
    files: Sequence[str],
    dataset: CheckedDataset,
    output_dir: str | Path,
    dataset_dir: str | Path = "",
    network: Any = None,
    spatial_dims: int = 3,
    expected: str = EXPECTED,
    argument: str = "image",
    skip_bad: bool = False,
    names: OutputNames | None = None,
    batch_size: int = 1,
) -> int:
    """
    Look at everything that a run needs before it starts: its inputs, one by one, and its output folder.

    Args:
        files: all inputs.
        dataset: of the cases to be done, see ``pending_cases``.
        output_dir: made where it is missing.
        dataset_dir: where the inputs were looked for, for the message.
        network: whose memory is estimated for the largest case; None for no estimate.
        spatial_dims: of what the network sees at once; further axes of a case are taken one by one.
        expected: what was looked for, for the message, as ``argument``, which names one file.
        skip_bad: leave out inputs that cannot be used, and list them in ``output_dir``/skipped.csv, file and reason;
            ``dataset.finish`` then ends the run with a status of its own.
        names: of outputs, whose table is written; None for the stems of ``files``.
        batch_size: cases that the network sees at once, for the estimate.

    Returns:
        The number of cases to be done.

    Raises:
        FileNotFoundError: when there is no input at all.
        ValueError: when inputs cannot be used, or two would have the same output; every file is named with its reason.
        OSError: when the output folder cannot be written.
        MemoryError: when the largest case needs more memory than is free.
    """
    if not files:
        found = f"No image in {dataset_dir}" if Path(dataset_dir).is_dir() else f"{dataset_dir} is no folder"
        where = f"set dataset_dir to a folder of them, or {argument} to one file"
        raise FileNotFoundError(f"{found} ({expected} was expected): {where}.")
    names = names or OutputNames()
    check_names(files, names)
    pending = {value for case in dataset.data for value in case.values()}
    shapes = dataset.check(skip_bad)
    check_folder(output_dir)
    names.write_table()
    if skip_bad:
        dataset.listed_in = str(Path(output_dir) / "skipped.csv")
        _write_skipped(Path(dataset.listed_in), dataset.skipped, names)
    if network is not None:
        try:
            together = min(batch_size, len(dataset.data))
            check_inference(network, [shape[: spatial_dims + 1] for shape in shapes], batch_size=together)
        except MemoryError as error:
            raise MemoryError(f"{dataset.largest}: {error}") from error
    skipped = [Path(file).name for file in files if file not in pending]
    if skipped:
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        logger.info(
            f"{len(skipped)} of {len(files)} already in {output_dir}, skipped ({shown}); --overwrite True redoes them."
        )
    return len(dataset.data)


def _write_skipped(path: Path, skipped: Mapping[str, str], names: OutputNames) -> None:
    path.unlink(missing_ok=True)
    if names.anonymous:  # a reason may name the input again, or a hole of the same name
        skipped = {
            names.of(file): reason.replace(file, names.of(file)).replace(stem_of(file), names.of(file))
            for file, reason in skipped.items()
        }
    if skipped:
        write_csv(path, ("file", "reason"), skipped.items())


def check_names(files: Collection[str], names: OutputNames | None = None) -> None:
    """Raises ValueError when two of ``files`` have the same output."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault((names or OutputNames()).of(file), file)
        if other != file:
            raise ValueError(f"{other} and {file} would be written to the same output: rename one of them.")


def check_folder(folder: str | Path, argument: str = "output_dir") -> None:
    """
    Make a folder, which an argument names, and write to it, as a run will.

    Raises:
        OSError: when it cannot be made or written; the message names it.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(error.errno, f"{argument} cannot be written ({error.strerror})", str(folder)) from error
