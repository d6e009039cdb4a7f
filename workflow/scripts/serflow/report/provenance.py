"""Where the numbers come from: code, settings, packages, cost of each stage, facts of each fit."""

from __future__ import annotations

import csv
import json
import math
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from serflow.config.grids import system_of
from serflow.config.study import StudyConfig
from serflow.digests import digest
from serflow.report.formats import count, number
from serflow.report.results import Results

# What the results depend on; versions are read without importing any of them.
PACKAGES = (
    "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "soundfile", "soxr", "librosa", "jiwer",
    "whisper_normalizer", "silero_vad", "torch", "transformers", "peft", "accelerate", "nemo_toolkit", "snakemake", "matplotlib",
)  # fmt: skip

# Rule -> what it does, in the order of the chain.
STAGES = {
    "download_corpus": "Download the corpus",
    "synthesise_demo_corpus": "Synthesise the corpus",
    "make_tiny_encoder": "Make the tiny encoder",
    "make_demo_language_model": "Make the tiny language model",
    "make_demo_canary": "Train the tiny Canary",
    "list_utterances": "List the corpus",
    "pack_audio": "Decode and pack audio",
    "extract_functionals": "Extract functionals",
    "extract_fingerprints": "Fingerprint audio",
    "assign_shards": "Assign shards",
    "transcribe_shard": "Transcribe",
    "copy_reference_texts": "Copy the reference texts",
    "join_transcripts": "Join transcripts",
    "select_utterances": "Select utterances",
    "assign_folds": "Assign folds",
    "audit_leakage": "Audit leakage",
    "extract_layer_means": "Hear with frozen encoders",
    "train_fold": "Train and predict",
    "score_grid": "Score grids",
    "take_point": "Take a point of a grid",
    "embed_fold": "Embed",
    "export_posteriors": "Export posteriors",
    "import_posteriors": "Import posteriors",
    "export_attributes": "Export attributes",
    "rebalance_posteriors": "Rebalance",
    "fuse_systems": "Fuse",
    "fuse_attributes": "Fuse attributes",
    "evaluate_study": "Evaluate",
}

# Models that the workflow makes itself: rule -> folder. They are shared between studies.
MODELS = {
    "make_tiny_encoder": "results/models/tiny-w2v-bert",
    "make_demo_language_model": "results/models/demo-llama",
    "make_demo_canary": "results/models/demo-canary",
}

# Files of a corpus that are listed one by one.
_LISTED = 12

# Jobs of a submission, which the page says nothing of.
HANDED_IN = ("assign_final", "select_hidden", "predict_hidden", "write_submission")

# What follows the rule in the name of a benchmark file.
_JOB = re.compile(r"(?P<name>.+)-seed-(?P<seed>\d+)(?:-fold-(?P<fold>\d+|final|hidden))?")


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
class Cost:
    """What the jobs of one stage took.

    Attributes
    ----------
    title : str
    jobs : int
        Jobs with a benchmark file; 0: not measured.
    seconds, longest : float
        Wall time of all jobs, and of the longest.
    cpu_seconds, memory : float
        CPU time of all jobs, and peak resident memory of any, in MiB; NaN: not measured.
    """

    title: str
    jobs: int
    seconds: float = math.nan
    longest: float = math.nan
    cpu_seconds: float = math.nan
    memory: float = math.nan


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


def costs(root: Path, study: str, config: StudyConfig) -> list[Cost]:
    """Wall time and peak memory of each stage, from Snakemake's benchmark files.

    Stages that the study needs but that have no file are listed as not measured. The page's own
    job is left out: its file is written after the page. So are those of the
    tables for papers and of a submission, which the page says nothing of.
    """
    groups: dict[tuple[str, str], list[dict[str, float]]] = {
        (rule, part): [] for rule, part in _needed(config)
    }
    corpora = [*config.corpora, *config.sound_corpora()]
    folders = [root / "corpora" / corpus / "benchmarks" for corpus in corpora]
    folders += [root / "models" / "benchmarks", root / study / "benchmarks"]
    for path in [path for folder in folders for path in sorted(folder.glob("*.tsv"))]:
        rule, _, rest = path.stem.partition(".")
        if _belongs(rule, rest, config, path.parent.parent):
            job = _JOB.fullmatch(rest)
            part = system_of(job["name"]) if job and rule == "train_fold" else ""
            groups.setdefault((rule, part), []).append(_benchmark(path))
    order = [*STAGES, *(rule for rule, _ in groups)]
    return [
        _cost(f"{_title(rule)}: {part}" if part else _title(rule), jobs)
        for (rule, part), jobs in sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    ]


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


