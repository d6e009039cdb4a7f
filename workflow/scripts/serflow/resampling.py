"""Resamples: what is drawn with replacement, how often, and the sums over it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK_VALUES = 2**22  # 32 MiB of float64 at a time
KEPT_VALUES = 2**23  # 32 MiB of float32: draws that are kept


def bootstrap_sums(
    table: ArrayLike, *, seed: int, clusters: ArrayLike | None = None, resamples: int = 10_000
) -> NDArray[np.floating]:
    """Sums over the rows of a table, of every resample: for what is a function of sums.

    Parameters
    ----------
    table : array of float, shape (n_utterances, n_columns)
        The sums have its precision: float32 is twice as fast, where seven digits do.
    seed, clusters, resamples
        As in `serflow.intervals.bootstrap_interval`.

    Returns
    -------
    sums : ndarray of float, shape (resamples, n_columns)

    Raises
    ------
    ValueError
        If lengths differ, there are no utterances or fewer than two clusters.

    Examples
    --------
    >>> sums = bootstrap_sums([[1.0, 3.0], [1.0, 5.0]], seed=0, resamples=3)
    >>> sums[:, 0].tolist()
    [2.0, 2.0, 2.0]
    """
    table = np.asarray(table)
    precision = np.float32 if table.dtype == np.float32 else np.float64
    if table.ndim != 2 or not len(table):
        raise ValueError(f"table has shape {table.shape}; expected (at least 1, n_columns)")
    if clusters is not None:
        unit, n_units = cluster_indices(clusters, len(table))
        table = np.column_stack([np.bincount(unit, column, n_units) for column in table.T])
    table = table.astype(precision, copy=False)
    return resampled_sums(table, np.ones(len(table), dtype=np.int64), resamples, seed)


def cluster_indices(clusters: ArrayLike, n: int) -> tuple[NDArray[np.int64], int]:
    """Number the clusters of utterances.

    Parameters
    ----------
    clusters : array, shape (n,)
        Speaker of each utterance.
    n : int
        Number of utterances.

    Returns
    -------
    unit : ndarray of int64, shape (n,)
        Index of each utterance's cluster.
    n_units : int

    Raises
    ------
    ValueError
        If lengths differ or there are fewer than two clusters.

    Examples
    --------
    >>> cluster_indices(["bert", "anna", "bert"], n=3)
    (array([1, 0, 1]), 2)
    """
    clusters = np.asarray(clusters)
    if clusters.shape != (n,):
        raise ValueError(f"clusters have shape {clusters.shape}; expected ({n},)")
    names, unit = np.unique(clusters, return_inverse=True)
    if names.size < 2:
        raise ValueError(
            f"all utterances are of cluster {names[0]!s}: there is nothing to resample"
        )
    return unit, names.size


def resampled_sums(
    units: NDArray, multiplicity: NDArray, resamples: int, seed: int
) -> NDArray[np.floating]:
    """Sums over units drawn with replacement, as many as there are.

    Parameters
    ----------
    units : ndarray of float, shape (n_units, ...)
    multiplicity : ndarray of int, shape (n_units,)
        How often each unit occurs, at least once: alike ones are drawn together.
    resamples, seed : int

    Returns
    -------
    sums : ndarray of float, shape (resamples, ...)
        In the precision of `units`.

    Raises
    ------
    ValueError
        If `resamples` is below 1.

    Examples
    --------
    >>> resampled_sums(np.array([2.0]), np.array([5]), resamples=2, seed=0)
    array([10., 10.])
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    n_units, draws = len(units), int(multiplicity.sum())
    if draws == n_units:  # equal chances, as speakers have: counting indices is faster
        return np.concatenate(
            [weighted_sum(times, units) for times in equal_draws(n_units, resamples, seed)]
        )
    if draws * resamples <= KEPT_VALUES:  # drawn before, most likely
        (times,) = equal_draws(draws, resamples, seed)
        alike = np.repeat(np.eye(n_units, dtype=np.float32), multiplicity, axis=0)
        return weighted_sum(times @ alike, units)  # single precision is exact for such counts
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK_VALUES // n_units)
    counts = []
    # The generator is read in sequence: the size of the chunks does not change what is drawn.
    for done in range(0, resamples, size):
        rows = min(size, resamples - done)
        times = rng.multinomial(draws, multiplicity / draws, size=rows)
        counts.append(weighted_sum(times, units))
    return np.concatenate(counts)


def equal_draws(n_units: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each of `n_units` is drawn, with replacement and as often as there are units.

    Up to `KEPT_VALUES` they are kept: the tables of a study have the same utterances, and ask for
    the same draws.

    Yields
    ------
    times : ndarray of float32, shape (some, n_units)
        Whole numbers; `resamples` rows in all. Not to be written to.

    Examples
    --------
    >>> [times.sum(axis=1).tolist() for times in equal_draws(4, resamples=2, seed=0)]
    [[4.0, 4.0]]
    """
    if n_units * resamples <= KEPT_VALUES:
        yield _kept_draws(n_units, resamples, seed)
        return
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK_VALUES // n_units)
    for done in range(0, resamples, size):
        yield _draw(rng, n_units, min(size, resamples - done))


@lru_cache(maxsize=4)
def _kept_draws(n_units: int, resamples: int, seed: int) -> NDArray[np.float32]:
    times = _draw(np.random.default_rng(seed), n_units, resamples)
    # Columns lie together: scores are followed utterance by utterance, all resamples at once.
    times = np.asfortranarray(times)
    times.setflags(write=False)
    return times


def _draw(rng: np.random.Generator, n_units: int, resamples: int) -> NDArray[np.float32]:
    drawn = rng.integers(n_units, size=(resamples, n_units))
    # One resample at a time: its counts stay in the processor's cache.
    times = [np.bincount(row, minlength=n_units) for row in drawn]
    return np.array(times, dtype=np.float32)


def weighted_sum(times: NDArray, units: NDArray) -> NDArray[np.floating]:
    """Sum over units, each `times` often: (..., n_units) and (n_units, ...) to (..., ...).

    In memory the resamples of one sum lie together: few classes are summed over, and many resamples.
    """
    weights = times.reshape(-1, len(units)).astype(units.dtype, copy=False)
    total = (units.reshape(len(units), -1).T @ weights.T).T
    return total.reshape(*times.shape[:-1], *units.shape[1:])


def percentiles(values: NDArray, level: float) -> NDArray[np.float64]:
    """Ends of the central part of resampled values.

    Parameters
    ----------
    values : ndarray of float64, shape (resamples, ...)
        NaN where undefined: such resamples are left out.
    level : float
        Share that lies between the ends, in (0, 1).

    Returns
    -------
    ends : ndarray of float64, shape (2, ...)
        NaN where no resample has a value.

    Raises
    ------
    ValueError
        If `level` is not in (0, 1).

    Examples
    --------
    >>> percentiles(np.arange(101.0), level=0.9)
    array([ 5., 95.])
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    # A rare class may be missing from some resamples: its recall is then taken over the others.
    missing = np.isnan(values)
    whole, some = ~missing.any(axis=0), missing.any(axis=0) & ~missing.all(axis=0)
    ends, shares = np.full((2, *values.shape[1:]), np.nan), [(1 - level) / 2, (1 + level) / 2]
    ends[:, whole] = np.quantile(values[:, whole], shares, axis=0)  # many times faster
    ends[:, some] = np.nanquantile(values[:, some], shares, axis=0)
    return ends
