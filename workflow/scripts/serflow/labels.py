"""Which utterances a study takes, and how the corpora's own labels become its classes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import pandas as pd

from serflow.errors import UserError, name_some

UNLABELLED = "without a label"


def keep_rows(
    utterances: pd.DataFrame, keep: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out the utterances that a study does not ask for.

    Parameters
    ----------
    utterances : DataFrame
        Utterances of all the study's corpora together.
    keep : mapping of str to sequence of str
        Column -> values that stay, e.g. `{"style": ["improvised"]}`. Corpora that have nothing in
        the column at all are left as they are.

    Returns
    -------
    kept : DataFrame
        The rows kept, in their order.
    dropped : dict of str to int
        Utterances left out, by column and value.

    Raises
    ------
    UserError
        A value that no utterance has, or an utterance without a value in a corpus that has some.

    Examples
    --------
    >>> rows = pd.DataFrame({"corpus": "x", "utterance_id": ["a", "b"], "style": ["said", "sung"]})
    >>> kept, dropped = keep_rows(rows, {"style": ["said"]})
    >>> list(kept["utterance_id"]), dropped
    (['a'], {'style sung': 1})
    """
    dropped: dict[str, int] = {}
    for column, values in keep.items():
        has = utterances.groupby("corpus")[column].transform("count") > 0
        gaps = utterances.loc[has & utterances[column].isna(), "utterance_id"]
        if len(gaps):
            raise UserError(
                f"keep.{column}: {len(gaps)} utterances have no {column}: {name_some(gaps)}. "
                "Fill it in the corpus, or take the line out of the study."
            )
        found = sorted(set(utterances.loc[has, column]))
        astray = [value for value in values if value not in found]
        if astray:
            raise UserError(
                f"keep.{column}: no utterance has {name_some(astray)}; "
                f"there are {name_some(found, 20) or 'none'}."
            )
        out = has & ~utterances[column].isin(list(values))
        counts = utterances.loc[out, column].value_counts(sort=False)
        dropped |= {f"{column} {value}": int(n) for value, n in counts.items()}
        utterances = utterances[~out]
    return utterances.reset_index(drop=True), dropped


def apply_labels(
    listing: pd.DataFrame,
    classes: Sequence[str],
    mapping: Mapping[str, str],
    drop: Sequence[str],
    unlabelled: str = "fail",
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Fill `label` from `label_raw`.

    A label in `drop` leaves its utterances out, one in `mapping` takes its class, one that is
    itself a class stays. Nothing else is accepted: an utterance is never left out unasked.

    Parameters
    ----------
    listing : DataFrame
        Listing or utterances of all the study's corpora together.
    classes : sequence of str
    mapping : mapping of str to str
        Corpus label -> class.
    drop : sequence of str
        Corpus labels. Names that no utterance has are harmless here and in `mapping`: a study may
        declare more than one corpus needs.
    unlabelled : {'fail', 'drop'}
        What utterances without a corpus label do: hidden test sets have none.

    Returns
    -------
    labelled : DataFrame
        The rows kept, in their order.
    dropped : dict of str to int
        Utterances left out by corpus label, every label of `drop` named, and `UNLABELLED` ones.

    Raises
    ------
    UserError
        A label is both mapped and dropped, mapped to no class, or neither mapped, dropped nor a
        class; a class has no utterance; or, with 'fail', an utterance has no label.

    Examples
    --------
    >>> rows = pd.DataFrame({"label_raw": ["exc", "hap", "xxx"]})
    >>> labelled, dropped = apply_labels(rows, ["happy"], {"exc": "happy", "hap": "happy"}, ["xxx"])
    >>> list(labelled["label"]), dropped
    (['happy', 'happy'], {'xxx': 1})
    """
    both = [label for label in mapping if label in drop]
    if both:
        raise UserError(f"labels.map and labels.drop both name {name_some(both)}: take one out")
    astray = [
        f"{raw} -> {to}{_nearest(to, classes)}" for raw, to in mapping.items() if to not in classes
    ]
    if astray:
        raise UserError(
            f"labels.map leads to what is no class: {name_some(astray)}. "
            f"The study's classes are {', '.join(classes)}."
        )
    bare = listing["label_raw"].isna()
    if bare.any() and unlabelled == "fail":
        raise UserError(
            f"{bare.sum()} of {len(bare)} utterances have no label: "
            f"{name_some(listing.loc[bare, 'utterance_id'])}. Hidden test sets have none: leave "
            "them out with `labels: {unlabelled: drop}` in the study, or give them one."
        )
    listing = listing[~bare]
    raw = listing["label_raw"]
    dropped = raw.isin(list(drop))
    label = raw.map(lambda name: mapping.get(name, name))
    unknown = raw[~dropped & ~label.isin(list(classes))]
    if len(unknown):
        counts = [
            f"{name} ({n} of {len(raw)} utterances{_nearest(name, classes)})"
            for name, n in unknown.value_counts().items()
        ]
        raise UserError(
            f"{len(counts)} corpus labels have no class: {name_some(counts, 20)}. Add each to "
            "labels.map or to labels.drop in the study. "
            f"The study's classes are {', '.join(classes)}."
        )
    labelled = listing.assign(label=label)[~dropped].reset_index(drop=True)
    present = set(labelled["label"])
    empty = [name for name in classes if name not in present]
    if empty:
        raise UserError(
            f"no utterance has class {name_some(empty)}; the corpora's labels are "
            f"{name_some(sorted(set(raw)), 20)}. Correct `classes`, or map a label to it."
        )
    counts = raw[dropped].value_counts()
    left_out = {name: int(counts.get(name, 0)) for name in drop}
    return labelled, left_out | ({UNLABELLED: int(bare.sum())} if bare.any() else {})


def _nearest(name: str, classes: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, classes, n=1, cutoff=0.5)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""
