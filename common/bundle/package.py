"""Pack a bundle as a zip that runs without this repository: ``python -m common.bundle.package --bundle DIR``."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..utils.files import sha256_of, written_whole

# A zip entry's time cannot be earlier; the same for all, so that the same bundle gives the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)
# What runs leave at the top of a bundle, with suffixes such as "synthetic_budget", and data put there.
_LEFT_OUT = ("__pycache__", "output", "train_output", "eval", "mlruns", "data", "synthetic", "classify", "masks")


def package_bundle(bundle: str | Path, out: str | Path) -> Path:
    """
    Zip a bundle under its own folder name, with ``scripts`` as real files and without caches and outputs.

    Args:
        bundle: folder with ``configs/metadata.json``.
        out: folder for the zip, made where it is missing.

    Returns:
        ``out/<bundle name>.zip``; the same bytes for the same files.

    Raises:
        FileNotFoundError: when ``bundle`` has no ``configs/metadata.json`` or no LICENSE.
    """
    root = Path(bundle).resolve()
    for required in ("configs/metadata.json", "LICENSE"):
        if not (root / required).is_file():
            raise FileNotFoundError(f"{bundle} is no bundle that can be packed: {required} is missing.")
    target = Path(out) / f"{root.name}.zip"
    with written_whole(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in bundle_files(root):
            entry = zipfile.ZipInfo(f"{root.name}/{path.as_posix()}", _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (root / path).read_bytes())
    return target


def bundle_files(root: Path) -> list[Path]:
    """Files of a bundle relative to its root, sorted, links followed; no hidden files, caches, data or outputs."""
    files = []
    for folder, names, found in os.walk(root, followlinks=True):
        inside = Path(folder).relative_to(root)
        # a folder scripts/data belongs to the code
        left_out = _LEFT_OUT if inside == Path() else "__pycache__"
        names[:] = [name for name in names if not name.startswith(left_out) and not name.startswith(".")]
        files += [
            inside / name
            for name in found
            if not name.startswith(".") and not name.endswith((".pyc", ".part", "mlruns.db"))
        ]
    return sorted(files)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: pack and print path, size and SHA-256."""
    parser = argparse.ArgumentParser(prog="python -m common.bundle.package", description=__doc__)
    parser.add_argument("--bundle", required=True, help="folder of the bundle, e.g. bundles/med_ddpm_3d")
    parser.add_argument("--out", default="dist", help="folder for the zip (default: dist)")
    options = parser.parse_args(arguments)
    target = package_bundle(options.bundle, options.out)
    print(f"{target}  {target.stat().st_size / 1e6:.1f} MB  sha256 {sha256_of(target)}")


if __name__ == "__main__":
    main()
