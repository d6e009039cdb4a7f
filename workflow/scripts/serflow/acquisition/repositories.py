"""What a repository's own listing says of its files: addresses, sizes, checksums.

Zenodo   `files` of a record: key, size, checksum ("md5:..."), links.self.
Dataverse   `data.latestVersion.files` of a dataset: label, directoryLabel, dataFile with id,
         filesize, checksum (type, value) or md5; each file lies at /api/access/datafile/<id>.
git-LFS  a pointer file instead of each file: three lines with the SHA-256 and the size.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from serflow.acquisition.source import LfsTree, Record, Remote
from serflow.acquisition.unpack import safe_path
from serflow.errors import UserError, name_some

_POINTER = re.compile(
    rb"version https://git-lfs[^\n]*\n(?:[^\n]+\n)*?oid sha256:([0-9a-f]{64})\n(?:[^\n]+\n)*?size (\d+)\n?"
)
_LONGEST_POINTER = 1024  # the specification's bound


def files_of(record: Record, listing: Path) -> list[Remote]:
    """The files of a record, from its JSON.

    Parameters
    ----------
    record : Record
    listing : Path
        The JSON, as it was fetched.

    Raises
    ------
    UserError
        The JSON is not what such a repository sends, or lists no file of the wanted kinds, or one
        that is restricted.
    """
    read = {"zenodo": _zenodo, "dataverse": _dataverse}[record.kind]
    try:
        found = read(json.loads(listing.read_text(encoding="utf-8")), record)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{listing}: not the listing of a {record.kind} record "
            f"({type(error).__name__}: {error}). Delete it and run again."
        ) from None
    wanted = [remote for remote in found if remote.name.lower().endswith(record.suffixes)]
    if not wanted:
        raise UserError(
            f"{listing}: lists no {' or '.join(record.suffixes)} file among its {len(found)}: "
            f"{name_some(remote.name for remote in found)}. The record has changed."
        )
    return wanted


def _zenodo(answer: dict[str, Any], record: Record) -> list[Remote]:
    return [
        Remote(
            str(safe_path(file["key"])), (file["links"]["self"],), file["size"], file["checksum"]
        )
        for file in answer["files"]
    ]


def _dataverse(answer: dict[str, Any], record: Record) -> list[Remote]:
    servers = [urlsplit(url) for url in record.listing.urls]
    files = []
    for file in answer["data"]["latestVersion"]["files"]:
        data = file["dataFile"]
        name = "/".join(filter(None, (file.get("directoryLabel"), file["label"])))
        if file.get("restricted"):
            raise UserError(f"{name} is restricted: ask for access at its repository")
        given = data.get("checksum") or {"type": "MD5", "value": data["md5"]}
        files.append(
            Remote(
                str(safe_path(name)),
                tuple(
                    f"{server.scheme}://{server.netloc}/api/access/datafile/{int(data['id'])}"
                    for server in servers
                ),
                data["filesize"],
                f"{given['type'].replace('-', '').lower()}:{given['value']}",
            )
        )
    return files


def files_behind(tree: LfsTree, archive: Path) -> list[Remote]:
    """The files of a git-LFS folder, from a zip with its pointers.

    Raises
    ------
    UserError
        The zip is none, holds something else than pointers, or not as many as there should be.
    """
    files, others = [], []
    try:
        with zipfile.ZipFile(archive) as pointers:
            for info in pointers.infolist():
                path = PurePosixPath(info.filename)
                if path.parent.name != tree.folder or not path.name.endswith(tree.suffix):
                    continue
                match = None
                if info.file_size <= _LONGEST_POINTER:
                    match = _POINTER.fullmatch(pointers.read(info))
                if not match:
                    others.append(info.filename)
                    continue
                name = str(safe_path(f"{tree.folder}/{path.name}"))
                urls = tuple(base + quote(name) for base in tree.media)
                files.append(Remote(name, urls, int(match[2]), f"sha256:{match[1].decode()}"))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{archive}: not a zip of pointers ({error}). Delete it and run again."
        ) from None
    names = {remote.name for remote in files}
    if others or len(names) != tree.count or len(files) != tree.count:
        also = f", and {len(others)} that are none: {name_some(others)}" if others else ""
        raise UserError(
            f"{archive}: {len(files)} git-LFS pointers of {tree.folder}/*{tree.suffix}, "
            f"{tree.count} expected{also}. Delete it and run again."
        )
    return sorted(files, key=lambda remote: remote.name)
