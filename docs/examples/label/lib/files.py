"""Files that a request may name; data for a training, and a place for its weights beside the shipped ones."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

ENDING = re.compile(r"(?:\.nii)?\.\w+$")


def may_read(path: str, datastore: str, sent: Iterable[str]) -> bool:
    """
    Whether a request may name a file or folder of the server.

    Args:
        path: as the request names it.
        datastore: folder of the datastore. Its owner may have linked files into it.
        sent: folders of what clients send, out of which no link leads.
    """
    if not os.path.exists(path):
        return False
    named, real = Path(os.path.abspath(path)), Path(path).resolve()
    in_datastore = named.exists() and Path(os.path.abspath(datastore)) in named.parents
    return in_datastore or any(Path(folder).resolve() in real.parents for folder in sent)


def weights_of(root: Path) -> list[str]:
    """Names of the weights that a bundle can be served with: those that it came with, then those trained here."""
    return ["model.pt", *sorted(path.name for path in (root / "models").glob("label_*.pt"))]


def new_run(root: Path, name: str) -> Path:
    """
    Make the folder of a training, which keeps its name from any other.

    Args:
        root: folder of the bundle.
        name: of letters, digits, "-" and "_"; the weights will be ``models/label_NAME.pt``.

    Returns:
        ``train_output/label_NAME`` of the bundle.

    Raises:
        ValueError: for another name, or one that a training has had.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ValueError(f"publish_as: a name of letters, digits, '-' and '_' was expected, got {name!r}.")
    run = root / "train_output" / f"label_{name}"
    if run.exists() or (root / "models" / f"{run.name}.pt").exists():
        raise ValueError(f"publish_as: {run.name} is there already; another name was expected.")
    run.mkdir(parents=True)
    return run


def lay_out(cases: Mapping[str, Mapping[str, str]], folder: Path) -> None:
    """
    Link the files of a datastore as a bundle's training finds them.

    Args:
        cases: by the name of the case, its files by the folder for them, ``{"case": {"images": "a.nii.gz", "labels":
            "b.nii.gz"}}``; "" is ``folder`` itself.
        folder: made where it is missing.
    """
    for name, files in cases.items():
        for place, file in files.items():
            link = folder / place / (name + "".join(ENDING.findall(file)))
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(file).resolve())


def publish(run: Path, root: Path) -> Path:
    """
    Put the weights of a training that has ended where they are served from, with the record of their settings.

    Args:
        run: from ``new_run``; ``run/result`` holds model.pt and model.json.
        root: folder of the bundle.

    Returns:
        The path of the weights. No file that was there has changed.

    Raises:
        FileNotFoundError: when the training left no weights or no record of them.
        FileExistsError: when weights of that name are there.
    """
    target = root / "models" / f"{run.name}.pt"
    # the weights last, since they are what is offered
    sources = [run / "result" / f"model{ending}" for ending in (".json", ".pt")]
    for source in sources:
        if not source.is_file():
            raise FileNotFoundError(f"{source}: the training has not left it, so nothing is published.")
    if target.exists():
        raise FileExistsError(f"{target} is there already and is left as it is.")
    target.parent.mkdir(exist_ok=True)
    for source in sources:
        hidden = target.with_name(f".{target.stem}{source.suffix}")
        shutil.copyfile(source, hidden)
        os.replace(hidden, target.with_suffix(source.suffix))
    return target
