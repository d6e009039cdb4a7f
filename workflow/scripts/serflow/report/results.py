"""What a report tells about: the tables of one study, and their means over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from serflow.attributes import Attributes, read_attributes
from serflow.config.study import CONTRAST, StudyConfig
from serflow.fold_intervals import mean_interval
from serflow.leakage.audit import AUDIT
from serflow.posteriors import Posteriors, read_posteriors
from serflow.tables import COMPARISONS, FOLDS, SCORES, SKIPPED, TRANSCRIPTS, UTTERANCES

STAGES = ("raw", "calibrated", "rebalanced", "fused")
CELL = ["system", "stage", "role", "scope", "metric", "label", "hypothesis"]
RESAMPLES = 2_000  # of seeds: there are few, so that more would find the same ends


@dataclass(frozen=True)
class ContrastResults:
    """What a study comes to under another protocol.

    Attributes
    ----------
    scores, audit : DataFrame
        `tables.SCORES` and `leakage.audit.AUDIT`.
    """

    scores: pd.DataFrame
    audit: pd.DataFrame

    @cached_property
    def means(self) -> pd.DataFrame:
        """As `Results.means`."""
        return means_over_seeds(_pooled(self.scores))


@dataclass(frozen=True)
class Results:
    """The tables of one study.

    Attributes
    ----------
    study : str
        Its name.
    config : StudyConfig
    scores, comparisons, utterances, folds : DataFrame
        `tables.SCORES`, `tables.COMPARISONS`, `tables.UTTERANCES`, `tables.FOLDS`.
    posteriors : mapping of (seed, stage, system) to Posteriors
        In the order in which the report names them.
    fusions : mapping of (seed, fusion) to mapping
        The JSON that `fuse_systems` writes: settings and fits.
    fold_notes : list of str
    folds_digest : str
        Of every utterance's role in every fold.
    audit : DataFrame
        `leakage.audit.AUDIT`.
    dropped : mapping of str to int
        Utterances left out by corpus label.
    skipped : DataFrame
        corpus, path, reason.
    transcripts : DataFrame, optional
        `tables.TRANSCRIPTS` of every transcription; None for a study without.
    asr_jobs : mapping of str to sequence of mapping
        By transcription, the facts of each of its jobs: model, device, seconds of audio and time.
    contrasts : mapping of str to ContrastResults
        By the contrast's name in the study.
    attributes : mapping of (seed, stage, system) to Attributes
    calibrations : mapping of (seed, system) to mapping
        The JSON that `calibrate_posteriors` writes.
    grids : mapping of (seed, system) to mapping
        The JSON that `score_grid` writes.
    attribute_fusions : mapping of (seed, fusion) to mapping
        The JSON that `fuse_attributes` writes.
    """

    study: str
    config: StudyConfig
    scores: pd.DataFrame
    comparisons: pd.DataFrame
    posteriors: Mapping[tuple[int, str, str], Posteriors]
    fusions: Mapping[tuple[int, str], Mapping[str, Any]]
    utterances: pd.DataFrame
    folds: pd.DataFrame
    fold_notes: list[str]
    folds_digest: str
    audit: pd.DataFrame
    dropped: Mapping[str, int]
    skipped: pd.DataFrame
    transcripts: pd.DataFrame | None = None
    asr_jobs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    contrasts: Mapping[str, ContrastResults] = field(default_factory=dict)
    attributes: Mapping[tuple[int, str, str], Attributes] = field(default_factory=dict)
    calibrations: Mapping[tuple[int, str], Mapping[str, Any]] = field(default_factory=dict)
    grids: Mapping[tuple[int, str], Mapping[str, Any]] = field(default_factory=dict)
    attribute_fusions: Mapping[tuple[int, str], Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds of the systems, sorted."""
        return sorted({seed for seed, _, _ in self.posteriors})

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class order of the posteriors."""
        return next(iter(self.posteriors.values())).classes

    @cached_property
    def tables(self) -> list[tuple[str, str]]:
        """(system, stage): each single system with its stages, then the fusions."""
        pairs = list(dict.fromkeys((system, stage) for _, stage, system in self.posteriors))
        first = {system: i for i, (system, _) in reversed(list(enumerate(pairs)))}
        return sorted(pairs, key=lambda p: (p[1] == "fused", first[p[0]], STAGES.index(p[1])))

    @cached_property
    def deciding(self) -> list[tuple[str, str]]:
        """The tables whose decisions are their own: a temperature leaves the raw ones as they are."""
        kept = self.config.calibration is None or self.config.calibration.method != "temperature"
        return [pair for pair in self.tables if kept or pair[1] != "calibrated"]

    @cached_property
    def systems(self) -> list[str]:
        """The single systems that predict categories."""
        return list(dict.fromkeys(system for system, stage in self.tables if stage != "fused"))

    @cached_property
    def has_dev(self) -> bool:
        """Whether there are scores of dev rows."""
        return bool((self.posterior_scores["role"] == "dev").any())

    @cached_property
    def posterior_scores(self) -> pd.DataFrame:
        """Scores of pooled rows, without those of transcripts."""
        return _pooled(self.scores)

    @cached_property
    def means(self) -> pd.DataFrame:
        """The scores, by `means_over_seeds`."""
        return means_over_seeds(self.posterior_scores)

    @cached_property
    def fold_means(self) -> pd.DataFrame:
        """Means over folds, by `means_over_seeds`; empty where there is one fold."""
        return means_over_seeds(self.scores[self.scores["scope"] == "fold mean"])

    def score(self, system: str, stage: str, role: str, metric: str, label: str = "") -> Any:
        """One row of `means`, or None."""
        key = (system, stage, role, "pooled", metric, label, "")
        return self.means.loc[key] if key in self._cells else None

    @cached_property
    def _cells(self) -> set[tuple[str, ...]]:
        return set(self.means.index)

    def confusion(self, system: str, stage: str, role: str = "test") -> np.ndarray:
        """Counts summed over seeds, shape (n_classes, n_classes); rows are the reference."""
        found = self.posterior_scores
        found = found[
            (found["system"] == system)
            & (found["stage"] == stage)
            & (found["role"] == role)
            & (found["metric"] == "confusion")
        ]
        cells = found.groupby(["label", "hypothesis"])["value"].sum()
        order = list(self.classes)
        return cells.unstack(fill_value=0).reindex(index=order, columns=order).to_numpy(dtype=float)

    def mean_comparisons(self) -> pd.DataFrame:
        """Comparisons over seeds: mean difference, its sd, and how the intervals lie."""
        pair = ["role", "metric", "system", "stage", "baseline", "baseline_stage"]
        frame = self.comparisons.assign(
            above=self.comparisons["low"] > 0, below=self.comparisons["high"] < 0
        )
        return (
            frame.groupby(pair, sort=False)
            .agg(
                difference=("difference", "mean"),
                sd=("difference", "std"),
                low=("low", "first"),
                high=("high", "first"),
                p=("p", "first"),
                p_holm=("p_holm", "first"),
                mcnemar_p_holm=("mcnemar_p_holm", "first"),
                interval=("interval", "first"),
                n=("n", "first"),
                seeds=("seed", "nunique"),
                above=("above", "sum"),
                below=("below", "sum"),
            )
            .reset_index()
        )


def _pooled(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[(scores["stage"] != "transcribed") & (scores["scope"] == "pooled")]


def means_over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores over seeds: `value` is the mean, `sd` the standard deviation (n - 1).

    With one seed, `low` and `high` are its interval. With several they are the mean's, resampled
    over seeds, as an interval of one seed's test rows says nothing about the others; cells of
    confusion matrices have none then. Indexed by `CELL`.
    """
    frame = scores.groupby(CELL, sort=False, dropna=False).agg(
        value=("value", "mean"),
        sd=("value", "std"),
        low=("low", "first"),
        high=("high", "first"),
        n=("n", "first"),
        definition=("definition", "first"),
        interval=("interval", "first"),
        paper=("paper", "first"),
        paper_source=("paper_source", "first"),
    )
    frame["paper"] = frame["paper"].astype(float)
    seeds = scores["seed"].nunique()
    if seeds > 1:
        frame[["low", "high"]] = np.nan
        frame["interval"] = f"95% percentile bootstrap over {seeds} seeds, {RESAMPLES} resamples"
        shown = frame.index[frame.index.get_level_values("hypothesis") == ""]
        values = scores.pivot(index="seed", columns=CELL, values="value")[shown]
        found = mean_interval(values.to_numpy(), seed=0, resamples=RESAMPLES)
        frame.loc[shown, "low"], frame.loc[shown, "high"] = found.low, found.high
    return frame


