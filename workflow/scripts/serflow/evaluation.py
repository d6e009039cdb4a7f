"""Tidy scores of posteriors, attributes and transcripts: each number with its definition, n and interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from serflow.attributes import Attributes
from serflow.concordance import DEFINITIONS, concordance_intervals
from serflow.equal_error import EER, equal_error_interval
from serflow.errors import UserError, name_some
from serflow.fold_intervals import fold_mean_interval
from serflow.intervals import bootstrap_intervals, paired_bootstrap
from serflow.metrics import METRICS, confusion
from serflow.posteriors import Posteriors
from serflow.reliability import RELIABILITY, reliability_interval
from serflow.significance import holm, mcnemar
from serflow.word_errors import ERROR_RATES, error_counts, error_rates

# What errors are told by, beside all: column of the utterances -> its name in the scores.
ERRORS_BY = {"split": "split", "corpus": "corpus", "label": "emotion", "gender": "gender"}


class Evaluator:
    """Scores the tables of one study.

    Parameters
    ----------
    study : str
    utterances : DataFrame
        utterance_id, corpus, speaker, text.
    resamples : int
        Bootstrap resamples.
    unit : {"utterance", "speaker"}
        What is resampled.
    seed : int
        Of the resampling.
    paper_values : sequence of mapping
        system, stage, role, metric, label (the attribute of a CCC), value, source.
    tried : mapping of str to int
        Systems of which the test rows of the folds chose among so many settings.
    """

    def __init__(
        self,
        study: str,
        utterances: pd.DataFrame,
        *,
        resamples: int,
        unit: str,
        seed: int,
        paper_values: Sequence[Mapping[str, Any]] = (),
        tried: Mapping[str, int] | None = None,
    ) -> None:
        self.study = study
        self.utterances = utterances.set_index("utterance_id")
        self.resamples = resamples
        self.unit = unit
        self.seed = seed
        self.paper = {
            (p["system"], p["stage"], p.get("role", "test"), p["metric"], p.get("label", "")): p
            for p in paper_values
        }
        self.tried = dict(tried or {})
        self.interval = f"95% percentile bootstrap over {unit}s, {resamples} resamples"

    def scores(self, posteriors: Posteriors, system: str, stage: str) -> list[dict[str, Any]]:
        """Every metric of one table, for its dev rows and its test rows, pooled over folds."""
        rows = []
        hypothesis = posteriors.log_proba.argmax(axis=1)
        scope = _scope(posteriors)
        for role in ("dev", "test"):
            chosen = (posteriors.rows["role"] == role).to_numpy()
            if not chosen.any():
                continue
            reference = posteriors.labels[chosen]
            clusters = self._clusters(posteriors.rows["utterance_id"][chosen])
            intervals = bootstrap_intervals(
                reference,
                hypothesis[chosen],
                len(posteriors.classes),
                list(METRICS),
                seed=self.seed,
                clusters=clusters,
                resamples=self.resamples,
            )
            for metric in METRICS.values():
                found = intervals[metric.name]
                for cell in np.ndindex(np.shape(found.value)):
                    labels = [posteriors.classes[i] for i in cell]
                    rows.append(
                        self._row(
                            posteriors.seed, system, stage, role, metric.name,
                            [*labels, "", ""][:2],
                            f"{metric.definition} {scope}", found.at(cell),
                        )
                    )  # fmt: skip
            rows += self._of_posteriors(posteriors, chosen, clusters, system, stage, role)
            rows += self._fold_means(posteriors, chosen, system, stage, role)
        return rows

    def _of_posteriors(
        self,
        posteriors: Posteriors,
        chosen: np.ndarray,
        clusters: np.ndarray | None,
        system: str,
        stage: str,
        role: str,
    ) -> list[dict[str, Any]]:
        """What depends on the posteriors themselves, not on decisions alone."""
        log_proba, reference = posteriors.log_proba[chosen], posteriors.labels[chosen]
        how = {"seed": self.seed, "clusters": clusters, "resamples": self.resamples}
        found = {EER.name: equal_error_interval(log_proba, reference, **how)}
        found |= reliability_interval(log_proba, reference, **how)
        definitions = {EER.name: EER.definition}
        definitions |= {name: metric.definition for name, metric in RELIABILITY.items()}
        scope = _scope(posteriors)
        return [
            self._row(
                posteriors.seed, system, stage, role, name, ["", ""],
                f"{definitions[name]} {scope}", interval,
            )
            for name, interval in found.items()
        ]  # fmt: skip

    def _fold_means(
        self, posteriors: Posteriors, chosen: np.ndarray, system: str, stage: str, role: str
    ) -> list[dict[str, Any]]:
        """Each fold's scores and their mean, where there are several: not those of pooled counts."""
        folds = posteriors.rows["fold"].to_numpy()
        names = [fold for fold in dict.fromkeys(folds) if (chosen & (folds == fold)).any()]
        if len(names) < 2:
            return []
        hypothesis = posteriors.log_proba.argmax(axis=1)
        counts = np.stack(
            [
                confusion(posteriors.labels[rows], hypothesis[rows], len(posteriors.classes))
                for rows in (chosen & (folds == fold) for fold in names)
            ]
        )
        interval = f"95% percentile bootstrap over {len(names)} folds, {self.resamples} resamples"
        rows = []
        for metric in METRICS.values():
            if metric.class_axes:
                continue
            found = fold_mean_interval(
                counts, metric.name, seed=self.seed, resamples=self.resamples
            )
            definition = (
                f"{metric.definition} Mean over {len(names)} folds, each weighing the same."
            )
            row = self._row(
                posteriors.seed, system, stage, role, metric.name, ["", ""], definition, found
            )
            n = int(counts.sum())
            rows.append(row | {"scope": "fold mean", "interval": interval, "n": n})
            rows += [
                row
                | {
                    "scope": f"fold {name}",
                    "definition": f"{metric.definition} Fold {name} alone.",
                    "value": float(metric(own)),
                    "low": None,
                    "high": None,
                    "interval": None,
                    "n": int(own.sum()),
                }
                for name, own in zip(names, counts, strict=True)
            ]
        return rows

    def agreement(self, attributes: Attributes, system: str, stage: str) -> list[dict[str, Any]]:
        """CCC of each attribute and their mean, for dev rows and test rows that are rated."""
        rows = []
        rated = ~np.isnan(attributes.reference).any(axis=1)
        for role in ("dev", "test"):
            chosen = (attributes.rows["role"] == role).to_numpy() & rated
            if not chosen.any():
                continue
            each, mean = concordance_intervals(
                attributes.reference[chosen],
                attributes.predicted[chosen],
                seed=self.seed,
                clusters=self._clusters(attributes.rows["utterance_id"][chosen]),
                resamples=self.resamples,
            )
            found = [("ccc", name, each.at((i,))) for i, name in enumerate(attributes.scale.names)]
            for metric, label, value in [*found, ("mean_ccc", "", mean)]:
                definition = f"{DEFINITIONS[metric]} {_scope(attributes)}"
                rows.append(
                    self._row(
                        attributes.seed, system, stage, role, metric, [label, ""], definition, value
                    )
                )
        return rows

    def error_rates(self, transcripts: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
        """WER and CER of each transcription, where the corpus gives reference texts.

        Parameters
        ----------
        transcripts : DataFrame
            `tables.TRANSCRIPTS`; a missing language counts as English.
        seed : int
            For the rows: that of a system.

        Returns
        -------
        list of dict
            Of all utterances (`label` empty), then by split, corpus, emotion and gender (`label`
            'gender female'), where there is more than one.
        """
        known = self.utterances.reindex(columns=["text", "language", *ERRORS_BY])
        known = known.rename(columns={"text": "reference"})
        joined = transcripts.join(
            known,
            on="utterance_id",
            how="inner",
        )
        joined = joined[joined["reference"].fillna("").str.strip() != ""].reset_index(drop=True)
        rows = []
        for asr, part in joined.groupby("asr", sort=False):
            counts = error_counts(part["reference"], part["text"], part["language"].fillna("en"))
            counts.index = part.index
            scopes = [("", part)]
            for column, name in ERRORS_BY.items():
                groups = list(part.groupby(column))
                if len(groups) > 1:
                    scopes += [(f"{name} {value}", chosen) for value, chosen in groups]
            for scope, chosen in scopes:
                rates = error_rates(
                    counts.loc[chosen.index],
                    seed=self.seed,
                    clusters=self._speakers(chosen["utterance_id"]),
                    resamples=self.resamples,
                )
                for metric, found in rates.items():
                    definition = ERROR_RATES[metric][1]
                    rows.append(
                        self._row(
                            seed, asr, "transcribed", "all", metric, [scope, ""], definition, found
                        )
                    )  # fmt: skip
        return rows

    def compare(
        self,
        tables: Mapping[tuple[str, str], Posteriors],
        metric: str = "macro_f1",
        twins: Sequence[tuple[str, str]] = (),
    ) -> list[dict[str, Any]]:
        """Paired bootstrap on the test rows of one seed.

        Rebalanced against raw, calibrated against raw where it decides otherwise, fused against every single table, the systems of a
        pair against each other, and every two tables of the last stages. Of each the paired
        bootstrap and McNemar's test; p-values once as they are and once corrected, by Holm, for
        all these comparisons together.

        Parameters
        ----------
        tables : mapping of (stage, system) to Posteriors
            Of one seed.
        metric : str
        twins : sequence of (system, system)
            Systems that differ in one thing: `StudyConfig.transcript_twins`.
        """
        tested = {table: _test_rows(posteriors) for table, posteriors in tables.items()}
        pairs = [
            ((s, n), ("raw", n))
            for s, n in tables
            if s == "rebalanced" or (s == "calibrated" and _decide_apart(tested, s, n))
        ]
        pairs += [
            ((s, n), other)
            for s, n in tables
            if s == "fused"
            for other in tables
            if other[0] in ("raw", "rebalanced")
        ]
        pairs += [
            ((stage, name), (stage, other))
            for name, other in twins
            for stage in ("raw", "rebalanced")
            if (stage, name) in tables
        ]
        # Of the last stages all pairs, for the matrix; the better known order of two comes first.
        last = [pair for pair in tables if pair[0] in ("rebalanced", "fused")]
        known = {frozenset(pair) for pair in pairs}
        pairs += [pair for pair in combinations(last, 2) if frozenset(pair) not in known]
        rows = [
            {
                "study": self.study,
                "seed": tables[a].seed,
                "role": "test",
                "metric": metric,
                "system": a[1],
                "stage": a[0],
                "baseline": b[1],
                "baseline_stage": b[0],
            }
            | self._difference(tested, a, b, len(tables[a].classes), metric)
            for a, b in pairs
        ]
        for p in ("p", "mcnemar_p"):
            adjusted = holm([row[p] for row in rows])
            for row, value in zip(rows, adjusted, strict=True):
                row[f"{p}_holm"] = float(value)
        return rows

    def _difference(
        self,
        tested: Mapping[tuple[str, str], pd.DataFrame],
        a: tuple[str, str],
        b: tuple[str, str],
        n_classes: int,
        metric: str,
    ) -> dict[str, Any]:
        first = tested[a]
        second = tested[b].reindex(first.index)
        if second["hypothesis"].isna().any():
            lost = second.index[second["hypothesis"].isna()]
            raise UserError(f"{b} lacks test rows that {a} has: {name_some(lost)}")
        reference = first["label"].to_numpy()
        decisions = (
            first["hypothesis"].to_numpy(),
            second["hypothesis"].to_numpy(dtype=int),
        )
        found = paired_bootstrap(
            reference,
            *decisions,
            n_classes,
            metric,
            seed=self.seed,
            clusters=self._clusters(first.index.get_level_values(0)),
            resamples=self.resamples,
        )
        test = mcnemar(reference, *decisions)
        return {
            "difference": float(found.difference),
            "low": float(found.low),
            "high": float(found.high),
            "p": float(found.p),
            "only_system": test.only_a,
            "only_baseline": test.only_b,
            "mcnemar_p": test.p,
            "interval": f"paired {self.interval}",
            "n": found.n,
        }

    def _speakers(self, ids: Iterable[str]) -> np.ndarray | None:
        """What is resampled as a whole, of each utterance; None where utterances are."""
        if self.unit == "utterance":
            return None
        speakers = self.utterances.loc[list(ids), "speaker"]
        if speakers.isna().any():
            raise UserError(
                "intervals.unit is 'speaker', but these utterances have none: "
                f"{name_some(speakers.index[speakers.isna()])}; set it to 'utterance'"
            )
        # Speaker 01 of one corpus is not speaker 01 of another.
        return (self.utterances.loc[list(ids), "corpus"] + "/" + speakers).to_numpy(dtype=str)

    def _clusters(self, ids: Iterable[str]) -> np.ndarray | None:
        """As `_speakers`, of at least two."""
        clusters = self._speakers(ids)
        if clusters is not None and len(set(clusters)) < 2:
            raise UserError(
                f"intervals.unit is 'speaker', but {len(clusters)} rows have one speaker, "
                f"{clusters[0]}: there is nothing to resample; set it to 'utterance'"
            )
        return clusters

    def _row(self, seed, system, stage, role, metric, labels, definition, found) -> dict[str, Any]:
        paper = self.paper.get((system, stage, role, metric, labels[0]))
        if role == "test" and system in self.tried:
            definition += f" These rows chose among {self.tried[system]} settings: optimistic."
        return {
            "study": self.study,
            "seed": seed,
            "system": system,
            "stage": stage,
            "role": role,
            "scope": "pooled",
            "metric": metric,
            "label": labels[0],
            "hypothesis": labels[1],
            "definition": definition,
            "value": float(found.value),
            "low": float(found.low),
            "high": float(found.high),
            "interval": self.interval,
            "n": found.n,
            "paper": paper["value"] if paper else None,
            "paper_source": paper["source"] if paper else None,
        }


def _scope(table: Posteriors | Attributes) -> str:
    folds = table.rows["fold"].nunique()
    return f"Pooled over {folds} folds." if folds > 1 else "One fold."


def _decide_apart(tested: Mapping[tuple[str, str], pd.DataFrame], stage: str, system: str) -> bool:
    """Whether a stage decides any test row otherwise than the raw posteriors."""
    mine = tested[stage, system]["hypothesis"]
    return not mine.equals(tested["raw", system]["hypothesis"])


def _test_rows(posteriors: Posteriors) -> pd.DataFrame:
    frame = posteriors.rows[["utterance_id", "fold", "role"]].assign(
        label=posteriors.labels, hypothesis=posteriors.log_proba.argmax(axis=1)
    )
    return frame[frame["role"] == "test"].set_index(["utterance_id", "fold"])
