"""From the corpora's own labels to the study's classes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import pandas as pd

from serflow.errors import UserError, name_some


def apply_labels(
    listing: pd.DataFrame, classes: Sequence[str], mapping: Mapping[str, str], drop: Sequence[str]
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

    Returns
    -------
    labelled : DataFrame
        The rows kept, in their order.
    dropped : dict of str to int
        Utterances left out by corpus label, every label of `drop` named.

    Raises
    ------
    UserError
        A label is both mapped and dropped, mapped to no class, or neither mapped, dropped nor a
        class; or a class has no utterance.

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
    return labelled, {name: int(counts.get(name, 0)) for name in drop}


def _nearest(name: str, classes: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, classes, n=1, cutoff=0.5)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""
