"""Search for weights on a grid over the simplex: all of it, or coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

TIE = 1e-12  # objectives closer than this are equal: last-bit noise must not choose the weights
WHOLE = 3  # systems up to which every point of the grid is tried
COARSE_POINTS = 300
MAX_GRID_POINTS = 1_000_000

# Gains, higher is better, along a line: the systems s and t share a weight, all others keep theirs.
# (weights (n_systems,) with 0 for s and t, s, t, shared weight, number of steps) to (steps + 1,),
# from all of the shared weight with t to all of it with s.
Line = Callable[[NDArray[np.float64], int, int, float, int], NDArray[np.float64]]


def steps_of(step: float) -> int:
    """How many steps make 1.

    Raises
    ------
    ValueError
        If it is no whole number.
    """
    steps = round(1 / step) if 0 < step <= 1 else 0
    if abs(steps * step - 1) > 1e-9:
        raise ValueError(
            f"step is {step}; expected 1 divided by a whole number, such as 0.05 or 0.1"
        )
    return steps


def simplex_grid(n_systems: int, step: float) -> NDArray[np.float64]:
    """All weight vectors whose entries are multiples of `step` and sum to 1.

    Parameters
    ----------
    n_systems : int
        At least 1.
    step : float
        In (0, 1], and 1 / step an integer.

    Returns
    -------
    grid : ndarray of float64, shape (n_points, n_systems)
        Sorted by the first system's weight, then the second's, and so on; n_points is
        binomial(1 / step + n_systems - 1, n_systems - 1).

    Raises
    ------
    ValueError
        If 1 / step is not an integer, or the grid has more than a million points.

    Examples
    --------
    >>> simplex_grid(2, step=0.5)
    array([[0. , 1. ],
           [0.5, 0.5],
           [1. , 0. ]])
    """
    steps = steps_of(step)
    return _compositions(n_systems, steps) / steps


def search(n_systems: int, step: float, line: Line) -> tuple[NDArray, NDArray, NDArray]:
    """Find the weights of the highest gain.

    Up to three systems every point of the grid is tried. Beyond that a coarser grid is (the finest
    with at most 300 points whose step is a multiple of `step`), and from its best point weight is
    moved between two systems at a time, over all pairs and on the fine grid, until no pair gains.
    That is a local optimum; for a concave gain, as that of a likelihood, the global one but for
    the grid.

    Parameters
    ----------
    n_systems : int
    step : float
    line : callable
        See `Line`; called with every line that is searched.

    Returns
    -------
    weights : ndarray of float64, shape (n_systems,)
        Of equally good points (within 1e-12), the one nearest to equal weights; if that is still a
        tie, the first.
    grid : ndarray of float64, shape (n_points, n_systems)
        Every point that was tried, sorted.
    gains : ndarray of float64, shape (n_points,)
    """
    steps = steps_of(step)
    tried: dict[tuple[int, ...], float] = {}

    def along(base: NDArray[np.int64], s: int, t: int, units: int, stride: int = 1) -> None:
        gains = line(base / steps, s, t, units / steps, units // stride)
        for i, gain in zip(range(0, units + 1, stride), gains, strict=True):
            point = base.copy()
            point[s] += i
            point[t] += units - i
            tried.setdefault(tuple(point.tolist()), float(gain))

    if n_systems < 2:
        raise ValueError(f"{n_systems} systems to weigh; expected two or more")
    coarse = 1 if n_systems <= WHOLE else _coarse_step(n_systems, steps)
    for others in _lines(n_systems, steps // coarse):
        base = np.concatenate([[0, 0], others * coarse])
        along(base, 0, 1, steps - int(base.sum()), stride=coarse)
    if coarse > 1:
        _climb(tried, n_systems, along)
    points = np.array(sorted(tried))
    gains = np.array([tried[tuple(point)] for point in points.tolist()])
    return points[_best(points, gains)] / steps, points / steps, gains


def _climb(tried: dict[tuple[int, ...], float], n_systems: int, along: Callable) -> None:
    points = np.array(sorted(tried))
    here = points[_best(points, np.array([tried[tuple(p)] for p in points.tolist()]))]
    while True:
        before = tried[tuple(here.tolist())]
        for s, t in combinations(range(n_systems), 2):
            base = here.copy()
            base[[s, t]] = 0
            units = int(here[s] + here[t])
            if not units:
                continue
            along(base, s, t, units)
            on_line = np.repeat(base[None], units + 1, axis=0)
            on_line[:, s] += np.arange(units + 1)
            on_line[:, t] += units - np.arange(units + 1)
            gains = np.array([tried[tuple(point)] for point in on_line.tolist()])
            if gains.max() > tried[tuple(here.tolist())] + TIE:
                here = on_line[_best(on_line, gains)]
        if tried[tuple(here.tolist())] <= before + TIE:
            return


def _best(points: NDArray, gains: NDArray) -> int:
    """The best point; of equals the one nearest to equal weights; of those the first."""
    tied = np.flatnonzero(gains >= gains.max() - TIE)
    uneven = ((points[tied] / points[0].sum() - 1 / points.shape[1]) ** 2).sum(axis=1).round(12)
    return int(tied[uneven.argmin()])


def _coarse_step(n_systems: int, steps: int) -> int:
    """The smallest multiple of the fine step, dividing 1, whose grid is small enough."""
    fitting = [
        k
        for k in range(1, steps + 1)
        if steps % k == 0 and comb(steps // k + n_systems - 1, n_systems - 1) <= COARSE_POINTS
    ]
    return fitting[0] if fitting else steps


def _lines(n_systems: int, steps: int) -> NDArray[np.int64]:
    """Weights, in steps, of all systems but the first two: what they may take together."""
    if n_systems == 2:
        return np.zeros((1, 0), dtype=np.int64)
    return _compositions(n_systems - 1, steps)[:, 1:]


def _compositions(n_systems: int, steps: int) -> NDArray[np.int64]:
    n_points = comb(steps + n_systems - 1, n_systems - 1)
    if n_points > MAX_GRID_POINTS:
        raise ValueError(
            f"step {1 / steps:g} over {n_systems} systems makes {n_points:,} weight vectors, more "
            f"than {MAX_GRID_POINTS:,}; take a coarser step, fewer systems or "
            "LogisticRegressionFusion"
        )
    # Stars and bars: the gaps between the bars are the weights, counted in steps.
    bars = np.array(list(combinations(range(steps + n_systems - 1), n_systems - 1)), dtype=np.int64)
    bars = bars.reshape(n_points, n_systems - 1)
    return np.diff(bars, axis=1, prepend=-1, append=steps + n_systems - 1) - 1
