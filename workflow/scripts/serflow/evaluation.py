"""Tidy scores of posteriors and transcripts: each number with its definition, n and interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from serflow.errors import UserError, name_some
from serflow.intervals import bootstrap_interval, paired_bootstrap
from serflow.metrics import METRICS
from serflow.posteriors import Posteriors

WER_DEFINITION = (
    "Word error rate: substitutions, deletions and insertions over reference words, pooled over "
    "utterances; lower case, no punctuation."
)


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
        system, stage, metric, value, source.
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
    ) -> None:
        self.study = study
        self.utterances = utterances.set_index("utterance_id")
        self.resamples = resamples
        self.unit = unit
        self.seed = seed
        self.paper = {(p["system"], p["stage"], p["metric"]): p for p in paper_values}
        self.interval = f"95% percentile bootstrap over {unit}s, {resamples} resamples"

    def scores(self, posteriors: Posteriors, system: str, stage: str) -> list[dict[str, Any]]:
        """Every metric of one table, for its dev rows and its test rows, pooled over folds."""
        rows = []
        hypothesis = posteriors.log_proba.argmax(axis=1)
        for role in ("dev", "test"):
            chosen = (posteriors.rows["role"] == role).to_numpy()
            if not chosen.any():
                continue
            reference = posteriors.labels[chosen]
            clusters = self._clusters(posteriors.rows["utterance_id"][chosen])
            for metric in METRICS.values():
                found = bootstrap_interval(
                    reference,
                    hypothesis[chosen],
                    len(posteriors.classes),
                    metric.name,
                    seed=self.seed,
                    clusters=clusters,
                    resamples=self.resamples,
                )
                for cell in np.ndindex(np.shape(found.value)):
                    labels = [posteriors.classes[i] for i in cell]
                    rows.append(
                        self._row(
                            posteriors.seed,
                            system,
                            stage,
                            role,
                            metric.name,
                            [*labels, "", ""][:2],
                            f"{metric.definition} {self._scope(posteriors)}",
                            np.asarray(found.value)[cell],
                            np.asarray(found.low)[cell],
                            np.asarray(found.high)[cell],
                            int(chosen.sum()),
                        )
                    )
        return rows

    def word_errors(self, transcripts: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
        """Word error rate of each ASR, where the corpus gives reference texts."""
        import jiwer

        clean = jiwer.Compose(
            [
                jiwer.ToLowerCase(),
                jiwer.RemovePunctuation(),
                jiwer.RemoveMultipleSpaces(),
                jiwer.Strip(),
            ]
        )
        joined = transcripts.set_index("utterance_id").join(
            self.utterances[["text", "split", "speaker"]], how="inner", rsuffix="_reference"
        )
        joined = joined[joined["text_reference"].fillna("").str.strip() != ""]
        rows = []
        for (asr, role), part in joined.assign(split=joined["split"].fillna("test")).groupby(
            ["asr", "split"]
        ):
            errors, words = [], []
            for reference, hypothesis in zip(part["text_reference"], part["text"], strict=True):
                out = jiwer.process_words(clean(reference), clean(hypothesis))
                errors.append(out.substitutions + out.deletions + out.insertions)
                words.append(out.substitutions + out.deletions + out.hits)
            value, low, high = self._ratio_interval(
                np.array(errors), np.array(words), part.index.to_series()
            )
            rows.append(
                self._row(
                    seed, asr, "transcribed", role, "wer", ["", ""], WER_DEFINITION,
                    value, low, high, len(part),
                )
            )  # fmt: skip
        return rows

    def compare(
        self, tables: Mapping[tuple[str, str], Posteriors], metric: str = "macro_f1"
    ) -> list[dict[str, Any]]:
        """Paired bootstrap on the test rows: rebalanced against raw, fused against every single table.

        Parameters
        ----------
        tables : mapping of (stage, system) to Posteriors
            Of one seed.
        metric : str
        """
        pairs = [((s, n), ("raw", n)) for s, n in tables if s == "rebalanced"]
        pairs += [
            ((s, n), other)
            for s, n in tables
            if s == "fused"
            for other in tables
            if other[0] != "fused"
        ]
        return [self._comparison(tables, a, b, metric) for a, b in pairs]

    def _comparison(
        self,
        tables: Mapping[tuple[str, str], Posteriors],
        a: tuple[str, str],
        b: tuple[str, str],
        metric: str,
    ) -> dict[str, Any]:
        first = _test_rows(tables[a])
        second = _test_rows(tables[b]).reindex(first.index)
        if second["hypothesis"].isna().any():
            lost = second.index[second["hypothesis"].isna()]
            raise UserError(f"{b} lacks test rows that {a} has: {name_some(lost)}")
        found = paired_bootstrap(
            first["label"].to_numpy(),
            first["hypothesis"].to_numpy(),
            second["hypothesis"].to_numpy(dtype=int),
            len(tables[a].classes),
            metric,
            seed=self.seed,
            clusters=self._clusters(first.index.get_level_values(0)),
            resamples=self.resamples,
        )
        return {
            "study": self.study,
            "seed": tables[a].seed,
            "role": "test",
            "metric": metric,
            "system": a[1],
            "stage": a[0],
            "baseline": b[1],
            "baseline_stage": b[0],
            "difference": float(found.difference),
            "low": float(found.low),
            "high": float(found.high),
            "p": float(found.p),
            "interval": f"paired {self.interval}",
            "n": found.n,
        }

    def _clusters(self, ids: Iterable[str]) -> np.ndarray | None:
        if self.unit == "utterance":
            return None
        speakers = self.utterances.loc[list(ids), "speaker"]
        if speakers.isna().any():
            raise UserError(
                "intervals.unit is 'speaker', but these utterances have none: "
                f"{name_some(speakers.index[speakers.isna()])}; set it to 'utterance'"
            )
        # Speaker 01 of one corpus is not speaker 01 of another.
        clusters = (self.utterances.loc[list(ids), "corpus"] + "/" + speakers).to_numpy(dtype=str)
        if len(set(clusters)) < 2:
            raise UserError(
                f"intervals.unit is 'speaker', but {len(clusters)} rows have one speaker, "
                f"{clusters[0]}: there is nothing to resample; set it to 'utterance'"
            )
        return clusters

    def _ratio_interval(
        self, part: np.ndarray, whole: np.ndarray, ids: pd.Series
    ) -> tuple[float, float, float]:
        """Bootstrap of sum(part) / sum(whole)."""
        clusters = self._clusters(ids)
        if clusters is not None:
            groups = np.unique(clusters, return_inverse=True)[1]
            part, whole = np.bincount(groups, part), np.bincount(groups, whole)
        rng = np.random.default_rng(self.seed)
        ratios = np.empty(self.resamples)
        for i in range(self.resamples):  # one at a time: all index rows at once would be gigabytes
            drawn = rng.integers(len(part), size=len(part))
            ratios[i] = part[drawn].sum() / max(whole[drawn].sum(), 1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        return float(part.sum() / max(whole.sum(), 1)), float(low), float(high)

    def _scope(self, posteriors: Posteriors) -> str:
        folds = len(posteriors.priors)
        return f"Pooled over {folds} folds." if folds > 1 else "One fold."

    def _row(
        self, seed, system, stage, role, metric, labels, definition, value, low, high, n
    ) -> dict[str, Any]:
        paper = self.paper.get((system, stage, metric)) if role == "test" else None
        return {
            "study": self.study,
            "seed": seed,
            "system": system,
            "stage": stage,
            "role": role,
            "metric": metric,
            "label": labels[0],
            "hypothesis": labels[1],
            "definition": definition,
            "value": float(value),
            "low": float(low),
            "high": float(high),
            "interval": self.interval,
            "n": n,
            "paper": paper["value"] if paper else None,
            "paper_source": paper["source"] if paper else None,
        }


def _test_rows(posteriors: Posteriors) -> pd.DataFrame:
    frame = posteriors.rows[["utterance_id", "fold", "role"]].assign(
        label=posteriors.labels, hypothesis=posteriors.log_proba.argmax(axis=1)
    )
    return frame[frame["role"] == "test"].set_index(["utterance_id", "fold"])
