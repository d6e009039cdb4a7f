"""Reduction of utterance embeddings: length normalisation and linear discriminant analysis.

Apart from `backends`, so that an edit here retrains no system that uses none of it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh, svd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

# Class means nearer to each other than this, in standard deviations within classes, are equal.
RANK_TOLERANCE = 1e-8


class LengthNormalisation(TransformerMixin, BaseEstimator):
    r"""Centre vectors on the training mean and scale each to the same length.

    .. math:: z = \sqrt{d} \, \frac{x - m}{\lVert x - m \rVert}

    The length :math:`\sqrt{d}` keeps the mean square of a feature at 1, as in Kaldi. A vector that
    equals the mean has no direction and stays zero.

    Parameters
    ----------
    scale : bool
        False centres only.

    Attributes
    ----------
    mean_ : ndarray of float64, shape (n_features,)

    References
    ----------
    D. Garcia-Romero and C. Espy-Wilson, "Analysis of i-vector length normalization in speaker
    recognition systems", Interspeech 2011.

    Examples
    --------
    >>> LengthNormalisation().fit_transform([[4.0, 3.0], [-4.0, -3.0], [0.0, 0.0]]).round(2)
    array([[ 1.13,  0.85],
           [-1.13, -0.85],
           [ 0.  ,  0.  ]])
    """

    def __init__(self, scale: bool = True) -> None:
        self.scale = scale

    def fit(self, X: ArrayLike, y: object = None) -> LengthNormalisation:
        """Learn the mean of vectors, shape (n, n_features); `y` is ignored."""
        self.mean_ = validate_data(self, X, dtype=np.float64).mean(axis=0)
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Normalise vectors, shape (n, n_features) to the same shape."""
        check_is_fitted(self)
        centred = validate_data(self, X, dtype=np.float64, reset=False) - self.mean_
        if self.scale:
            length = np.linalg.norm(centred, axis=1, keepdims=True)
            centred *= np.sqrt(centred.shape[1]) / np.where(length > 0, length, 1)
        return centred


class LinearDiscriminantTransform(TransformerMixin, BaseEstimator):
    r"""Linear discriminant analysis to any number of dimensions.

    With :math:`S_w` and :math:`S_b` the covariance within and between classes (each row weighs the
    same, so that :math:`S_w + S_b` is the total covariance) and :math:`\alpha` the
    `total_covariance_factor`, the projection P solves

    .. math:: P^T (S_w + \alpha S_b) P = I, \quad P^T S_b P = \mathrm{diag}(\lambda), \quad
              z = (x - m) P

    Of K classes only K - 1 directions tell the means apart; 15 of 8 classes are impossible in the
    textbook's analysis. `mode` has three readings of the paper's "LDA to 15 dimensions".

    Parameters
    ----------
    dim : int
        Dimensions to keep, at least 1.
    mode : {"whiten", "emotion_x_gender", "clip"}
        'whiten': as Kaldi does, further whitened directions fill up what the class means leave
        open. 'emotion_x_gender': the classes are the pairs of label and gender, 8 x 2 = 16, which
        have 15 directions. 'clip': as many dimensions as the classes allow, at most `dim`.
    total_covariance_factor : float
        In [0, 1]: what has unit covariance afterwards, from the rows within classes to all rows.
    covariance_floor : float
        In (0, 1): smaller eigenvalues of the whitened covariance, relative to its largest, are
        raised to this. It carries features that never vary, such as dead units.

    Attributes
    ----------
    mean_ : ndarray of float64, shape (n_features,)
    projection_ : ndarray of float64, shape (n_features, dim_)
    between_variance_ : ndarray of float64, shape (dim_,)
        :math:`\lambda`, descending; 0 where a direction does not tell the class means apart.
    dim_ : int

    Notes
    -----
    Directions with :math:`\lambda = 0` are all alike to the analysis, and Kaldi takes whichever the
    eigensolver finds. Here they are the principal components of what the discriminant scores leave
    of the rows, largest variance first: the same on every machine and after any rotation of the
    features. Each direction has the sign that makes its largest coefficient positive. Only equal
    eigenvalues leave a choice to rounding.

    References
    ----------
    Kaldi, `ivector-compute-lda`, whose defaults are taken.
    H. Härm and T. Alumäe, "TalTech systems for the Odyssey 2024 emotion recognition challenge",
    section 3.1: 15 dimensions, nothing more.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 500)
    >>> x = rng.normal(size=(1000, 3)) * [1, 5, 2] + np.outer(y, [3, 0, 0])
    >>> lda = LinearDiscriminantTransform(dim=2).fit(x, y)
    >>> np.abs(lda.projection_).round(1)  # the class difference, then the widest of the rest
    array([[1. , 0. ],
           [0. , 0.2],
           [0. , 0. ]])
    """

    def __init__(
        self,
        dim: int = 15,
        mode: Literal["whiten", "emotion_x_gender", "clip"] = "whiten",
        total_covariance_factor: float = 0.0,
        covariance_floor: float = 1e-6,
    ) -> None:
        self.dim = dim
        self.mode = mode
        self.total_covariance_factor = total_covariance_factor
        self.covariance_floor = covariance_floor

    def fit(
        self, X: ArrayLike, y: ArrayLike, gender: ArrayLike | None = None
    ) -> LinearDiscriminantTransform:
        """Learn the projection.

        Parameters
        ----------
        X : array of float, shape (n, n_features)
        y : array, shape (n,)
            Class labels.
        gender : array, shape (n,), optional
            Only for `mode` 'emotion_x_gender'. Rows where it is missing (None or NaN) are left out.

        Raises
        ------
        ValueError
            If a parameter is out of range, the genders are not given but needed, there are fewer
            than two classes or too few for `dim`, or the rows of a class are all the same.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=np.float64)
        label = np.unique(y, return_inverse=True)[1]
        if self.mode == "emotion_x_gender":
            X, label = _with_gender(X, label, gender)
        n_classes = label.max() + 1
        if n_classes < 2:
            raise ValueError(f"discriminant analysis needs two classes; there is {n_classes} class")
        dim = self._possible_dim(n_classes, X.shape[1])

        self.mean_ = X.mean(axis=0)
        counts, means, within = class_scatter(X, label)
        means = np.sqrt(counts / len(X))[:, None] * (means - self.mean_)  # S_b = means.T @ means
        mixed = within / len(X) + self.total_covariance_factor * means.T @ means
        values, vectors = eigh(mixed)
        if values[-1] <= 0:
            raise ValueError("no feature varies within a class: there is nothing to whiten by")
        values = np.maximum(values, self.covariance_floor * values[-1])
        whitening = vectors / np.sqrt(values)

        _, strength, directions = svd(means @ whitening, full_matrices=False)
        rank = int((strength > RANK_TOLERANCE * max(1, strength[0])).sum())
        directions = directions[:rank].T
        if dim > rank:
            rest = _principal_components_beside(directions, values, dim - rank)
            directions = np.hstack([directions, rest])
        projection = whitening @ directions[:, :dim]
        largest = np.abs(projection).argmax(axis=0)
        self.projection_ = projection * np.sign(projection[largest, np.arange(dim)])
        self.between_variance_ = np.zeros(dim)
        self.between_variance_[:rank] = strength[: min(rank, dim)] ** 2
        self.dim_ = dim
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Project vectors, shape (n, n_features) to (n, dim_)."""
        check_is_fitted(self)
        return (
            validate_data(self, X, dtype=np.float64, reset=False) - self.mean_
        ) @ self.projection_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _check_parameters(self) -> None:
        if self.mode not in ("whiten", "emotion_x_gender", "clip"):
            raise ValueError(f"mode is {self.mode!r}; expected whiten, emotion_x_gender or clip")
        if self.dim < 1:
            raise ValueError(f"dim is {self.dim}; expected 1 or more")
        if not 0 <= self.total_covariance_factor <= 1:
            raise ValueError(
                f"total_covariance_factor is {self.total_covariance_factor}; expected 0 to 1"
            )
        if not 0 < self.covariance_floor < 1:
            raise ValueError(
                f"covariance_floor is {self.covariance_floor}; expected between 0 and 1"
            )

    def _possible_dim(self, n_classes: int, n_features: int) -> int:
        if self.mode == "clip":
            return min(self.dim, n_classes - 1, n_features)
        if self.dim > n_features:
            raise ValueError(f"dim is {self.dim}, but n_features = {n_features}")
        if self.mode == "emotion_x_gender" and self.dim > n_classes - 1:
            raise ValueError(
                f"dim is {self.dim}, but the {n_classes} pairs of emotion and gender have "
                f"{n_classes - 1} discriminant directions; lower dim, or take mode 'whiten'"
            )
        return self.dim


