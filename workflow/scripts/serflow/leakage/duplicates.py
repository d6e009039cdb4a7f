"""Copies of a recording that differ in their samples: found by their audio fingerprints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serflow.acoustics.fingerprints import HOP_S, WINDOW_S

PAIRS = ("utterance_id_a", "utterance_id_b", "offset_s", "overlap_s", "bit_error_rate")

# A word is looked up where it first appears and its hash is a multiple of this: the choice depends
# on the word alone, so a copy makes the same.
LOOKED_UP = 2
# A word that many recordings have (hum, a beep) is compared with this many of its next occurrences,
# not with all: the work is at most so many comparisons a word. Copies have other words as well.
OCCURRENCES = 128
# Where a word matches, words so many hops away must roughly match too; few pass the first round.
_AROUND = ((-24, -8, 8, 24), (-32, -16, 16, 32))
_AROUND_ERRORS = 0.35
# Of recordings that are no copies, the bit error rate over n words at which one word matches was
# measured (EmoDB, 1,089 such places) as 0.5 - 4.5 / n on average, with deviation 0.33 / sqrt(n);
# z = 6.2 leaves 3e-10 by chance, so 0.01 in the 3e7 places that 240 hours have. Actors who repeat a
# sentence as alike as they can come nearer than chance: two of RAVDESS to 0.27 over 135 words. Copies
# at 24 kbit/s (MP3) or with noise at 20 dB reach 0.13. The limit lies between.
_NEAR, _DEVIATION, _Z = 4.5, 0.33, 6.2
_MOST_ERRORS = 0.2
# Of EmoDB recordings cut to 0.84 s, 38 words, half are found again after MP3 at 24 kbit/s; of 0.80 s
# a hundredth, of 1 s 94 %.
LEAST_WORDS = 38
LEAST_S = WINDOW_S + LEAST_WORDS * HOP_S
_AT_ONCE = 2**22


def near_duplicates(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Find recordings that are copies of each other, or of parts of each other.

    Equal words propose pairs and offsets; the share of bits that differ over the whole overlap
    decides (`most_errors`). Exact copies are found as well.

    Parameters
    ----------
    tables : sequence of DataFrame
        `fingerprints.FINGERPRINTS` of one or more corpora; their ids differ.

    Returns
    -------
    DataFrame
        A row a pair, in the tables' order: `utterance_id_a`, `utterance_id_b`; `offset_s`, by how
        much later the same sound comes in b (seconds, steps of 0.012); `overlap_s`, seconds of
        speech compared; `bit_error_rate` in [0, 0.2]. Its `attrs` list the ids of recordings whose
        copies would mostly be missed: 'too_short' those of less than `LEAST_S`, 'too_quiet' those
        of less than that above the threshold of speech.

    Examples
    --------
    >>> words = np.random.default_rng(0).integers(1, 2**32, 100, dtype=np.uint32)
    >>> table = pd.DataFrame({"utterance_id": ["x", "y"], "words": [words, words[10:]]})
    >>> near_duplicates([table]).round(3).to_numpy().tolist()
    [['x', 'y', -0.12, 1.464, 0.0]]
    """
    rows = pd.concat([pd.DataFrame(columns=["utterance_id", "words"]), *tables], ignore_index=True)
    lengths = rows["words"].map(len).to_numpy(dtype=np.int64)
    if not lengths.sum():
        return _pairs(rows, *np.zeros((5, 0), np.int64))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    words = np.concatenate(rows["words"].to_list())
    owner = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
    proposed = [
        _distinct(_proposals(words, owner, starts, first, second))
        for first, second in _equal_words(words, owner)
    ]
    places = _distinct(np.concatenate(proposed) if proposed else np.zeros((0, 3), np.int64))
    errors, compared = _bit_errors(words, starts, places)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = errors / (32 * compared)
    kept = np.flatnonzero(rate <= most_errors(compared))
    # The best offset of each pair.
    a, b = places[kept, :2].T
    order = np.lexsort([rate[kept], b, a])
    _, best = np.unique(a[order] * len(rows) + b[order], return_index=True)
    chosen = kept[order][best]
    return _pairs(rows, *places[chosen].T, compared[chosen], rate[chosen])


