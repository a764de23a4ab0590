"""Pack bundles under the names of the model zoo: ``python -m common.bundle.release --out dist BUNDLE ...``."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..utils.commands import with_last_line
from ..utils.files import sha256_of, write_json
from .package import package_bundle


def release(bundles: Sequence[str | Path], out: str | Path, url: str = "") -> Path:
    """
    Write ``NAME_vX.Y.Z.zip`` for each bundle, and ``model_info.json`` as the model zoo keeps it.

    Args:
        bundles: folders with ``configs/metadata.json``.
        out: folder, made where it is missing; entries of other bundles and versions in its ``model_info.json`` stay.
        url: address of the folder that will serve ``out``; empty: ``source`` is the name of the file.

    Returns:
        The path of ``model_info.json``: by ``NAME_vX.Y.Z``, ``checksum`` (SHA-1, as the zoo's), ``sha256``, ``source``.

    Raises:
        FileNotFoundError, ValueError: as ``package_bundle``.
    """
    index = Path(out) / "model_info.json"
    entries = json.loads(index.read_text()) if index.is_file() else {}
    for bundle in bundles:
        packed = package_bundle(bundle, out)
        version = json.loads((Path(bundle) / "configs" / "metadata.json").read_text())["version"]
        target = packed.replace(packed.with_name(f"{packed.stem}_v{version}.zip"))
        with target.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha1").hexdigest()
        source = f"{url.rstrip('/')}/{target.name}" if url else target.name
        entries[target.stem] = {"checksum": checksum, "sha256": sha256_of(target), "source": source}
    return write_json(index, dict(sorted(entries.items())))


@with_last_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: write the release and print the path of its index."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.release", description=__doc__)
    parser.add_argument("bundles", nargs="+", help="folders of bundles, e.g. bundles/*")
    parser.add_argument("--out", default="dist", help="folder for the zips (default: dist)")
    parser.add_argument("--url", default="", help="address from which the folder will be served")
    options = parser.parse_args(arguments)
    print(release(options.bundles, options.out, options.url))


if __name__ == "__main__":
    sys.exit(main())
