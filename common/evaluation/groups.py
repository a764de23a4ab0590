"""What the images of folders belong to, such as patients: told by their names, or by a table beside them."""

from __future__ import annotations

from collections.abc import Mapping

from ..data.finder import MANIFEST, stem_of
from ..data.subjects import subject_rule
from ..metrics.groups import shared_groups
from ..utils.files import read_csv, read_table
from .folders import ImageFolder


def groups_of_folders(
    folders: Mapping[str, ImageFolder], subject_of: str | None = None, group_by: str | None = None
) -> dict[str, list[str]]:
    """
    The group of each image of each folder, for intervals that draw whole groups.

    A generated image is of the group of real images that its name or a table names, or has the group of the real image
    of its name; any other stands for itself, as an image that no patient is behind.

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
    groups, rule = _named if subject_of else _listed, str(subject_of or group_by)
    found = {name: groups(folder, rule) for name, folder in folders.items() if name != "fake"}
    fake, real = folders.get("fake"), folders.get("real")
    if fake is not None and real is not None and fake.names == real.names:
        found["fake"] = found["real"]
    elif fake is not None:
        known = {name for names in found.values() for name in names}
        found["fake"] = [name if name in known else None for name in groups(fake, rule, strict=False)]
    named = {
        side: [f"{side} image {i}" if name is None else name for i, name in enumerate(names)]
        for side, names in found.items()
    }
    if fake is not None and found["fake"] is found.get("real"):
        named["fake"] = named["real"]
    return named if any(shared_groups(names) for names in named.values()) else {}


def _named(folder: ImageFolder, rule: str, strict: bool = True) -> list[str | None]:
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


def _listed(folder: ImageFolder, column: str, strict: bool = True) -> list[str | None]:
    path = folder.path / MANIFEST
    if strict and not path.is_file():
        raise FileNotFoundError(f"No {path}, whose column {column!r} would say what belongs together.")
    if not strict and not (path.is_file() and {"path", column} <= set(read_table(path)[0])):
        return [None] * len(folder)
    listed = {row["path"]: row[column] for row in read_csv(path, ("path", column), "a table of the images")}
    names = [file.relative_to(folder.path).as_posix() for file in folder.files]
    absent = [name for name in names if name not in listed]
    if strict and absent:
        raise ValueError(f"{path} does not list {len(absent)} of {len(names)} images, such as {absent[0]}.")
    return [listed.get(name) or None for name in names]
