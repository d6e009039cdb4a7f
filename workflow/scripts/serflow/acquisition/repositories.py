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

from serflow.acquisition.contents import Unfit
from serflow.acquisition.source import LfsTree, Record, Remote
from serflow.acquisition.unpack import BROKEN, ArchiveFault, safe_path
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
    Unfit
        The JSON is not what such a repository sends, or lists no file of the wanted kinds, or one
        whose name leads out of the folder.
    UserError
        A file is restricted.
    """
    read = {"zenodo": _zenodo, "dataverse": _dataverse}[record.kind]
    try:
        found = read(json.loads(listing.read_text(encoding="utf-8")), record)
    except ArchiveFault as fault:
        raise Unfit(f"{listing}: {fault}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unfit(
            f"{listing}: not the listing of a {record.kind} record "
            f"({type(error).__name__}: {error})"
        ) from None
    wanted = [remote for remote in found if remote.name.lower().endswith(record.suffixes)]
    if not wanted:
        raise Unfit(
            f"{listing}: lists no {' or '.join(record.suffixes)} file among its {len(found)}: "
            f"{name_some(remote.name for remote in found)}. The record has changed."
        )
    return wanted


def _zenodo(answer: dict[str, Any], record: Record) -> list[Remote]:
    return [
        Remote(
            str(safe_path(file["key"])),
            (file["links"]["self"],),
            int(file["size"]),
            file["checksum"],
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
                int(data["filesize"]),
                f"{given['type'].replace('-', '').lower()}:{given['value']}",
            )
        )
    return files


def files_behind(tree: LfsTree, archive: Path) -> list[Remote]:
    """The files of a git-LFS folder, from a zip with its pointers.

    Raises
    ------
    Unfit
        The zip is none or damaged, holds something else than pointers, or not as many as there
        should be.
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
    except ArchiveFault as fault:
        raise Unfit(f"{archive}: {fault}") from None
    except (*BROKEN, RuntimeError) as error:  # the latter: encrypted
        raise Unfit(f"{archive}: not a zip of pointers ({error})") from None
    names = {remote.name for remote in files}
    if others or len(names) != tree.count or len(files) != tree.count:
        also = f", and {len(others)} that are none: {name_some(others)}" if others else ""
        raise Unfit(
            f"{archive}: {len(files)} git-LFS pointers of {tree.folder}/*{tree.suffix}, "
            f"{tree.count} expected{also}"
        )
    return sorted(files, key=lambda remote: remote.name)