def class_scatter(
    X: NDArray[np.float64], label: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Counts, means and pooled scatter of classes.

    Parameters
    ----------
    X : ndarray of float64, shape (n, n_features)
    label : ndarray of int, shape (n,)
        0 to n_classes - 1; every class occurs.

    Returns
    -------
    counts : ndarray of int, shape (n_classes,)
    means : ndarray of float64, shape (n_classes, n_features)
    scatter : ndarray of float64, shape (n_features, n_features)
        Sum over the rows of the outer product of a row's distance from its class mean.
    """
    counts = np.bincount(label)
    means = np.stack([X[label == c].mean(axis=0) for c in range(len(counts))])
    residual = X - means[label]
    return counts, means, residual.T @ residual


def _with_gender(
    X: NDArray, label: NDArray[np.int64], gender: ArrayLike | None
) -> tuple[NDArray, NDArray[np.int64]]:
    """The rows whose gender is known, labelled by the pair of class and gender."""
    if gender is None:
        raise ValueError("mode is 'emotion_x_gender', which needs genders: fit(X, y, gender=...)")
    gender = np.asarray(gender, dtype=object)
    if gender.shape != label.shape:
        raise ValueError(f"gender has shape {gender.shape}; expected {label.shape}")
    known = ~pd.isna(gender)
    if not known.any():
        raise ValueError("mode is 'emotion_x_gender', but no row's gender is known")
    genders, code = np.unique(gender[known].astype(str), return_inverse=True)
    pair = label[known] * len(genders) + code
    return X[known], np.unique(pair, return_inverse=True)[1]


def _principal_components_beside(
    directions: NDArray[np.float64], values: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Whitened directions orthogonal to given ones, by the variance that they explain unwhitened.

    In whitened coordinates with variances `values` before the whitening, a direction u explains
    the variance u' diag(values) u of the rows.
    """
    size = len(values)
    beside = np.eye(size) - directions @ directions.T
    explained = beside @ (values[:, None] * beside)
    vectors = eigh(explained, subset_by_index=[size - n, size - 1])[1]
    return vectors[:, ::-1]
