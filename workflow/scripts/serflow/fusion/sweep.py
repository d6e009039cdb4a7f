"""Which class wins all along a line between two sets of scores, without trying its points.

Between two ends every class's score is a straight line, so that the winning class of an utterance
changes at a few crossings only: those of the upper envelope of its lines. All points of a grid, or
the whole continuum, follow from the crossings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MARGIN = 1e-12  # scores closer than this are equal: rounding must not make a crossing
BLOCK = 16_384  # utterances looked at together
NEAR = 1e-9  # of a grid step: crossings that close to a grid point are looked at one by one


class Crossings(NamedTuple):
    """Where winning classes change on the way from the first end (0) to the second (1).

    Parameters
    ----------
    row : ndarray of int, shape (n_crossings,)
        The utterance.
    where : ndarray of float64, shape (n_crossings,)
        In [0, 1].
    old, new : ndarray of int, shape (n_crossings,)
        The winning class before and after it.
    """

    row: NDArray[np.int64]
    where: NDArray[np.float64]
    old: NDArray[np.int64]
    new: NDArray[np.int64]


def best_classes(scores: NDArray) -> NDArray[np.int64]:
    """The class of the highest score, the first of equals: (n_classes, n) to (n,).

    What `argmax` gives, ten times faster for few classes.
    """
    n_classes = len(scores)
    top = scores.max(axis=0)
    rank = np.zeros(scores.shape[1], dtype=np.min_scalar_type(n_classes))
    for c in range(n_classes):
        np.maximum(rank, (scores[c] == top) * rank.dtype.type(n_classes - c), out=rank)
    return n_classes - rank.astype(np.int64)


def crossings(start: NDArray, end: NDArray, first: NDArray, last: NDArray) -> Crossings:
    """Find all changes of the winning class.

    Where the lines of the two winners meet, either no third class is higher, and this is the only
    crossing, or the highest one wins there, and both halves are looked at likewise.

    Parameters
    ----------
    start, end : ndarray of float64, shape (n_classes, n_utterances)
        Scores at both ends.
    first, last : ndarray of int, shape (n_utterances,)
        Winning classes at both ends, different ones.
    """
    slope = end - start
    rows = np.arange(len(first))
    found = []
    while rows.size:
        from_start, to_end = start[first, rows], end[first, rows]
        lead, lag = from_start - start[last, rows], end[last, rows] - to_end
        where = lead / (lead + lag)
        every = not found  # the first time round: no need to copy columns
        mixed = (slope if every else slope.take(rows, axis=1)) * where
        mixed += start if every else start.take(rows, axis=1)
        third = mixed.max(axis=0) > from_start + where * (to_end - from_start) + MARGIN
        done, split = np.flatnonzero(~third), np.flatnonzero(third)
        found.append((rows[done], where[done], first[done], last[done]))
        between = best_classes(mixed.take(split, axis=1))
        rows = np.concatenate([rows[split], rows[split]])
        first, last = (
            np.concatenate([first[split], between]),
            np.concatenate([between, last[split]]),
        )
    return Crossings(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def confusions_along(
    start: NDArray, end: NDArray, reference: NDArray, steps: int
) -> NDArray[np.int64]:
    """Confusion counts at evenly spaced points between two ends.

    Parameters
    ----------
    start, end : ndarray of float64, shape (n_classes, n_utterances)
        Scores at both ends; in between they are interpolated linearly.
    reference : ndarray of int, shape (n_utterances,)
    steps : int
        Number of steps between the ends; at least 1.

    Returns
    -------
    counts : ndarray of int64, shape (steps + 1, n_classes, n_classes)

    Examples
    --------
    >>> start, end = np.array([[0.8], [0.2]]), np.array([[0.1], [0.9]])
    >>> confusions_along(start, end, np.array([1]), steps=2)[:, 1].tolist()
    [[1, 0], [0, 1], [0, 1]]
    """
    n_classes = len(start)
    changes = np.zeros((steps + 1) * n_classes**2, dtype=np.int64)
    # Block by block within the processor's cache: fresh memory for all of it takes longer than
    # the work.
    for begin in range(0, len(reference), BLOCK):
        rows = slice(begin, begin + BLOCK)
        _add_changes(changes, start[:, rows], end[:, rows], reference[rows], steps)
    return changes.reshape(steps + 1, n_classes, n_classes).cumsum(axis=0)


def _add_changes(
    changes: NDArray[np.int64], start: NDArray, end: NDArray, reference: NDArray, steps: int
) -> None:
    """Add to each cell of confusion counts how it changes from one point to the next."""
    n_classes, size = len(start), len(changes)
    first, last = best_classes(start), best_classes(end)
    changes += _cells(0, reference, first, n_classes, size)
    moving = np.flatnonzero(first != last)
    if not moving.size:
        return
    start, end = start.take(moving, axis=1), end.take(moving, axis=1)
    found = crossings(start, end, first[moving], last[moving])
    position = found.where * steps
    beside = np.abs(position - np.rint(position)) < NEAR
    if beside.any():
        # At a grid point itself, equal scores go to the first class, as everywhere: rows that
        # cross there are evaluated point by point.
        apart = np.unique(found.row[beside])
        kept = ~np.isin(found.row, apart)
        found, position = Crossings(*(values[kept] for values in found)), position[kept]
        own, before = reference[moving[apart]], first[moving[apart]]
        for point, share in enumerate(np.linspace(0, 1, steps + 1)):
            winner = best_classes((1 - share) * start[:, apart] + share * end[:, apart])
            changes += _cells(point, own, winner, n_classes, size)
            changes -= _cells(point, own, before, n_classes, size)
            before = winner
    point, own = np.ceil(position).astype(np.int64), reference[moving[found.row]]
    changes += _cells(point, own, found.new, n_classes, size)
    changes -= _cells(point, own, found.old, n_classes, size)


def confusions_between(
    start: NDArray, end: NDArray, reference: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Confusion counts of every stretch between two ends on which no winning class changes.

    Parameters are those of `confusions_along`.

    Returns
    -------
    edges : ndarray of float64, shape (n_stretches + 1,)
        From 0 to 1, ascending.
    counts : ndarray of int64, shape (n_stretches, n_classes, n_classes)
    """
    n_classes = len(start)
    first, last = best_classes(start), best_classes(end)
    moving = np.flatnonzero(first != last)
    counts = _cells(0, reference, first, n_classes, n_classes**2)[None]
    if not moving.size:
        return np.array([0.0, 1.0]), counts.reshape(1, n_classes, n_classes)
    found = crossings(
        start.take(moving, axis=1), end.take(moving, axis=1), first[moving], last[moving]
    )
    edges, stretch = np.unique(found.where.clip(0, 1), return_inverse=True)
    size = len(edges) * n_classes**2
    moved = reference[moving][found.row]
    changes = _cells(stretch, moved, found.new, n_classes, size) - _cells(
        stretch, moved, found.old, n_classes, size
    )
    counts = np.concatenate([counts, changes.reshape(len(edges), -1)]).cumsum(axis=0)
    edges = np.concatenate([[0.0], edges, [1.0]])
    long = np.diff(edges) > NEAR
    kept = np.concatenate([edges[:-1][long], [1.0]])
    return kept, counts[long].reshape(-1, n_classes, n_classes)


def _cells(
    point: NDArray | int, reference: NDArray, hypothesis: NDArray, n_classes: int, size: int
) -> NDArray[np.int64]:
    cell = (point * n_classes + reference) * n_classes + hypothesis
    return np.bincount(cell, minlength=size)