def read_results(
    study: str,
    config: Mapping[str, Any],
    *,
    scores: str,
    comparisons: str,
    posteriors: Iterable[str],
    utterances: str,
    folds: str,
    fold_notes: str,
    audit: str,
    dropped: str,
    skipped: Iterable[str],
    attributes: Iterable[str] = (),
    fusions: Iterable[str] = (),
    calibrations: Iterable[str] = (),
    grids: Iterable[str] = (),
    attribute_fusions: Iterable[str] = (),
    transcripts: Iterable[str] = (),
    contrast_scores: Iterable[str] = (),
    contrast_audits: Iterable[str] = (),
) -> Results:
    """Read all tables of a study from the files of one run.

    Seed, stage, system and corpus are those of the file names below `results/`; `config` is the
    JSON of a StudyConfig.
    """
    tables = {}
    for path in map(Path, posteriors):
        table = read_posteriors(path)
        tables[table.seed, path.parent.name, path.stem] = table
    rated = {}
    for path in map(Path, attributes):
        table = read_attributes(path)
        rated[table.seed, path.parent.name, path.stem] = table
    fitted, mapped, tried, mixed = (
        {
            (int(path.parts[-3].removeprefix("seed-")), path.stem): _json(path)
            for path in map(Path, files)
        }
        for files in (fusions, calibrations, grids, attribute_fusions)
    )
    texts, jobs = [], {}
    for path in map(Path, transcripts):
        rows, facts = TRANSCRIPTS.read_with_metadata(path)
        texts.append(rows)
        jobs.setdefault(path.stem, []).extend(facts.get("shards", []))
    roles, folds_facts = FOLDS.read_with_metadata(folds)
    contrasts = {
        # results/emodb.random_5_fold/scores.parquet
        Path(scored).parent.name.partition(CONTRAST)[2]: ContrastResults(
            SCORES.read(scored), AUDIT.read(audited)
        )
        for scored, audited in zip(contrast_scores, contrast_audits, strict=True)
    }
    left_out = [SKIPPED.read(path).assign(corpus=Path(path).parent.name) for path in skipped]
    return Results(
        study=study,
        config=StudyConfig.model_validate(config),
        scores=SCORES.read(scores),
        comparisons=COMPARISONS.read(comparisons),
        posteriors=tables,
        fusions=fitted,
        utterances=UTTERANCES.read(utterances),
        folds=roles,
        fold_notes=_json(fold_notes),
        folds_digest=folds_facts["digest"],
        audit=AUDIT.read(audit),
        dropped=_json(dropped),
        skipped=pd.concat(left_out, ignore_index=True),
        transcripts=pd.concat(texts, ignore_index=True) if texts else None,
        asr_jobs=jobs,
        contrasts=contrasts,
        attributes=rated,
        calibrations=mapped,
        grids=tried,
        attribute_fusions=mixed,
    )


