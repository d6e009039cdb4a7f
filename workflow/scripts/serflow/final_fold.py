"""The fold behind a submission: trained on all that has a label, for all that has none."""

from __future__ import annotations

import pandas as pd

from serflow.config.submission import FINAL
from serflow.errors import UserError, name_some


def final_fold(
    labelled: pd.DataFrame, utterances: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the utterances without a label beside those of a study, and give all a role.

    Parameters
    ----------
    labelled : DataFrame
        `tables.UTTERANCES` of the study: all train.
    utterances : DataFrame
        `tables.UTTERANCES` of its corpora: those without `label_raw` are to be predicted.

    Returns
    -------
    rows : DataFrame
        `tables.UTTERANCES`; `label` is missing where it is to be predicted.
    folds : DataFrame
        `tables.FOLDS` with the single fold 'final'.

    Raises
    ------
    UserError
        Every utterance has a label, or one is on both sides.
    """
    hidden = utterances[utterances["label_raw"].isna()]
    if hidden.empty:
        raise UserError(
            f"all {len(utterances)} utterances have a label, so there is nothing to hand in: add "
            "the challenge's test part to the corpus, or take `submission` out of the study"
        )
    both = sorted(set(hidden["utterance_id"]) & set(labelled["utterance_id"]))
    if both:
        raise UserError(
            f"{len(both)} utterances to be predicted are trained on as well: {name_some(both)}. "
            "Run select_utterances anew."
        )
    rows = pd.concat([labelled, hidden.assign(label=None)], ignore_index=True)
    roles = ["train"] * len(labelled) + ["test"] * len(hidden)
    folds = pd.DataFrame({"utterance_id": rows["utterance_id"], "fold": FINAL, "role": roles})
    return rows, folds
