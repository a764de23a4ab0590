"""Serve a release as a model zoo of one's own: ``python -m common.bundle.zoo dist``."""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..utils.commands import with_last_line

_ASKED = re.compile(r"/api/models/[^/]+/(?P<name>[^/]+)/(?P<what>revision|tree|refs)(/(?P<version>[^/]+))?")
_FILE = re.compile(r"/[^/]+/(?P<name>[^/]+)/(?P<what>resolve)/(?P<version>[^/]+)/(?P<file>.+)")


def serve(folder: str | Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """
    A server of a folder of ``NAME_vX.Y.Z.zip``, as ``release`` writes it, for MONAI's download by name and version.

    MONAI asks the Hugging Face Hub for bundles of that name, at the address in the environment variable HF_ENDPOINT.
    This server answers the questions that a download asks there, for any owner, from the zips; the version is the tag.
    The files of the folder themselves are served too, for a download by address.

    Args:
        folder: of the zips; those that are added later are found.
        port: to listen at; 0 takes a free one, see ``server_port``.
        host: address of the network that may ask; by default this machine alone.

    Returns:
        The server, of which ``serve_forever`` has to be called.

    Raises:
        FileNotFoundError: when there is no zip in ``folder``.

    >>> serve("no_such_folder")
    Traceback (most recent call last):
    FileNotFoundError: no_such_folder: no NAME_vX.Y.Z.zip there; make release writes them.
    """
    if not list(Path(folder).glob("*_v*.zip")):
        raise FileNotFoundError(f"{folder}: no NAME_vX.Y.Z.zip there; make release writes them.")
    return ThreadingHTTPServer((host, port), functools.partial(ZooHandler, directory=str(folder)))


class ZooHandler(SimpleHTTPRequestHandler):
    """One request to the server of ``serve``."""

    def send_head(self) -> Any:
        """Send the headers; returns the content as a file, or None after an error."""
        path = unquote(urlsplit(self.path).path)
        asked = _ASKED.fullmatch(path) or _FILE.fullmatch(path)
        if asked is None:
            return super().send_head()
        packed = releases(self.directory, asked["name"])
        version, newest = asked["version"] or "main", list(packed)[-1:]
        known = {**packed, **{commit_of(file): file for file in packed.values()}}
        known |= {name: packed[one] for one in newest for name in ("main", "latest_version")}
        if version not in known:
            return self._missing("RevisionNotFound" if packed else "RepoNotFound")
        if asked["what"] == "resolve":
            return self._file(known[version], f"{asked['name']}/{asked['file']}")
        content = _answer(asked["what"], asked["name"], known[version], packed)
        return self._content(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, packed: Path, inside: str) -> io.BytesIO | None:
        with zipfile.ZipFile(packed) as archive:
            if inside not in archive.namelist():
                return self._missing("EntryNotFound")
            headers = {"X-Repo-Commit": commit_of(packed), "ETag": f'"{_tag(archive.getinfo(inside))}"'}
            return self._content(archive.read(inside), headers)

    def _content(self, content: bytes, headers: Mapping[str, str]) -> io.BytesIO:
        self.send_response(HTTPStatus.OK)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        return io.BytesIO(content)

    def _missing(self, code: str) -> io.BytesIO | None:
        self.send_response(HTTPStatus.NOT_FOUND)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None


def releases(folder: str | Path, name: str) -> dict[str, Path]:
    """
    The zips of a bundle by version, the newest last.

    Example:
        >>> releases("no_such_folder", "med_ddpm_3d")
        {}
    """
    parts = [(*file.stem.rpartition("_v"), file) for file in Path(folder).glob("*_v*.zip")]
    own = {version: file for stem, _, version, file in parts if stem == name}
    return dict(sorted(own.items(), key=lambda item: [int(number) for number in re.findall(r"\d+", item[0])]))


def commit_of(packed: Path) -> str:
    """What stands for the commit of a release: the SHA-1 of its zip, as in ``model_info.json``."""
    return _sha1(packed, packed.stat().st_mtime_ns)


@functools.lru_cache
def _sha1(path: Path, written: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _answer(what: str, name: str, packed: Path, every: Mapping[str, Path]) -> Any:
    """What the Hugging Face Hub would say of a repository: a version, its files, or all versions."""
    if what == "revision":
        return {"id": name, "sha": commit_of(packed), "siblings": []}
    if what == "tree":
        with zipfile.ZipFile(packed) as archive:
            entries = [(entry.filename.partition("/")[2], entry) for entry in archive.infolist()]
        return [{"type": "file", "path": path, "size": e.file_size, "oid": _tag(e)} for path, e in entries]
    tags = [{"name": v, "ref": f"refs/tags/{v}", "targetCommit": commit_of(file)} for v, file in every.items()]
    return {"branches": [{**tags[-1], "name": "main", "ref": "refs/heads/main"}], "converts": [], "tags": tags}


def _tag(entry: zipfile.ZipInfo) -> str:
    return f"{entry.CRC:08x}"


@with_last_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: serve until it is interrupted."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.zoo", description=__doc__)
    parser.add_argument("folder", help="folder of the zips, e.g. dist")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at (default: 8000)")
    options = parser.parse_args(arguments)
    with serve(options.folder, options.port, options.host) as server:
        print(f"HF_ENDPOINT=http://{options.host}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
