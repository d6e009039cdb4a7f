"""Posteriors that other programs made, brought to the frozen boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax

from serflow.errors import UserError, name_some
from serflow.given_files import refuse
from serflow.posteriors import Posteriors
from serflow.training_prior import empirical_prior

# Of a row's sum from 1: what three decimals of ten classes can come to, and half precision.
SUM_TOLERANCE = 0.005
OTHERWISE = "`values` says what the columns hold: probabilities, log_probabilities or logits."
Values = Literal["probabilities", "log_probabilities", "logits"]


def log_posteriors(
    given: pd.DataFrame, classes: Sequence[str], values: Values, where: str
) -> tuple[NDArray[np.float64], float]:
    """What a file says as log-posteriors.

    Parameters
    ----------
    given : DataFrame
        As of `read_given`, with a column a class.
    classes : sequence of str
    values : {'probabilities', 'log_probabilities', 'logits'}
    where : str
        System and file, for messages.

    Returns
    -------
    log_proba : ndarray of float64, shape (n, n_classes)
        Natural logarithms; each row's probabilities sum to 1 exactly, rounded files included.
    deviation : float
        The largest distance of a row's sum from 1 in the file; 0 for logits.

    Raises
    ------
    UserError
        Names the rows whose probabilities are negative or do not sum to 1 within `SUM_TOLERANCE`,
        or whose logits are infinite.
    """
    found = given[list(classes)].to_numpy(dtype=np.float64)
    if values == "logits":
        bad = ~np.isfinite(found).all(axis=1)
        refuse(given, bad, where, "have infinite logits", OTHERWISE)
        return log_softmax(found, axis=1), 0.0
    if values == "probabilities":
        bad = (found < 0).any(axis=1)
        refuse(given, bad, where, "have negative probabilities", OTHERWISE)
        with np.errstate(divide="ignore"):
            found = np.log(found)
    with np.errstate(over="ignore"):
        sums = np.exp(found).sum(axis=1)
    # Not `>`: NaN and infinity must not pass.
    bad = ~(np.abs(sums - 1) <= SUM_TOLERANCE)
    each = [f" sums to {value:.4g}" for value in sums]
    refuse(given, bad, where, "do not sum to 1", OTHERWISE, each)
    return found - np.log(sums)[:, None], float(np.abs(sums - 1).max(initial=0))


def given_posteriors(
    given: pd.DataFrame,
    utterances: pd.DataFrame,
    folds: pd.DataFrame,
    *,
    system: str,
    where: str,
    classes: Sequence[str],
    values: Values,
    train_prior: str | Mapping[str, float],
    fold_names: Mapping[str, str],
    extra: Literal["refuse", "ignore"],
    seed: int,
    system_digest: str,
) -> tuple[Posteriors, dict[str, Any]]:
    """Give every dev and test row of a study its posteriors from a file.

    Parameters
    ----------
    given : DataFrame
        As of `read_given`, with a column a class.
    utterances, folds : DataFrame
        `tables.UTTERANCES` and `tables.FOLDS` of the study.
    system : str
    where : str
        System and file, for messages.
    classes : sequence of str
    values : {'probabilities', 'log_probabilities', 'logits'}
    train_prior : {'uniform', 'from_train_rows'} or mapping of str to float
        What the models were effectively trained with.
    fold_names : mapping of str to str
        Fold -> its name in the file.
    extra : {'refuse', 'ignore'}
        What rows of no utterance do.
    seed : int
    system_digest : str

    Returns
    -------
    posteriors : Posteriors
    facts : dict
        Counts of rows, for the report.

    Raises
    ------
    UserError
        Ids of no utterance, rows that are there twice, folds of no such name, utterances without a
        row, an utterance of several folds without a fold in the file; and as `log_posteriors`.
    """
    log_proba, deviation = log_posteriors(given, classes, values, where)
    owners = _owners(given["utterance_id"], utterances["utterance_id"], where)
    strange = owners.isna()
    if extra == "refuse":
        fault = f"are of no utterance of the study, as {name_some(utterances['utterance_id'], 2)}"
        refuse(given, strange, where, fault, "Take them out, or set `extra: ignore`.")
    rows = folds[folds["role"].isin(["dev", "test"])].merge(
        utterances[["utterance_id", "label"]], on="utterance_id", validate="many_to_one"
    )
    at = _places(given, owners, rows, fold_names, where)
    used = np.unique(at)
    priors = {
        fold: _prior(train_prior, fold, utterances, folds, classes, where)
        for fold in dict.fromkeys(rows["fold"])
    }
    facts = {
        "rows_in_file": len(given),
        "rows_of_no_utterance": int(strange.sum()),
        "rows_not_asked_for": len(given) - int(strange.sum()) - len(used),
        "largest_deviation_from_1": deviation,
    }
    rows = rows.assign(system=system)[["utterance_id", "system", "fold", "role", "label"]]
    return (
        Posteriors(rows, log_proba[at], tuple(classes), priors, seed, system_digest),
        facts,
    )


def _owners(ids: pd.Series, utterances: pd.Series, where: str) -> pd.Series:
    """The utterance of each row, by its id with or without the corpus before it."""
    short = utterances.str.partition("/")[2]
    twice = set(short[short.duplicated()]) & set(ids) - set(utterances)
    if twice:
        raise UserError(
            f"{where}: {len(twice)} ids are those of utterances in several corpora: "
            f"{name_some(sorted(twice))}. Write ids as <corpus>/<id>"
        )
    whole = pd.Series(utterances.to_numpy(), index=utterances.to_numpy())
    known = pd.concat([whole, pd.Series(utterances.to_numpy(), index=short.to_numpy())])
    return ids.map(known[~known.index.duplicated()])


def _places(
    given: pd.DataFrame,
    owners: pd.Series,
    rows: pd.DataFrame,
    fold_names: Mapping[str, str],
    where: str,
) -> NDArray[np.int64]:
    """The place in the file of each dev and test row."""
    keys, wanted = [owners], [rows["utterance_id"]]
    if "fold" in given:
        odd = ~given["fold"].isin(list(fold_names.values()))
        names = name_some(fold_names.values(), 20)
        fault = f"are of no fold of the study, which has {names}"
        refuse(given, odd, where, fault, "Write the study's own names into that column.")
        keys.append(given["fold"])
        wanted.append(rows["fold"].map(fold_names))
    elif rows["utterance_id"].duplicated().any():
        many = rows.loc[rows["utterance_id"].duplicated(), "utterance_id"]
        raise UserError(
            f"{where}: {many.nunique()} utterances are predicted in several folds, as dev and as "
            f"test rows: {name_some(many.unique())}. Each fold has a model of its own, so give a "
            "row for each and say which in `fold_column`; or set folds.dev: none, and fit fusions "
            "by cross_fit"
        )
    index = pd.MultiIndex.from_arrays(keys)
    again = index.duplicated() & owners.notna().to_numpy()
    folded = "." if "fold" in given else ", or name the column of their folds as `fold_column`."
    refuse(given, again, where, "are there before", f"Keep one of each{folded}")
    at = index[~index.duplicated()].get_indexer(pd.MultiIndex.from_arrays(wanted))
    lost = rows[at < 0]
    if len(lost):
        named = lost["utterance_id"] + " (" + lost["role"] + " of fold " + lost["fold"] + ")"
        raise UserError(
            f"{where} lacks {len(lost)} of {len(rows)} rows to be scored: {name_some(named)}. Add "
            "them, or leave these utterances out of the study (`labels.drop`, `keep`, the table)"
        )
    return np.flatnonzero(~index.duplicated())[at]


def _prior(
    train_prior: str | Mapping[str, float],
    fold: str,
    utterances: pd.DataFrame,
    folds: pd.DataFrame,
    classes: Sequence[str],
    where: str,
) -> NDArray[np.float64]:
    if train_prior == "uniform":
        return np.full(len(classes), 1 / len(classes))
    if not isinstance(train_prior, str):
        return np.array([train_prior[label] for label in classes])
    trained = folds[(folds["fold"] == fold) & (folds["role"] == "train")]["utterance_id"]
    labels = utterances.loc[utterances["utterance_id"].isin(trained), "label"]
    codes = labels.map({label: i for i, label in enumerate(classes)}).dropna().astype(int)
    if codes.empty:
        raise UserError(
            f"{where}: train_prior is from_train_rows, but fold {fold} has no training row: give "
            "the prior as a mapping"
        )
    return empirical_prior(codes.to_numpy(), len(classes))
