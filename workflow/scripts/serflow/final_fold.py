"""The rows behind a submission: all that have no label, beside those that were trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from serflow.errors import UserError, name_some


def hidden_rows(utterances: pd.DataFrame) -> pd.DataFrame:
    """The utterances that are to be predicted.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES` of a study's corpora.

    Returns
    -------
    DataFrame
        `tables.UTTERANCES`; those without `label_raw`, and without any rating.

    Raises
    ------
    UserError
        Every utterance has a label.
    """
    hidden = utterances[utterances["label_raw"].isna()]
    if hidden.empty:
        raise UserError(
            f"all {len(utterances)} utterances have a label, so there is nothing to hand in: add "
            "the challenge's test part to the corpus, or take `submission` out of the study"
        )
    return hidden.assign(label=None, arousal=np.nan, valence=np.nan, dominance=np.nan)


def fold_beside(
    labelled: pd.DataFrame, hidden: pd.DataFrame, fold: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put utterances that are to be predicted beside those to train on, and give all a role.

    Parameters
    ----------
    labelled : DataFrame
        `tables.UTTERANCES`: all train.
    hidden : DataFrame
        Of `hidden_rows`.
    fold : str
        Its name.

    Returns
    -------
    rows : DataFrame
        `tables.UTTERANCES`; `label` is missing where it is to be predicted.
    folds : DataFrame
        `tables.FOLDS` with this fold alone.

    Raises
    ------
    UserError
        An utterance is on both sides.
    """
    both = sorted(set(hidden["utterance_id"]) & set(labelled["utterance_id"]))
    if both:
        raise UserError(
            f"{len(both)} utterances to be predicted are trained on as well: {name_some(both)}. "
            "Run select_utterances anew."
        )
    rows = pd.concat([labelled, hidden], ignore_index=True)
    roles = ["train"] * len(labelled) + ["test"] * len(hidden)
    folds = pd.DataFrame({"utterance_id": rows["utterance_id"], "fold": fold, "role": roles})
    return rows, folds
