"""What the jobs of a study took and what they asked for, stage by stage."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from serflow.accounting import Account, accounts
from serflow.attempts import Attempt, latest, path_of
from serflow.config.grids import system_of
from serflow.config.study import StudyConfig

MB_OF_MIB = 2**20 / 1e6  # Snakemake measures in MiB and asks in MB

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
    "calibrate_posteriors": "Calibrate",
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

# Jobs of a submission, which the page says nothing of.
HANDED_IN = ("assign_final", "select_hidden", "predict_hidden", "write_submission")

# What follows the rule in the name of a benchmark file.
_JOB = re.compile(r"(?P<name>.+)-seed-(?P<seed>\d+)(?:-fold-(?P<fold>\d+|final|hidden))?")


@dataclass(frozen=True)
class Cost:
    """What the jobs of one stage took. NaN: not measured.

    Attributes
    ----------
    title : str
    jobs : int
        Jobs with a benchmark file; 0: not measured.
    failed : int
        Attempts that failed or were killed before their job succeeded.
    queued, longest_queued : float
        Seconds between submission and start, of all attempts and of the one that waited longest;
        known where Slurm keeps accounts.
    seconds, longest : float
        Wall time of all attempts, and of the longest job that succeeded.
    cpu_seconds, gpu_seconds : float
        CPU time of all jobs, and the time that GPUs were held by all attempts.
    memory : float
        Peak resident memory of any job, in MiB.
    asked_memory, asked_seconds : float
        The most that a job which succeeded asked for: MB and seconds.
    """

    title: str
    jobs: int
    failed: int = 0
    queued: float = math.nan
    longest_queued: float = math.nan
    seconds: float = math.nan
    longest: float = math.nan
    cpu_seconds: float = math.nan
    gpu_seconds: float = math.nan
    memory: float = math.nan
    asked_memory: float = math.nan
    asked_seconds: float = math.nan

    @property
    def enough_memory(self) -> float:
        """MB to ask for next time: a quarter more than the peak, in steps of 500."""
        return 500 * np.ceil(1.25 * self.memory * MB_OF_MIB / 500)

    @property
    def enough_minutes(self) -> float:
        """Minutes to ask for next time: one and a half times the longest job, in steps of 10."""
        return 10 * np.ceil(1.5 * self.longest / 600)


def costs(root: Path, study: str, config: StudyConfig) -> list[Cost]:
    """What each stage took, from Snakemake's benchmark files, the jobs' attempts and Slurm's accounts.

    Stages that the study needs but that have no file are listed as not measured. The page's own
    job is left out: its file is written after the page. So are those of the
    tables for papers and of a submission, which the page says nothing of.
    """
    groups: dict[tuple[str, str], list[Job]] = {(rule, part): [] for rule, part in _needed(config)}
    corpora = [*config.corpora, *config.sound_corpora()]
    folders = [root / "corpora" / corpus / "benchmarks" for corpus in corpora]
    folders += [root / "models" / "benchmarks", root / study / "benchmarks"]
    for path in [path for folder in folders for path in sorted(folder.glob("*.tsv"))]:
        rule, _, rest = path.stem.partition(".")
        if _belongs(rule, rest, config, path.parent.parent):
            job = _JOB.fullmatch(rest)
            part = system_of(job["name"]) if job and rule == "train_fold" else ""
            log = path.parents[1] / "logs" / (f"{rule}/{rest}.log" if rest else f"{rule}.log")
            tries = latest(path_of(log))
            groups.setdefault((rule, part), []).append(Job(_benchmark(path), tries))
    tries = [attempt for jobs in groups.values() for job in jobs for attempt in job.attempts]
    on_slurm = [attempt.slurm_job for attempt in tries if attempt.slurm_job]
    known = accounts(on_slurm) if on_slurm else {}
    order = [*STAGES, *(rule for rule, _ in groups)]
    return [
        _cost(f"{_title(rule)}: {part}" if part else _title(rule), jobs, known, bool(on_slurm))
        for (rule, part), jobs in sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    ]


class Job(NamedTuple):
    """A job that succeeded.

    Parameters
    ----------
    measured : mapping of str to float
        Its benchmark file.
    attempts : list of Attempt
        Empty for a job of an older version, which kept no record of them.
    """

    measured: Mapping[str, float]
    attempts: list[Attempt]


def total_of(costs: Sequence[Cost]) -> Cost:
    """All stages together."""

    def summed(name: str) -> float:
        return float(np.nansum([getattr(cost, name) for cost in costs]))

    def most(name: str) -> float:
        return _most(getattr(cost, name) for cost in costs)

    return Cost(
        "All stages",
        sum(cost.jobs for cost in costs),
        sum(cost.failed for cost in costs),
        queued=summed("queued"),
        longest_queued=most("longest_queued"),
        seconds=summed("seconds"),
        longest=most("longest"),
        cpu_seconds=summed("cpu_seconds"),
        gpu_seconds=summed("gpu_seconds"),
        memory=most("memory"),
    )


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
        "calibrate_posteriors": config.calibration is not None,
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


def _cost(title: str, jobs: list[Job], known: Mapping[str, Account], on_slurm: bool) -> Cost:
    tries = [attempt for job in jobs for attempt in job.attempts]
    booked = [known[a.slurm_job] for a in tries if a.slurm_job in known]
    # What a job asks for that ran where Snakemake does, beside a cluster, nobody was asked.
    asked = [a.asked for a in tries if a.succeeded and (a.slurm_job or not on_slurm)]

    def measured(column: str) -> list[float]:
        return [job.measured.get(column, math.nan) for job in jobs]

    def held(attempt: Attempt) -> float:
        if attempt.ended is not None:
            return attempt.ended - attempt.started
        account = known.get(attempt.slurm_job or "")
        return account.elapsed if account else math.nan

    lost = [held(attempt) for attempt in tries if not attempt.succeeded]
    cpu = [account.cpu_seconds for account in booked]
    return Cost(
        title,
        len(jobs),
        failed=len(lost),
        queued=_sum(account.queued for account in booked),
        longest_queued=_most(account.queued for account in booked),
        seconds=_sum([*measured("s"), *lost]),
        longest=_most(measured("s")),
        # Accounts know what failed attempts used, too.
        cpu_seconds=_sum(cpu if len(booked) == len(tries) and tries else measured("cpu_time")),
        gpu_seconds=_sum(held(a) * a.asked["gpu"] for a in tries if a.asked.get("gpu")),
        memory=_most([*measured("max_rss"), *(account.memory for account in booked)]),
        asked_memory=_most(a["mem_mb"] for a in asked if "mem_mb" in a),
        asked_seconds=_most(60.0 * a["runtime"] for a in asked if "runtime" in a),
    )


def _sum(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) if known else math.nan


def _most(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)
