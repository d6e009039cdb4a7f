"""Which utterances form a batch: of like length or random, the same again for a seed and an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Utterances are ordered by length times a factor drawn from about [0.98, 1.02], so that a batch holds
# utterances of like length, but other ones in each epoch.
JITTER = 0.02

# Keeps the generator of batches apart from those of the examples, which are [seed, epoch, position].
SHUFFLE = 1_000_000_007

# Ratio of two lengths that batches are padded to where there should be few of them.
STEP = 1.05

# Ratio of the longest to the shortest utterance of a batch where its size is free.
ALIKE = 1.25


class Draw(NamedTuple):
    """One training example: everything random about it depends on these numbers and the seed.

    Attributes
    ----------
    epoch : int
        From 0.
    position : int
        Place in the epoch's list of examples, before batching.
    row : int
        The utterance. It differs from `position` under balanced sampling.
    batch : int, optional
        Place of its batch in the epoch; none until the example is in a batch.
    """

    epoch: int
    position: int
    row: int
    batch: int | None = None


class Batches:
    """A batch sampler for torch's DataLoader; nothing is dropped and no batch holds one example.

    Batch sizes differ by at most one: batch normalisation fails on a single example, and a short
    last batch would give its examples a larger share of the training.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    lengths : callable
        From a list of Draw to their lengths in any unit, shape (n,).
    batch_size : int
    seed : int
    bucketed : bool
        Batches of like length, else random ones.
    balanced : bool
        Draw n examples with all classes equally often, else every utterance once.
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        lengths: Callable[[list[Draw]], NDArray[np.float64]],
        batch_size: int,
        seed: int,
        bucketed: bool = True,
        balanced: bool = False,
    ) -> None:
        self._labels = labels
        self._lengths = lengths
        self._seed = seed
        self._bucketed = bucketed
        self._balanced = balanced
        self._epoch = 0
        self._n_batches = count_batches(len(labels), batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose batches come next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng([self._seed, self._epoch, SHUFFLE])
        n = len(self._labels)
        rows = balanced_rows(self._labels, rng) if self._balanced else np.arange(n)
        draws = [Draw(self._epoch, i, int(row)) for i, row in enumerate(rows)]
        if self._bucketed:
            lengths = np.maximum(self._lengths(draws), np.finfo(np.float64).tiny)
            order = np.argsort(np.log(lengths) + rng.uniform(-JITTER, JITTER, n), kind="stable")
        else:
            order = rng.permutation(n)
        batches = np.array_split(order, self._n_batches)
        for number, i in enumerate(rng.permutation(self._n_batches)):
            yield [draws[j]._replace(batch=number) for j in batches[i]]


def alike(lengths: NDArray[np.float64], size: int) -> list[NDArray[np.int64]]:
    """Utterances by batches of like length, shortest first: little is padded, the longest too.

    Parameters
    ----------
    lengths : ndarray of float, shape (n,)
    size : int
        Utterances of a batch, at most.
    """
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order]
    batches = []
    first = 0
    while first < len(order):
        longer = int(np.searchsorted(ascending, ALIKE * ascending[first], side="right"))
        last = min(first + size, longer)
        batches.append(order[first:last])
        first = last
    return batches


def rounded_up(length: int) -> int:
    """The next of few lengths, a twentieth apart."""
    size = 1
    while size < length:
        size = math.ceil(size * STEP)
    return size


def count_batches(n: int, batch_size: int) -> int:
    """Number of batches of about `batch_size`, none of which holds a single example if n > 1."""
    return max(1, min(-(-n // batch_size), n // 2))


def balanced_rows(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """As many rows as there are labels, with the classes that occur equally often.

    Every utterance of a class is drawn before any is drawn again.
    """
    classes = np.unique(labels)
    # Where n is no multiple of the number of classes, the extra draws go to other classes each time.
    counts = np.full(len(classes), len(labels) // len(classes))
    counts[rng.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    rows = []
    for label, count in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)
        passes = [rng.permutation(members) for _ in range(-(-count // len(members)))]
        rows.append(np.concatenate(passes)[:count] if passes else members[:0])
    return np.concatenate(rows)
