"""What outputs are called, and which files belong to an input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..utils.files import write_csv
from .finder import ending_of, is_image, kind_of, stem_of


class OutputNames:
    """
    What the outputs of each input are called, without postfix and ending: after it, or by numbers alone.

    Args:
        files: all inputs of a run.
        root: folder whose sub-folders come again in the output folder; None for none.
        anonymous: whether outputs are called "case_0001" and so on, in the order of ``files``, in no sub-folder, and
            records leave out the names of inputs.
        table: CSV file that ``write_table`` then makes, which says whose outputs they are; None for none.
        leave_off: ends of names that are left off, such as "_t1" of the first of a case's files.
        own_folder: whether the outputs of each input lie in a folder of its name.

    Raises:
        ValueError: for a table of names that are not anonymous.

    Example:
        >>> OutputNames(["in/b/1.dcm"], "in").of("in/b/1.dcm")
        'b/1'
        >>> OutputNames(["in/b/1.dcm"], anonymous=True).of("in/b/1.dcm")
        'case_0001'
    """

    def __init__(
        self,
        files: Sequence[str | Path] = (),
        root: str | Path | None = None,
        anonymous: bool = False,
        table: str | Path | None = None,
        leave_off: Sequence[str] = (),
        own_folder: bool = False,
    ) -> None:
        if table and not anonymous:
            raise ValueError(f"names_table {table}: a table of names belongs to --anonymous_names True.")
        self.root, self.anonymous, self.table = root, anonymous, table
        self.leave_off, self.own_folder = tuple(leave_off), own_folder
        self._numbers = {str(file): number for number, file in enumerate(files, 1)}

    def place(self, file: str | Path) -> Path:
        """The sub-folder of ``root`` that an input lies in; empty where it lies elsewhere."""
        path = Path(os.path.abspath(file))
        root = None if self.root is None else os.path.abspath(self.root)
        return path.parent.relative_to(root) if root and Path(root) in path.parents else Path()

    def of(self, file: str | Path) -> str:
        """The name of an input's outputs, with their sub-folder."""
        if not self.anonymous:
            stem = stem_of(file)
            name = next((stem.removesuffix(end) for end in self.leave_off if stem.endswith(end)), stem)
            return (self.place(file) / name / name if self.own_folder else self.place(file) / name).as_posix()
        if str(file) not in self._numbers:
            raise ValueError(f"{file}: no input of this run, so it has no anonymous name.")
        return f"case_{self._numbers[str(file)]:04d}"

    def write_table(self) -> None:
        """Write the table where one is asked for: name and input, one line each."""
        if self.table:
            write_csv(self.table, ("name", "file"), [(self.of(one), one) for one in self._numbers])


def find_partner(where: str | Path, image: str | Path, place: str | Path = "") -> str:
    """
    The hole, mask or other file that belongs to an image.

    Args:
        where: the file itself, or a folder that holds one with the stem of ``image``.
        image: whose stem is looked for.
        place: sub-folder of ``where`` that is looked into where there is one.

    Returns:
        Its path; the file may be missing.

    Raises:
        ValueError: for a folder that holds several of that stem.
    """
    if not Path(where).is_dir():
        return str(where)
    folder = Path(where) / place if (Path(where) / place).is_dir() else Path(where)
    found = [path for path in sorted(folder.glob("*")) if is_image(path) and stem_of(path) == stem_of(image)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: one file called {stem_of(image)} was expected for {image}, got {names}.")
    return str(found[0] if found else folder / Path(image).name)


def output_ending(path: str | Path) -> str:
    """
    Ending of the output for an input: the same format, PNG for JPEG.

    JPEG would change the restored pixels again, and known pixels with them.
    """
    nifti = ".nii.gz" if ending_of(path).lower() == ".nii.gz" else ".nii"
    return {"nifti": nifti, "raster": ".png", "dicom": ".dcm"}[kind_of(path)]


def output_paths(
    image: str | Path,
    output_dir: str | Path,
    postfix: str,
    maps: Sequence[str] = (),
    ending: str | None = None,
    names: OutputNames | None = None,
) -> dict[str, Path]:
    """
    Where the results of an image go.

    Args:
        image: that they are made from.
        output_dir: folder of the outputs.
        postfix: what follows the name, after "_"; nothing if empty.
        maps: names of further results, which follow once more.
        ending: of all; None for ``output_ending``.
        names: of outputs; None for the stem of ``image``.

    Returns:
        ``{"pred": path}``, with one path a map.

    Example:
        >>> paths = output_paths("a.jpg", "out", "sr", ["std"])
        >>> [path.as_posix() for path in paths.values()]
        ['out/a_sr.png', 'out/a_sr_std.png']
    """
    start = "_".join(filter(None, ((names or OutputNames()).of(image), postfix)))
    ending = output_ending(image) if ending is None else ending
    called = {"pred": start, **{name: f"{start}_{name}" for name in maps}}
    return {key: Path(output_dir) / f"{name}{ending}" for key, name in called.items()}


def channel_paths(path: Path, names: Sequence[str]) -> list[Path]:
    """
    A file for each channel of an image, instead of one for all.

    Example:
        >>> [one.name for one in channel_paths(Path("a_mr.nii.gz"), ["t1", "t2"])]
        ['a_mr_t1.nii.gz', 'a_mr_t2.nii.gz']
    """
    return [path.with_name(f"{stem_of(path)}_{name}{ending_of(path)}") for name in names]