def _needed(config: StudyConfig) -> Iterator[tuple[str, str]]:
    """The stages that the study's results come from, train_fold by system."""
    families = {system.family for system in config.systems.values()}
    sources = {corpus.source for corpus in config.corpora.values()}
    engines = {asr.engine for asr in config.asr.values()}
    recognised = bool(engines - {"reference"})
    trained = [name for name, system in config.systems.items() if system.family != "given"]
    wanted = {
        "synthesise_demo_corpus": "demo" in sources,
        # A corpus that lies on the machine is not downloaded: shown where it was.
        "download_corpus": False,
        "extract_functionals": "functionals" in families,
        "extract_fingerprints": config.audit.near_duplicates,
        **dict.fromkeys(("assign_shards", "transcribe_shard", "join_transcripts"), recognised),
        "copy_reference_texts": "reference" in engines,
        "export_posteriors": bool(set(trained) & set(config.predicts("categories"))),
        "import_posteriors": "given" in families,
        "fuse_systems": bool(config.fusions),
        "fuse_attributes": bool(config.attribute_fusions),
        "export_attributes": bool(config.predicts("attributes")),
        "extract_layer_means": any("layer_means" in x.inputs for x in config.systems.values()),
        **dict.fromkeys(
            ("score_grid", "take_point"), config.trained.keys() != config.systems.keys()
        ),
        "embed_fold": any("embeddings" in x.inputs for x in config.systems.values()),
        **{rule: _uses_model(config, folder) for rule, folder in MODELS.items()},
    }
    for rule in STAGES:
        if rule == "train_fold":
            yield from ((rule, system) for system in trained)
        elif wanted.get(rule, True):
            yield rule, ""


def _is_job_of(asr: str, rest: str, corpus: Path) -> bool:
    """Whether a benchmark is of this transcription, in the parts that it has now."""
    shard = corpus / "transcripts" / asr / "shards" / f"{rest.removeprefix(f'{asr}-')}.parquet"
    return rest == asr or (rest.startswith(f"{asr}-") and shard.is_file())


def _title(rule: str) -> str:
    return STAGES.get(rule, rule.replace("_", " ").capitalize())


def _belongs(rule: str, rest: str, config: StudyConfig, folder: Path) -> bool:
    """Whether a benchmark is of this study as it now is: corpora are shared, old files remain.

    `folder` is that of the models, a corpus or the study.
    """
    if rule in ("write_report", "write_tables", *HANDED_IN):
        return False
    if folder.name == "models":
        return rule in MODELS and _uses_model(config, MODELS[rule])
    if rule in ("assign_shards", "transcribe_shard", "join_transcripts", "copy_reference_texts"):
        return any(_is_job_of(asr, rest, folder) for asr in config.asr)
    if rule == "extract_functionals":
        return any(system.family == "functionals" for system in config.systems.values())
    if rule == "extract_fingerprints":
        return config.audit.near_duplicates
    job = _JOB.fullmatch(rest)
    if job is None:
        return True
    return (
        job["name"]
        in {*config.systems, *config.trained, *config.fusions, *config.attribute_fusions}
        and int(job["seed"]) in config.seeds
        and (job["fold"] is None or job["fold"] in config.folds.names())
    )


def _uses_model(config: StudyConfig, folder: str) -> bool:
    names = [model for system in config.systems.values() for model in system.models()]
    names += [model for asr in config.asr.values() if (model := getattr(asr, "model", ""))]
    return any(name == folder or name.startswith(f"{folder}/") for name in names)


def _benchmark(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {name: _float(value) for name, value in rows[-1].items()} if rows else {}


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:  # "NA" or "-": a job too short for the sampler
        return math.nan


def _cost(title: str, jobs: list[dict[str, float]]) -> Cost:
    def known(column: str) -> list[float]:
        return [job[column] for job in jobs if not math.isnan(job.get(column, math.nan))]

    seconds, cpu, peaks = known("s"), known("cpu_time"), known("max_rss")
    return Cost(
        title,
        len(jobs),
        seconds=sum(seconds) if seconds else math.nan,
        longest=max(seconds, default=math.nan),
        cpu_seconds=sum(cpu) if cpu else math.nan,
        memory=max(peaks, default=math.nan),
    )
