"""The Parquet tables between the stages: one schema each, checked on write and on read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from serflow.errors import UserError, name_some
from serflow.files import atomic

METADATA_KEY = b"serflow"
TEXT, NUMBER, INTEGER, FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()


@dataclass(frozen=True)
class Table:
    """What a table must look like.

    Parameters
    ----------
    name : str
        For messages.
    columns : mapping of str to pyarrow.DataType
        All columns, in order. `prefix` columns may follow them.
    key : sequence of str
        Columns that together are unique and never missing.
    required : sequence of str
        Further columns that are never missing.
    allowed : mapping of str to sequence of str
        Closed vocabularies; a missing value is allowed unless the column is required.
    prefix : str
        Float columns with this prefix may follow (log-probabilities, features).
    """

    name: str
    columns: Mapping[str, pa.DataType]
    key: Sequence[str]
    required: Sequence[str] = ()
    allowed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prefix: str = ""

    def check(self, frame: pd.DataFrame, where: str) -> None:
        """Raise UserError that names the table, the file, the column and the offending rows."""
        place = f"table '{self.name}' ({where})"
        extra = [
            c
            for c in frame.columns
            if c not in self.columns and not (self.prefix and c.startswith(self.prefix))
        ]
        missing = [c for c in self.columns if c not in frame.columns]
        if missing or extra:
            raise UserError(
                f"{place}: columns missing: {name_some(missing) or 'none'}; "
                f"unexpected: {name_some(extra) or 'none'}. "
                "It was written by another version or by hand: delete it and run again."
            )
        for column in [*self.key, *self.required]:
            gaps = frame.loc[frame[column].isna(), self.key[0]]
            if len(gaps):
                raise UserError(
                    f"{place}: '{column}' is missing in {len(gaps)} rows: {name_some(gaps)}"
                )
        twice = frame.loc[frame.duplicated(list(self.key)), self.key[0]]
        if len(twice):
            raise UserError(
                f"{place}: {' + '.join(self.key)} must be unique; "
                f"{len(twice)} rows repeat: {name_some(twice)}"
            )
        for column, values in self.allowed.items():
            odd = frame.loc[~frame[column].isin(values) & frame[column].notna()]
            if len(odd):
                raise UserError(
                    f"{place}: '{column}' must be one of {', '.join(values)}; "
                    f"found {name_some(sorted(set(odd[column])))} in {name_some(odd[self.key[0]])}"
                )

    def write(
        self, frame: pd.DataFrame, path: str | Path, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Check and write `frame` atomically; `metadata` must be JSON."""
        self.check(frame, str(path))
        extra = [c for c in frame.columns if c not in self.columns]
        order = [*self.columns, *extra]
        schema = pa.schema([(c, self.columns.get(c, NUMBER)) for c in order])
        try:
            table = pa.Table.from_pandas(frame[order], schema=schema, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(f"table '{self.name}' ({path}): {error}") from None
        payload = json.dumps(dict(metadata or {}), sort_keys=True, ensure_ascii=False)
        table = table.replace_schema_metadata({METADATA_KEY: payload.encode()})
        with atomic(path) as partial:
            pq.write_table(table, partial, compression="zstd")

    def read(self, path: str | Path) -> pd.DataFrame:
        """Read and check a table."""
        return self.read_with_metadata(path)[0]

    def read_with_metadata(self, path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Read and check a table, and its metadata."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"cannot read table '{self.name}' from {path}: {error}") from None
        metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
        frame = table.replace_schema_metadata(None).to_pandas()
        self.check(frame, str(path))
        return frame, metadata


_LISTING = {
    "utterance_id": TEXT,
    "corpus": TEXT,
    "path": TEXT,
    "start": NUMBER,
    "end": NUMBER,
    "channel": NUMBER,
    "speaker": TEXT,
    "gender": TEXT,
    "age": NUMBER,
    "race": TEXT,
    "ethnicity": TEXT,
    "language": TEXT,
    "session": TEXT,
    "style": TEXT,
    "sentence_id": TEXT,
    "text": TEXT,
    "label": TEXT,
    "label_raw": TEXT,
    "intensity": TEXT,
    "arousal": NUMBER,
    "valence": NUMBER,
    "dominance": NUMBER,
    "recognition": NUMBER,
    "naturalness": NUMBER,
    "partition": TEXT,
    "split": TEXT,
    "test_fold": TEXT,
    "position": NUMBER,
}
_VOCABULARIES = {"gender": ("female", "male"), "split": ("train", "dev", "test")}

# What a corpus's own files say. `channel` counts from 0 (missing: the mean of all), `age` is in
# years, `partition` is the corpus's own name of the part that `split` calls train, dev or test,
# `test_fold` its name of the fold that tests the utterance, `position` is the row's number in the
# corpus's own table, from 0. Without `path` an utterance is text alone, or a label alone; without
# `label_raw` it can be predicted, not scored.
LISTING = Table("listing", _LISTING, ["utterance_id"], ["corpus"], _VOCABULARIES)
# How many raters named each label, and how intense they found it (0 to 100), by what they were
# shown.
VOTES = Table(
    "votes",
    {"utterance_id": TEXT, "view": TEXT, "label": TEXT, "votes": INTEGER, "level": NUMBER},
    ["utterance_id", "view", "label"],
    ["votes"],
    {"view": ("voice", "face", "multimodal", "listeners")},
)
UTTERANCES = Table(
    "utterances",
    {
        **_LISTING,
        "duration_s": NUMBER,
        "sample_rate": INTEGER,
        "peak_db": NUMBER,
        "rms_db": NUMBER,
        "clipped": INTEGER,
        "silence_ratio": NUMBER,
        "audio_digest": TEXT,
        "audio_note": TEXT,
    },
    ["utterance_id"],
    ["corpus"],
    _VOCABULARIES,
)
SKIPPED = Table("skipped", {"utterance_id": TEXT, "path": TEXT, "reason": TEXT}, ["utterance_id"])
AUDIO_INDEX = Table(
    "audio index",
    {"utterance_id": TEXT, "offset": INTEGER, "samples": INTEGER},
    ["utterance_id"],
    ["offset", "samples"],
)
# The ids of the rows of an array beside it.
LAYER_MEANS = Table(
    "layer means", {"utterance_id": TEXT, "samples": INTEGER}, ["utterance_id"], ["samples"]
)
EMBEDDINGS = Table("embeddings", {"utterance_id": TEXT}, ["utterance_id"], prefix="e_")
FUNCTIONALS = Table("functionals", {"utterance_id": TEXT}, ["utterance_id"], prefix="f_")
# What one transcription job is given.
SHARD = Table(
    "shard",
    {"utterance_id": TEXT, "language": TEXT, "seconds": NUMBER, "audio_digest": TEXT},
    ["utterance_id"],
    ["language", "seconds", "audio_digest"],
)
TRANSCRIPTS = Table(
    "transcripts",
    {"utterance_id": TEXT, "text": TEXT, "status": TEXT, "note": TEXT, "asr": TEXT},
    ["utterance_id"],
    ["text", "status", "asr"],
    {"status": ("ok", "empty", "short", "silence", "suspect", "error")},
)
FOLDS = Table(
    "folds",
    {"utterance_id": TEXT, "fold": TEXT, "role": TEXT},
    ["utterance_id", "fold"],
    ["role"],
    {"role": ("train", "dev", "test")},
)
POSTERIORS = Table(
    "posteriors",
    {"utterance_id": TEXT, "system": TEXT, "fold": TEXT, "role": TEXT, "label": TEXT},
    ["utterance_id", "fold"],
    ["system", "role", "label"],
    {"role": ("dev", "test")},
    prefix="logp_",
)
# Predicted attributes have the study's names, references the prefix `reference_`; both on the
# study's scale.
ATTRIBUTES = Table(
    "attributes",
    {
        "utterance_id": TEXT,
        "system": TEXT,
        "fold": TEXT,
        "role": TEXT,
        "arousal": NUMBER,
        "valence": NUMBER,
        "dominance": NUMBER,
        "reference_arousal": NUMBER,
        "reference_valence": NUMBER,
        "reference_dominance": NUMBER,
    },
    ["utterance_id", "fold"],
    ["system", "role"],
    {"role": ("dev", "test")},
)
# `scope` is 'pooled' (all folds' rows together), 'fold mean', or 'fold ' and a fold's name.
SCORES = Table(
    "scores",
    {
        "study": TEXT,
        "seed": INTEGER,
        "system": TEXT,
        "stage": TEXT,
        "role": TEXT,
        "scope": TEXT,
        "metric": TEXT,
        "label": TEXT,
        "hypothesis": TEXT,
        "definition": TEXT,
        "value": NUMBER,
        "low": NUMBER,
        "high": NUMBER,
        "interval": TEXT,
        "n": INTEGER,
        "paper": NUMBER,
        "paper_source": TEXT,
    },
    ["study", "seed", "system", "stage", "role", "scope", "metric", "label", "hypothesis"],
    ["definition", "n"],
    {
        "stage": ("transcribed", "raw", "calibrated", "rebalanced", "fused"),
    },
)
COMPARISONS = Table(
    "comparisons",
    {
        "study": TEXT,
        "seed": INTEGER,
        "role": TEXT,
        "metric": TEXT,
        "system": TEXT,
        "stage": TEXT,
        "baseline": TEXT,
        "baseline_stage": TEXT,
        "difference": NUMBER,
        "low": NUMBER,
        "high": NUMBER,
        "p": NUMBER,
        "p_holm": NUMBER,
        "only_system": INTEGER,
        "only_baseline": INTEGER,
        "mcnemar_p": NUMBER,
        "mcnemar_p_holm": NUMBER,
        "interval": TEXT,
        "n": INTEGER,
    },
    ["study", "seed", "role", "metric", "system", "stage", "baseline", "baseline_stage"],
    ["difference", "low", "high", "n"],
)
