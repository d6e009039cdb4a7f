"""A row of scores: its definition, its interval, how many utterances it is of, and the paper's value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from serflow.attributes import Attributes
from serflow.errors import UserError, name_some
from serflow.intervals import Interval
from serflow.posteriors import Posteriors


class Evaluation:
    """What all scores of a study share: its utterances, how they are resampled, what its paper says.

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

    def speakers(self, ids: Iterable[str]) -> np.ndarray | None:
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

    def clusters(self, ids: Iterable[str]) -> np.ndarray | None:
        """As `speakers`, of at least two."""
        clusters = self.speakers(ids)
        if clusters is not None and len(set(clusters)) < 2:
            raise UserError(
                f"intervals.unit is 'speaker', but {len(clusters)} rows have one speaker, "
                f"{clusters[0]}: there is nothing to resample; set it to 'utterance'"
            )
        return clusters

    def row(
        self,
        seed: int,
        system: str,
        stage: str,
        role: str,
        metric: str,
        labels: Sequence[str],
        definition: str,
        found: Interval,
    ) -> dict[str, Any]:
        """One row of `tables.SCORES`.

        Parameters
        ----------
        seed : int
            The system's.
        system, stage, role, metric : str
        labels : sequence of str, length 2
            `label` and `hypothesis`: empty, but for scores of a class, a cell, an attribute or a group.
        definition : str
        found : Interval
        """
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


def scope(table: Posteriors | Attributes) -> str:
    """How many folds the rows of a table come from, as a definition says it."""
    folds = table.rows["fold"].nunique()
    return f"Pooled over {folds} folds." if folds > 1 else "One fold."
