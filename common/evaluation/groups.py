"""What the images of folders belong to, such as patients: told by their names, or by a table beside them."""

from __future__ import annotations

from collections.abc import Mapping

from ..data.finder import MANIFEST, stem_of
from ..data.subjects import subject_rule
from ..metrics.groups import named_groups, shared_groups
from ..utils.files import read_csv
from .folders import ImageFolder


def groups_of_folders(
    folders: Mapping[str, ImageFolder], subject_of: str | None = None, group_by: str | None = None
) -> dict[str, list[str]]:
    """
    The group of each image of each folder, for intervals that draw whole groups.

    Where the folders of real and of generated images hold the same names, both versions of an image are of its group.
    Any other generated image stands for itself, as one that no patient is behind, unless the rule finds the group of a
    real image in its name.

    Args:
        folders: by the names of their arguments: "fake" of generated images, the others of real ones.
        subject_of: rule that tells the group by a file's name without its ending, see ``data.subjects.subject_rule``.
        group_by: column of the ``manifest.csv`` in the folder, whose column "path" names the files; an empty entry is
            an image for itself.

    Returns:
        Names of the groups of the images of each folder; nothing where every image stands for itself.

    Raises:
        FileNotFoundError: when a folder of real images has no table.
        ValueError: for both ways at once, a real image of which they say nothing, or a table without the column.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("p1_a", "p1_b", "p2_a"):
    ...         Image.new("L", (4, 4)).save(f"{folder}/{name}.png")
    ...     groups_of_folders({"real": ImageFolder(folder)}, subject_of="(p[0-9]+)")
    {'real': ['p1', 'p1', 'p2']}
    """
    if subject_of and group_by:
        raise ValueError("--subject_of and --group_by both say what belongs together; give one of them.")
    if not subject_of and not group_by:
        return {}
    named: dict[str, list[str]] = {}
    for side, folder in folders.items():
        if side != "fake":
            of_side = _subjects(folder, subject_of) if subject_of else _listed(folder, str(group_by))
            named[side] = named_groups(of_side, side)
    fake, real = folders.get("fake"), folders.get("real")
    if fake is not None and real is not None and fake.names == real.names:
        named["fake"] = named["real"]
    elif fake is not None:
        known = {name for names in named.values() for name in names}
        found = _subjects(fake, subject_of, strict=False) if subject_of else [None] * len(fake)
        named["fake"] = named_groups([name if name in known else None for name in found], "fake")
    return named if any(map(shared_groups, named.values())) else {}


def _subjects(folder: ImageFolder, rule: str, strict: bool = True) -> list[str | None]:
    """By the names of the files; where ``strict`` is False, None for a name that the rule does not match."""
    subject = subject_rule(rule)
    found: list[str | None] = []
    for file in folder.files:
        try:
            found.append(str(subject(stem_of(file))))
        except ValueError:
            if strict:
                raise
            found.append(None)
    return found


def _listed(folder: ImageFolder, column: str) -> list[str | None]:
    """By the table of the folder; None for an empty entry."""
    path = folder.path / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"No {path}, whose column {column!r} would say what belongs together.")
    listed = {row["path"]: row[column] for row in read_csv(path, ("path", column), "a table of the images")}
    names = [file.relative_to(folder.path).as_posix() for file in folder.files]
    absent = [name for name in names if name not in listed]
    if absent:
        raise ValueError(f"{path} does not list {len(absent)} of {len(names)} images, such as {absent[0]}.")
    return [listed[name] or None for name in names]
