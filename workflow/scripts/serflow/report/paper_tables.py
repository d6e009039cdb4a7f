"""The scores of a study as one table for a paper, in LaTeX and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from serflow.concordance import TITLES
from serflow.equal_error import EER
from serflow.metrics import METRICS
from serflow.reliability import RELIABILITY
from serflow.report.formats import DASH, MINUS, number, plural
from serflow.report.headline import spread
from serflow.report.results import STAGES, means_over_seeds

NAMES = {m.name: m.title for m in [*METRICS.values(), EER, *RELIABILITY.values()]} | TITLES
ROLES = ("test", "dev", "all")
# Columns of the scores that tell rows apart, in reading order, and how they are headed.
KEYS = {
    "system": "system",
    "stage": "stage",
    "role": "rows",
    "scope": "scope",
    "metric": "metric",
    "label": "label",
}
# What LaTeX reads as commands, and signs that not every engine and font knows.
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
        MINUS: "$-$", DASH: "--", "±": r"$\pm$",
    }
)  # fmt: skip


@dataclass(frozen=True)
class PaperTable:
    """One table as it is printed.

    Attributes
    ----------
    study : str
    cells : DataFrame of str
        Columns in reading order.
    notes : sequence of (str, str)
        Mark and text: letters are definitions, numbers sources; those without a mark are of all.
    """

    study: str
    cells: pd.DataFrame
    notes: list[tuple[str, str]]

    def latex(self) -> str:
        """A `longtable` with the rules of booktabs, and its notes below."""
        table = (
            self.cells.map(escaped)
            .rename(columns=escaped)
            .to_latex(
                index=False,
                longtable=True,
                column_format="l" * len(self.cells.columns),
                caption=f"Scores of {escaped(self.study)}.",
                label=f"tab:{self.study}",
            )
        )
        marks = [rf"\textsuperscript{{{mark}}} " if mark else "" for mark, _ in self.notes]
        notes = [
            rf"\noindent {mark}{escaped(text)}\par"
            for mark, (_, text) in zip(marks, self.notes, strict=True)
        ]
        head = ["% Needs the packages booktabs and longtable.", r"{\footnotesize"]
        return "\n".join([*head, r"\setlength{\tabcolsep}{3pt}", table.rstrip(), *notes, "}", ""])

    def markdown(self) -> str:
        """A pipe table, and its notes as a list."""
        cells = self.cells.map(lambda text: text.replace("|", r"\|"))
        table = cells.to_markdown(index=False, disable_numparse=True)
        notes = [f"- {mark}: {text}" if mark else f"- {text}" for mark, text in self.notes]
        return "\n".join([f"# Scores of {self.study}", "", table, "", *notes, ""])


def paper_table(study: str, scores: pd.DataFrame) -> PaperTable:
    """Print every score but the cells of confusion matrices.

    Test rows come first, numbers of all classes before those of one, single systems with their
    stages before fusions.

    Parameters
    ----------
    study : str
    scores : DataFrame
        `tables.SCORES`.

    Examples
    --------
    >>> row = {"study": "x", "seed": 1, "system": "svm", "stage": "raw", "role": "test",
    ...        "scope": "pooled", "metric": "wa", "label": "", "hypothesis": "", "definition": "Share of hits.",
    ...        "value": 0.5, "low": 0.4, "high": 0.6, "interval": "Bootstrap", "n": 80,
    ...        "paper": 0.55, "paper_source": "Table 1"}
    >>> table = paper_table("x", pd.DataFrame([row]))
    >>> table.cells[["value", "interval", "n", "published"]].iloc[0].tolist()
    ['0.500', '[0.400, 0.600]', '80', '0.55']
    >>> table.notes
    [('', 'Interval: Bootstrap.'), ('a', 'Share of hits.'), ('1', 'Table 1')]
    """
    # Single folds have a table of their own.
    whole = scores[(scores["hypothesis"] == "") & scores["scope"].isin(("pooled", "fold mean"))]
    texts = whole["stage"] == "transcribed"
    # Transcripts are scored once, whatever the number of seeds.
    parts = [means_over_seeds(part) for part in (whole[~texts], whole[texts]) if len(part)]
    rows = _in_reading_order(pd.concat(parts).reset_index())
    definitions = _marks(rows["definition"], _letter)
    sources = _marks(rows["paper_source"].dropna(), str)
    cells = pd.DataFrame({KEYS[key]: rows[key] for key in KEYS if key in rows})
    cells["metric"] = [NAMES.get(name, name.upper()) for name in rows["metric"]]
    cells["value"] = rows["value"].map(number)
    cells["interval"] = [spread(row) or DASH for row in rows.itertuples()]
    cells["n"] = rows["n"].astype(str)
    cells["published"] = [DASH if pd.isna(x) else f"{x:g}" for x in rows["paper"]]
    cells["source"] = [sources.get(text, DASH) for text in rows["paper_source"]]
    cells["definition"] = rows["definition"].map(definitions)
    seeds = whole.loc[~texts, "seed"].nunique()
    notes = [("", f"± is the standard deviation over {plural(seeds, 'seed')}.")] * (seeds > 1)
    shown = rows.loc[rows["low"].notna(), "interval"]
    notes += [("", f"Interval: {kind}.") for kind in dict.fromkeys(shown)]
    marked = {**definitions, **sources}
    notes += [(mark, " ".join(text.split())) for text, mark in marked.items()]
    return PaperTable(study, cells.astype(str), notes)


def escaped(text: str) -> str:
    r"""The text as LaTeX prints it.

    Examples
    --------
    >>> print(escaped("text_functionals: 95% of {a}"))
    text\_functionals: 95\% of \{a\}
    """
    return text.translate(LATEX)


def _in_reading_order(rows: pd.DataFrame) -> pd.DataFrame:
    stages = (*STAGES, "transcribed")
    order = pd.DataFrame(
        {
            "text": rows["stage"] == "transcribed",
            "role": rows["role"].map(ROLES.index),
            "class": rows["label"] != "",
            "fused": rows["stage"] == "fused",
            "system": pd.factorize(rows["system"])[0],
            "stage": rows["stage"].map(stages.index),
            "metric": pd.factorize(rows["metric"])[0],
        }
    )
    return rows.loc[order.sort_values(list(order), kind="stable").index].reset_index(drop=True)


def _marks(texts: Iterable[str], mark) -> dict[str, str]:
    return {text: mark(i) for i, text in enumerate(dict.fromkeys(texts), 1)}


def _letter(i: int) -> str:
    """1 is a, 26 is z, 27 is aa."""
    before, last = divmod(i - 1, 26)
    return (_letter(before) if before else "") + "abcdefghijklmnopqrstuvwxyz"[last]
