"""Late fusion of predicted attributes: an interpolation of its own for each attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from serflow.alignment import row_order
from serflow.attributes import Attributes
from serflow.digests import canonical, digest
from serflow.errors import UserError
from serflow.fusion import TIE, simplex_grid
from serflow.held_out import FitOn, groups_of, parts_of


class AttributeInterpolation(BaseEstimator):
    r"""Weighted mean of the systems' predictions, for each attribute the weights of the highest CCC.

    Predictions being linear in the weights, so are their means and covariances: every point of the
    grid is evaluated from one covariance matrix. Equally good points (within 1e-12): the one nearest
    to equal weights.

    Parameters
    ----------
    step : float
        Of the grid over the simplex, in (0, 1]; 1 / step must be an integer.

    Attributes
    ----------
    weights_ : ndarray of float64, shape (n_attributes, n_systems)
    grid_ : ndarray of float64, shape (n_points, n_systems)
    objective_ : ndarray of float64, shape (n_attributes, n_points)
        CCC on the fit rows at each point.

    References
    ----------
    TalTech, Odyssey 2024, section 3.3.2: "For each attribute dimension, an optimal interpolation
    coefficient was found"; 0.55 for valence and 0 for the others (section 4.2).

    Examples
    --------
    >>> reference = np.array([[1.0], [2.0], [3.0]])
    >>> fusion = AttributeInterpolation(step=0.25).fit([reference - 1, reference + 1], reference)
    >>> fusion.weights_.tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, step: float = 0.05):
        self.step = step

    def fit(self, stack: ArrayLike, reference: ArrayLike) -> AttributeInterpolation:
        """Find the weights.

        Parameters
        ----------
        stack : array of float, shape (n_systems, n_utterances, n_attributes)
        reference : array of float, shape (n_utterances, n_attributes)
            Without missing values.

        Raises
        ------
        ValueError
            If shapes differ, or values are missing.
        """
        stack, reference = np.asarray(stack, float), np.asarray(reference, float)
        if stack.ndim != 3 or stack.shape[1:] != reference.shape or not stack.size:
            raise ValueError(
                f"predictions have shape {stack.shape} and references {reference.shape}; expected "
                "(n_systems, n_utterances, n_attributes) and (n_utterances, n_attributes)"
            )
        if not (np.isfinite(stack).all() and np.isfinite(reference).all()):
            raise ValueError("predictions or references are missing or infinite")
        self.grid_ = simplex_grid(len(stack), self.step)
        self.objective_ = np.stack(
            [
                _concordance_over(self.grid_, stack[:, :, k], reference[:, k])
                for k in range(reference.shape[1])
            ]
        )
        apart = ((self.grid_ - 1 / len(stack)) ** 2).sum(axis=1)
        best = self.objective_ >= self.objective_.max(axis=1, keepdims=True) - TIE
        self.weights_ = self.grid_[np.where(best, apart, np.inf).argmin(axis=1)]
        return self

    def predict(self, stack: ArrayLike) -> NDArray[np.float64]:
        """Fuse predictions of shape (n_systems, n_utterances, n_attributes) into one."""
        check_is_fitted(self)
        return np.einsum("ks,snk->nk", self.weights_, np.asarray(stack, float))

    @classmethod
    def from_learnt(cls, fits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Self:
        """An interpolation with the mean weights of one or several fits.

        Parameters
        ----------
        fits : sequence of mapping
            Records of `fuse_attributes`, of which `weights` is read.
        names : sequence of str
            The attributes, in the order of the predictions.

        Raises
        ------
        ValueError
            If there is no fit, or one of other attributes.
        """
        odd = [sorted(fit["weights"]) for fit in fits if set(fit["weights"]) != set(names)]
        if odd or not fits:
            found = ", ".join(odd[0]) if odd else "no fit"
            raise ValueError(f"weights for {', '.join(names)} are needed; there is {found}")
        fusion = cls()
        fusion.weights_ = np.mean([[fit["weights"][n] for n in names] for fit in fits], axis=0)
        return fusion


def _concordance_over(
    grid: NDArray[np.float64], predicted: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """CCC at every point: grid (n_points, n_systems), predicted (n_systems, n), reference (n,)."""
    centred = predicted - predicted.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T / len(reference)
    shared = centred @ (reference - reference.mean()) / len(reference)
    spread = np.einsum("ps,st,pt->p", grid, covariance, grid)
    apart = (grid @ predicted.mean(axis=1) - reference.mean()) ** 2
    bottom = reference.var() + spread + apart
    return np.divide(2 * grid @ shared, bottom, out=np.zeros(len(grid)), where=bottom > 0)


def fuse_attributes(
    systems: Mapping[str, Attributes],
    name: str,
    fit_on: FitOn,
    step: float,
    utterances: pd.DataFrame,
) -> tuple[Attributes, list[dict[str, Any]]]:
    """Fuse the attributes that several systems predict.

    Parameters
    ----------
    systems : mapping of str to Attributes
        In the order of the weights.
    name : str
        Name of the fusion in the tables.
    fit_on : {"dev", "cross_fit"}
        As of `serflow.stacking.fuse`. Rows without references fit nothing.
    step : float
    utterances : DataFrame
        utterance_id, corpus, speaker.

    Returns
    -------
    fused : Attributes
    fits : list of dict
        One record a fit, as JSON: part, rows, weights by attribute, grid and CCC at its points.
    """
    first = next(iter(systems.values()))
    rows, stack = stack_attributes(systems)
    rated = ~np.isnan(first.reference).any(axis=1)
    fused = np.full(first.predicted.shape, np.nan)
    fits = []
    for part, scored, fitted in _splits(rows, fit_on, utterances):
        if not (fitted & rated).any():
            raise UserError(f"{name}: there are no rated rows to fit the fusion of {part} on")
        fusion = AttributeInterpolation(step).fit(
            stack[:, fitted & rated], first.reference[fitted & rated]
        )
        fused[scored] = fusion.predict(stack[:, scored])
        fits.append(
            {
                "part": part,
                "n": int((fitted & rated).sum()),
                "weights": dict(zip(first.scale.names, fusion.weights_.tolist(), strict=True)),
                "grid": fusion.grid_.tolist(),
                "objective": dict(zip(first.scale.names, fusion.objective_.tolist(), strict=True)),
            }
        )
    kept = ~np.isnan(fused).any(axis=1)
    return Attributes(
        rows=rows[kept].assign(system=name).reset_index(drop=True),
        predicted=np.clip(fused[kept], first.scale.low, first.scale.high),
        reference=first.reference[kept],
        scale=first.scale,
        seed=first.seed,
        system_digest=digest(canonical([table.system_digest for table in systems.values()])),
    ), fits


def _splits(
    rows: pd.DataFrame, fit_on: FitOn, utterances: pd.DataFrame
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Name, rows to predict and rows to fit on, of each fit."""
    if fit_on == "cross_fit":
        groups = groups_of(rows, utterances)
        test, parts = parts_of(rows, groups)
        for part in np.unique(parts):
            own = np.zeros(len(rows), dtype=bool)
            own[test] = parts == part
            yield str(part), own, test & ~own
        return
    folds, roles = rows["fold"].to_numpy(), rows["role"].to_numpy()
    for fold in dict.fromkeys(folds):
        yield str(fold), folds == fold, (folds == fold) & (roles == "dev")


def stack_attributes(systems: Mapping[str, Attributes]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Rows of the first system, and all predictions in their order."""
    names = list(systems)
    first = systems[names[0]]
    stacked = []
    for name in names:
        table = systems[name]
        if table.scale != first.scale:
            raise UserError(f"{names[0]} and {name} predict other attributes or on other scales")
        stacked.append(table.predicted[row_order(first.rows, table.rows, (names[0], name))])
    return first.rows, np.stack(stacked)
