"""What a frozen encoder says of each utterance, averaged over time at every depth; computed once.

Mixing depths, a linear layer and the mean over time may change places, so that a classifier on such
means is the same as one on the frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serflow.errors import UserError, name_some
from serflow.files import atomic
from serflow.tables import LAYER_MEANS


@dataclass(frozen=True)
class Rows:
    """Layer means of some utterances.

    Attributes
    ----------
    values : ndarray of float32, shape (n, depths + 1, size)
        From the encoder's input up, its output last.
    samples : ndarray of int, shape (n,)
        How long the utterances are: what is batched together does not depend on where features come
        from.
    """

    values: NDArray[np.float32]
    samples: NDArray[np.int64]


class LayerMeans:
    """Arrays on disk with the utterances of their rows.

    Parameters
    ----------
    files : iterable of (array path, utterances path)
        As `write_layer_means` left them.
    """

    def __init__(self, files: Iterable[tuple[str | Path, str | Path]]) -> None:
        self._places: dict[str, tuple[NDArray[np.float32], int, int]] = {}
        for array, table in files:
            values = np.load(array, mmap_mode="r")
            known = LAYER_MEANS.read(table)
            if len(known) != len(values):
                raise UserError(
                    f"{array} has {len(values)} rows and {table} {len(known)}: remove both and run "
                    "again"
                )
            for row, (name, samples) in enumerate(known.itertuples(index=False, name=None)):
                self._places[name] = (values, row, samples)

    def rows(self, utterance_ids: Sequence[str]) -> Rows:
        """Means of some utterances, in the given order.

        Raises
        ------
        UserError
            An utterance has none.
        """
        missing = [name for name in utterance_ids if name not in self._places]
        if missing:
            raise UserError(f"{len(missing)} utterances have no layer means: {name_some(missing)}")
        found = [self._places[name] for name in utterance_ids]
        # Of no utterance at all, the sizes do not matter.
        values = (
            np.stack([values[row] for values, row, _ in found]) if found else np.empty((0, 1, 1))
        )
        return Rows(values, np.array([samples for _, _, samples in found], dtype=np.int64))


def write_layer_means(
    means: NDArray[np.float32],
    utterance_ids: Sequence[str],
    samples: Sequence[int],
    array: str | Path,
    table: str | Path,
) -> None:
    """Write both files, each whole or not at all.

    Parameters
    ----------
    means : ndarray of float32, shape (n, depths + 1, size)
    utterance_ids : sequence of str, length n
    samples : sequence of int, length n
    array, table : path
    """
    with atomic(array) as partial, Path(partial).open("wb") as file:
        np.save(file, means)
    LAYER_MEANS.write(pd.DataFrame({"utterance_id": utterance_ids, "samples": samples}), table)