def most_errors(compared: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bit error rate up to which an overlap of so many words is a copy; negative below 33 words.

    Parameters
    ----------
    compared : ndarray of int, shape (n,)

    Returns
    -------
    ndarray of float, shape (n,)
        At most 0.2.

    Examples
    --------
    >>> most_errors(np.array([40, 60, 80, 200])).round(2)
    array([0.06, 0.16, 0.2 , 0.2 ])
    """
    n = np.maximum(compared, 1)
    return np.minimum(_MOST_ERRORS, 0.5 - _NEAR / n - _Z * _DEVIATION / np.sqrt(n))


def _pairs(rows, a, b, offset, compared, rate) -> pd.DataFrame:
    names = rows["utterance_id"].to_numpy(dtype=object)
    columns = (names[a], names[b], offset * HOP_S, compared * HOP_S + WINDOW_S, rate)
    pairs = pd.DataFrame(dict(zip(PAIRS, columns, strict=True)))
    # With the pairs, as "no pair" means nothing for these.
    short = rows["words"].map(len).to_numpy() < LEAST_WORDS
    few = rows["words"].map(np.count_nonzero).to_numpy() < LEAST_WORDS
    pairs.attrs = {"too_short": names[short].tolist(), "too_quiet": names[few & ~short].tolist()}
    return pairs


def _equal_words(
    words: NDArray[np.uint32], owner: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield places, some at a time, that hold the same word in two recordings."""
    # A held word is one event; its repetitions would only multiply the pairs.
    chosen = words != 0
    chosen[1:] &= (words[1:] != words[:-1]) | (owner[1:] != owner[:-1])
    # Fibonacci hashing: the words' own bits are far from uniform.
    chosen &= (words * np.uint32(2654435769) >> np.uint32(16)) % LOOKED_UP == 0
    places = np.flatnonzero(chosen)
    keys = words[places].astype(np.uint64) << np.uint64(32) | places.astype(np.uint64)
    keys.sort()
    words, places = (keys >> np.uint64(32)).astype(np.uint32), keys.astype(np.uint32)
    del keys
    alive = np.arange(len(words) - 1)
    for step in range(1, OCCURRENCES + 1):
        alive = alive[: np.searchsorted(alive, len(words) - step)]
        alive = alive[words[alive] == words[alive + step]]
        if not len(alive):
            return
        for start in range(0, len(alive), _AT_ONCE):
            rows = alive[start : start + _AT_ONCE]
            first, second = places[rows].astype(np.int64), places[rows + step].astype(np.int64)
            apart = owner[first] != owner[second]
            yield first[apart], second[apart]


def _proposals(words, owner, starts, first, second) -> NDArray[np.int64]:
    """Recording a, recording b and offset in words of the matches whose neighbourhoods match too."""
    errors, compared = np.zeros((2, len(first)), np.int32)
    for steps in _AROUND:
        for step in steps:
            at_a = np.clip(first + step, 0, len(words) - 1)
            at_b = np.clip(second + step, 0, len(words) - 1)
            one, two = words[at_a], words[at_b]
            valid = (owner[at_a] == owner[first]) & (owner[at_b] == owner[second])
            valid &= (one != 0) & (two != 0)
            errors += np.bitwise_count(one ^ two) * valid
            compared += valid
        kept = errors <= _AROUND_ERRORS * 32 * compared
        first, second, errors, compared = (x[kept] for x in (first, second, errors, compared))
    a, b = owner[first].astype(np.int64), owner[second].astype(np.int64)
    return np.stack([a, b, second - starts[b] - first + starts[a]], axis=1)


def _distinct(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return pd.DataFrame(rows).drop_duplicates().to_numpy()


def _bit_errors(words, starts, places) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bits that differ and words compared, over the whole overlap at each place."""
    a, b, offset = places.T
    begin = np.maximum(0, -offset)
    overlap = np.minimum(starts[a + 1] - starts[a], starts[b + 1] - starts[b] - offset) - begin
    errors, compared = np.zeros((2, len(places)), np.int64)
    done = np.concatenate([[0], np.cumsum(overlap)])
    low = 0
    while low < len(places):
        high = max(low + 1, int(np.searchsorted(done, done[low] + _AT_ONCE, side="right")) - 1)
        part = slice(low, high)
        within = np.arange(done[high] - done[low]) - np.repeat(
            done[part] - done[low], overlap[part]
        )
        at_a = within + np.repeat(starts[a[part]] + begin[part], overlap[part])
        one, two = (
            words[at_a],
            words[at_a + np.repeat((starts[b] - starts[a] + offset)[part], overlap[part])],
        )
        valid = (one != 0) & (two != 0)
        edges = done[part] - done[low]
        errors[part] = np.add.reduceat(np.bitwise_count(one ^ two) * valid, edges, dtype=np.int64)
        compared[part] = np.add.reduceat(valid, edges, dtype=np.int64)
        low = high
    return errors, compared
