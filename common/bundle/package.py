"""Pack a bundle as a zip that runs without this repository: ``python -m common.bundle.package --bundle DIR``."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

from ..utils.commands import with_last_line
from ..utils.files import sha256_of, written_whole

# A zip entry's time cannot be earlier; the same for all, so that the same bundle gives the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)
# The folders of a bundle, and the endings of what belongs there.
_BELONGS = {
    "configs": (".json", ".yaml", ".conf"),
    "docs": (".md", ".txt", ".png", ".log", ".json"),
    "models": (".pt", ".npz", ".json"),
    "sample_data": (".nii.gz", ".nii", ".png", ".jpg", ".dcm"),
    "scripts": (".py", ".pt", ".json", ".html", ".js", ".css"),
}
_LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")


def package_bundle(bundle: str | Path, out: str | Path) -> Path:
    """
    Zip what belongs to a bundle under its own folder name, with ``scripts`` and shared configs as real files.

    Args:
        bundle: folder with ``configs/metadata.json``.
        out: folder for the zip, made where it is missing.

    Returns:
        ``out/<bundle name>.zip``; the same bytes for the same files.

    Raises:
        FileNotFoundError: when ``bundle`` has no ``configs/metadata.json`` or no LICENSE.
        ValueError: when a link leads to a place that the bundle has no business with.
    """
    root = Path(bundle).resolve()
    for required in ("configs/metadata.json", "LICENSE"):
        if not (root / required).is_file():
            raise FileNotFoundError(f"{bundle} is no bundle that can be packed: {required} is missing.")
    files = bundle_files(root)
    target = Path(out) / f"{root.name}.zip"
    with written_whole(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(f"{root.name}/{path.as_posix()}", _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            content = (root / path).read_bytes()
            archive.writestr(entry, _page(content.decode(), path, root, files) if path.suffix == ".md" else content)
    return target


def bundle_files(root: Path) -> list[Path]:
    """
    The files that belong to a bundle, relative to its root, sorted.

    Raises:
        ValueError: when one of them lies outside the bundle, ``common`` and the configs of the other bundles.
    """
    files = [Path("LICENSE")]
    for top, endings in _BELONGS.items():
        for folder, names, found in os.walk(root / top, followlinks=True):
            names[:] = [name for name in names if not name.startswith((".", "__pycache__"))]
            paths = [Path(folder) / name for name in found if name.endswith(endings) and not name.startswith(".")]
            files += [path.relative_to(root) for path in paths]
    allowed = (root, root.parents[1] / "common", *root.parent.glob("*/configs"))
    for path in files:
        place = (root / path).resolve()
        if not any(place.is_relative_to(folder) for folder in allowed):
            raise ValueError(
                f"{root / path} is a link to {place}, which does not belong to the bundle: put a copy there."
            )
    return sorted(files)


def _page(text: str, page: Path, root: Path, files: Collection[Path]) -> str:
    """A page for a reader of the zip, who works in the bundle's folder: own paths, and no links out of it."""
    inside = {parent.as_posix() for file in files for parent in (file, *file.parents)}

    def link(match: re.Match[str]) -> str:
        name, _, _ = match[2].partition("#")
        place = posixpath.normpath(posixpath.join(page.parent.as_posix(), name))
        if not name or "://" in name or place in inside:
            return match[0]
        project = posixpath.normpath(posixpath.join("bundles", root.name, place))
        return f"{match[1]} (`{project}` of the project)"

    text = re.sub(r"\bcommon(?=[./]\w)", "scripts", text)
    text = re.sub(rf"\bbundles/{re.escape(root.name)}(/?)", lambda match: "" if match[1] else ".", text)
    return _LINK.sub(link, text)


@with_last_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: pack and print path, size and SHA-256."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.package", description=__doc__)
    parser.add_argument("--bundle", required=True, help="folder of the bundle, e.g. bundles/med_ddpm_3d")
    parser.add_argument("--out", default="dist", help="folder for the zip (default: dist)")
    options = parser.parse_args(arguments)
    target = package_bundle(options.bundle, options.out)
    print(f"{target}  {target.stat().st_size / 1e6:.1f} MB  sha256 {sha256_of(target)}")


if __name__ == "__main__":
    sys.exit(main())
