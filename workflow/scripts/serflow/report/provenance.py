"""Where the numbers come from: code, settings, packages, cost of each stage, facts of each fit."""

from __future__ import annotations

import json
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from serflow.digests import digest
from serflow.report.costs import Cost, costs
from serflow.report.formats import count, number
from serflow.report.results import Results

# What the results depend on; versions are read without importing any of them.
PACKAGES = (
    "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "soundfile", "soxr", "librosa", "jiwer",
    "whisper_normalizer", "silero_vad", "torch", "transformers", "peft", "accelerate", "nemo_toolkit", "snakemake", "matplotlib",
)  # fmt: skip

# Files of a corpus that are listed one by one.
_LISTED = 12


@dataclass(frozen=True)
class Commit:
    """State of the checkout that holds the code.

    Attributes
    ----------
    name : str
        The commit, or why there is none.
    date : str
        Of the commit; empty where there is none.
    dirty : bool
        Whether files differ from the commit.
    """

    name: str
    date: str = ""
    dirty: bool = False


@dataclass(frozen=True)
class Download:
    """A file that a corpus was unpacked from; or, of many, all of them together.

    Attributes
    ----------
    corpus, name : str
    size : int
        Bytes.
    digest : str
        SHA-256; of many files, a digest over theirs.
    checked : str
        The published checksum that it agreed with, or why there was none.
    """

    corpus: str
    name: str
    size: int
    digest: str
    checked: str


@dataclass(frozen=True)
class Provenance:
    """All that is printed about the origin of a study's results."""

    commit: Commit
    python: str
    packages: dict[str, str]
    settings_digest: str
    costs: list[Cost]
    facts: dict[str, dict[str, str]]
    downloads: list[Download] = field(default_factory=list)


def collect(
    root: Path, results: Results, settings_digest: str, records: Iterable[str | Path] = ()
) -> Provenance:
    """Gather the provenance of a study.

    Parameters
    ----------
    root : Path
        The results folder.
    results : Results
    settings_digest : str
        Digest of the study's settings.
    records : iterable of Path
        `download.json` of each corpus that was downloaded.
    """
    tables = [*results.posteriors.items(), *results.attributes.items()]
    folds = {
        (seed, system): sorted(set(table.rows["fold"]))
        for (seed, stage, system), table in tables
        if stage == "raw"
    }
    return Provenance(
        commit=commit_of(Path(__file__).parent),
        python=platform.python_version(),
        packages=versions(PACKAGES),
        settings_digest=settings_digest,
        costs=costs(root, results.study, results.config),
        facts=facts(root / results.study, folds),
        downloads=[download for record in records for download in downloads(Path(record))],
    )


def downloads(record: Path) -> list[Download]:
    """What a corpus was unpacked from, by its `corpora/<corpus>/download.json`."""
    corpus = record.parent.name
    files = json.loads(record.read_text(encoding="utf-8"))["fetched"]
    if len(files) > _LISTED:
        sums = digest(*(f"{file['name']} {file['sha256']}" for file in files))
        size = sum(file["size"] for file in files)
        unverified = sum(file["checksum"] is None for file in files)
        checked = "each with a published checksum"
        checked += f", but for {count(unverified)}" if unverified else ""
        return [Download(corpus, f"{count(len(files))} files", size, sums, checked)]
    return [
        Download(
            corpus, f["name"], f["size"], f["sha256"], f["checksum"] or f"none: {f['unverified']}"
        )
        for f in files
    ]


def commit_of(folder: Path) -> Commit:
    """The git commit that `folder` is checked out from."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        name, date = git("show", "-s", "--format=%H %cs", "HEAD").split()
        return Commit(name, date, dirty=bool(git("status", "--porcelain")))
    except FileNotFoundError:
        return Commit("unknown: git is not installed")
    except (subprocess.CalledProcessError, ValueError):
        return Commit("unknown: the code is not in a git checkout with a commit")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed version of each package, those that are not installed left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def facts(
    folder: Path, folds: Mapping[tuple[int, str], Iterable[str]]
) -> dict[str, dict[str, str]]:
    """What each system says of its fits, condensed over folds and seeds: fact -> system -> text."""
    found: dict[str, dict[str, list[Any]]] = {}
    for (seed, system), names in folds.items():
        base = folder / f"seed-{seed}"
        fits = [base / "systems" / system / f"fold-{fold}" / "facts.json" for fold in names]
        for path in [*fits, base / "given" / f"{system}.json"]:
            if path.is_file():
                for name, value in _flat(json.loads(path.read_text(encoding="utf-8"))):
                    found.setdefault(name, {}).setdefault(system, []).append(value)
    return {
        name: {system: condensed(values) for system, values in by_system.items()}
        for name, by_system in found.items()
    }


def condensed(values: list[Any]) -> str:
    """Many values as one short text.

    Examples
    --------
    >>> condensed([3, 3]), condensed(["a", "b", "a"]), condensed([1, 2, 3, 4, 5])
    ('3', 'a (2 of 3), b (1 of 3)', 'mean 3, from 1 to 5')
    """
    kinds = Counter(values)
    if len(kinds) == 1:
        return _text(values[0])
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numeric and len(kinds) > 4:
        low, mean, high = min(values), sum(values) / len(values), max(values)
        return f"mean {_text(mean)}, from {_text(low)} to {_text(high)}"
    parts = kinds.most_common(6)
    return ", ".join(f"{_text(value)} ({n} of {len(values)})" for value, n in parts)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3g}" if abs(value) < 100 else number(value, 1)
    return count(value) if isinstance(value, int | float) else str(value)


def _flat(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings; lists (histories) are left in the files."""
    for name, value in tree.items():
        title = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from ((f"{title} {inner}", leaf) for inner, leaf in _flat(value))
        elif not isinstance(value, list):
            yield title, value