def _json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Priors:
    """Class probabilities of one system, means over folds and seeds; each shape (n_classes,).

    Attributes
    ----------
    train_low, train, train_high : ndarray
        The prior that training effectively saw: its range over folds and its mean.
    target : ndarray
        What posteriors are rebalanced to.
    raw, rebalanced : ndarray
        Mean posterior on the test rows.
    reference : ndarray
        Share of each class among the test rows' references.
    """

    train_low: np.ndarray
    train: np.ndarray
    train_high: np.ndarray
    target: np.ndarray
    raw: np.ndarray
    rebalanced: np.ndarray
    reference: np.ndarray


def priors_of(results: Results, system: str) -> Priors:
    """Class priors of one system before and after rebalancing."""
    raw = [results.posteriors[seed, "raw", system] for seed in results.seeds]
    moved = [results.posteriors[seed, "rebalanced", system] for seed in results.seeds]
    train = np.array([prior for table in raw for prior in table.priors.values()])
    labels = np.concatenate([table.labels[_test(table)] for table in raw])
    return Priors(
        train_low=train.min(axis=0),
        train=train.mean(axis=0),
        train_high=train.max(axis=0),
        target=np.mean([p for table in moved for p in table.priors.values()], axis=0),
        raw=_mean_posterior(raw),
        rebalanced=_mean_posterior(moved),
        reference=np.bincount(labels, minlength=len(results.classes)) / len(labels),
    )


def _test(table: Posteriors) -> np.ndarray:
    return (table.rows["role"] == "test").to_numpy()


def _mean_posterior(tables: list[Posteriors]) -> np.ndarray:
    return np.concatenate([np.exp(t.log_proba[_test(t)]) for t in tables]).mean(axis=0)
