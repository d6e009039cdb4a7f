"""What the files of all challenges share: a header, and one row for each id in a fixed order."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serflow.errors import UserError, name_some

# What every reader of numbers takes: no blanks, no underscores, no words such as nan.
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Sheet:
    r"""A CSV file as a challenge asks for it, whatever its values.

    Attributes
    ----------
    file : str
        Its name, for messages.
    header : sequence of str
        The first is the column of the ids.
    ids : sequence of str
        In the order of the rows.
    source : str
        Where the ids and their order are from, for messages.

    Examples
    --------
    >>> sheet = Sheet("results.csv", ["id", "label"], ["b", "a"], "the test file")
    >>> print(sheet.text([["b", "joy"], ["a", "fear"]]), end="")
    id,label
    b,joy
    a,fear
    >>> sheet.rows("id,label\nb,joy\na,fear\n")
    [['b', 'joy'], ['a', 'fear']]
    """

    file: str
    header: Sequence[str]
    ids: Sequence[str]
    source: str

    def text(self, rows: Iterable[Sequence[str]]) -> str:
        """The file of these rows; what is in them is checked by `rows`."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *rows])
        return text.getvalue()

    def rows(self, text: str) -> list[list[str]]:
        """The rows of a file.

        Parameters
        ----------
        text : str
            Its content.

        Raises
        ------
        UserError
            It is no CSV, has another header or rows of another length; ids are missing, strange,
            there twice or in another order.
        """
        try:
            lines = list(csv.reader(io.StringIO(text), strict=True))
        except csv.Error as error:
            raise UserError(f"{self.file}: {error}; expected comma-separated rows") from None
        header, rows = (lines[0], lines[1:]) if lines else ([], [])
        if header != list(self.header):
            found = ",".join(header) or "empty"
            raise UserError(f"{self.file}: header is {found}; expected {','.join(self.header)}")
        ragged = [f"line {n}" for n, row in enumerate(rows, 2) if len(row) != len(header)]
        if ragged:
            raise UserError(f"{self.file}: expected {len(header)} fields in {name_some(ragged)}")
        found = [row[0] for row in rows]
        self.check_ids(self.file, found)
        if found != list(self.ids):
            pairs = enumerate(zip(found, self.ids, strict=True), 2)
            first = next(n for n, (own, wanted) in pairs if own != wanted)
            raise UserError(
                f"{self.file}: from line {first} on, rows are not in the order of {self.source}"
            )
        return rows

    def check_ids(self, where: str, found: Sequence[str]) -> None:
        """Raise UserError for ids that are missing, strange or there twice; `where` they are."""
        counts, wanted = Counter(found), set(self.ids)
        faults = [
            f"{len(names)} {fault}: {name_some(names)}"
            for fault, names in (
                ("are there twice", [name for name, n in counts.items() if n > 1]),
                ("are missing", [name for name in self.ids if name not in counts]),
                (f"are not in {self.source}", sorted(set(found) - wanted)),
            )
            if names
        ]
        if faults:
            raise UserError(
                f"{where}: of the {len(self.ids)} ids of {self.source}, " + "; ".join(faults)
            )

    def check_labels(
        self, rows: Sequence[Sequence[str]], column: str, expected: Sequence[str], hint: str = ""
    ) -> None:
        """Raise UserError for values of a column that are not among the expected ones."""
        at = list(self.header).index(column)
        odd = [f"{row[0]} ({row[at] or 'none'})" for row in rows if row[at] not in expected]
        if odd:
            raise UserError(
                f"{self.file}: {column} of {len(odd)} rows is not one of "
                f"{', '.join(expected) or 'none'}: {name_some(odd)}.{hint}"
            )

    def check_numbers(
        self, rows: Sequence[Sequence[str]], column: str, low: float, high: float
    ) -> None:
        """Raise UserError for values of a column that are no numbers from `low` to `high`."""
        at = list(self.header).index(column)
        odd = [
            f"{row[0]} ({row[at] or 'none'})"
            for row in rows
            if not (NUMBER.fullmatch(row[at]) and low <= float(row[at]) <= high)
        ]
        if odd:
            raise UserError(
                f"{self.file}: {column} of {len(odd)} rows is no number from {low:g} to {high:g}: "
                f"{name_some(odd)}"
            )
