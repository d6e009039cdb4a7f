"""What can be said about getting one corpus: files, archives, records, git-LFS trees.

The registry is another module, `sources`: a download job imports this one alone, so that an edited
address changes the settings of one corpus and not the code of every download.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GB = 10**9


@dataclass(frozen=True)
class Remote:
    """One file as it lies on servers.

    Attributes
    ----------
    name : str
        Its path below the folder of downloads; of a file that is not unpacked, also its path below
        the corpus's folder.
    urls : tuple of str
        Mirrors, tried in this order.
    size : int or None
        Bytes, where known exactly.
    checksum : str or None
        `md5:`, `sha1:`, `sha256:` or `sha512:` and the hex digest.
    unverified : str
        Why there is no checksum; must be given when there is none.
    most : int
        Bytes at which a transfer of unknown size is stopped.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    checksum: str | None = None
    unverified: str = ""
    most: int = GB

    def __post_init__(self) -> None:
        if self.checksum is None and not self.unverified:
            raise ValueError(f"{self.name}: a checksum, or a reason why there is none")
        kind, _, value = (self.checksum or "md5:" + "0" * 32).partition(":")
        if len(value) != {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}.get(kind):
            raise ValueError(f"{self.name}: '{self.checksum}' is not 'md5:<32 hex digits>'")


@dataclass(frozen=True)
class Record:
    """A record of a data repository, whose interface lists files with sizes and checksums.

    Attributes
    ----------
    kind : {'zenodo', 'dataverse'}
    listing : Remote
        The record's JSON. A copy among the downloads is used: a new address needs a new name.
    suffixes : tuple of str
        Files to take; archives among them are unpacked.
    """

    kind: str
    listing: Remote
    suffixes: tuple[str, ...] = (".wav", ".zip")


@dataclass(frozen=True)
class LfsTree:
    """A folder of a git repository whose files are kept by git-LFS.

    Attributes
    ----------
    pointers : Remote
        A zip of the repository, or of the folder, with the pointer files. Each one names the
        SHA-256 and the size of its file.
    folder : str
        The folder in the repository, and below the corpus's folder.
    suffix : str
    count : int
        How many files there are.
    media : tuple of str
        Addresses that `folder/name` is appended to, tried in this order.
    """

    pointers: Remote
    folder: str
    suffix: str
    count: int
    media: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """All that is known about getting one corpus.

    Attributes
    ----------
    name : str
        Its key under `paths` in config.yaml, and its folder among the downloads.
    title : str
    home : str
        The address of the corpus; for a licensed one, where to ask for it.
    terms : str
    size : int
        Bytes to download, about; of a licensed corpus the size on disk.
    holds : str
        What the corpus's folder holds.
    archives, files, records, trees
        The parts of an open corpus: archives to unpack, single files, records, LFS trees. A
        licensed corpus has none.
    strip : bool
        Leave out the single folder that an archive has at its top.
    unpacked : int
        Bytes that all the archives together may unpack to.
    members : int
        Files and folders that one archive may hold.
    """

    name: str
    title: str
    home: str
    terms: str
    size: int
    holds: str
    archives: tuple[Remote, ...] = ()
    files: tuple[Remote, ...] = ()
    records: tuple[Record, ...] = ()
    trees: tuple[LfsTree, ...] = ()
    strip: bool = False
    unpacked: int = 0
    members: int = 20_000

    @property
    def is_open(self) -> bool:
        """Whether the corpus can be downloaded without asking anybody."""
        return bool(self.archives or self.files or self.records or self.trees)

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Source:
        """Undo `dataclasses.asdict`, also after it went through JSON."""
        fields = dict(settings)
        for part, kind in _PARTS.items():
            fields[part] = tuple(_built(kind, entry) for entry in fields.get(part, ()))
        return cls(**fields)


_PARTS = {"archives": Remote, "files": Remote, "records": Record, "trees": LfsTree}


def _built(kind: type, entry: dict[str, Any]) -> Any:
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return kind(**{k: _built(Remote, v) if isinstance(v, dict) else v for k, v in fields.items()})
