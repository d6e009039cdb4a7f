"""Panels as SVG: drawn narrow, so that their text stays legible on a phone; side by side where wide."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

# Before matplotlib is imported: it would write its font list into the user's home.
_CONFIG = tempfile.TemporaryDirectory(prefix="serflow-matplotlib-")
os.environ.setdefault("MPLCONFIGDIR", _CONFIG.name)

import matplotlib as mpl  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure as Canvas  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

INK, MUTED, LINE, PAPER = "#1f2430", "#667080", "#dfe3e8", "#ffffff"
# Okabe and Ito's colours, told apart by all common kinds of colour vision.
STAGE_COLOURS = {
    "raw": "#7d8590",
    "calibrated": "#009e73",
    "rebalanced": "#0072b2",
    "fused": "#d55e00",
}
# On the page, colours follow the page's light or dark scheme.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--paper",
    STAGE_COLOURS["raw"]: "--raw",
    STAGE_COLOURS["calibrated"]: "--calibrated",
    STAGE_COLOURS["rebalanced"]: "--rebalanced",
    STAGE_COLOURS["fused"]: "--fused",
}
WIDTH = 4.5  # inches; 324 units of the SVG


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes
    ----------
    title : str
    alt : str
        What it shows, for those who cannot see it.
    height : float
        Inches.
    draw : callable
        Draws into axes.
    """

    title: str
    alt: str
    height: float
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes
    ----------
    name : str
    panels : list of Panel
    nothing : str
        Said in words where there is no panel.
    """

    name: str
    panels: list[Panel]
    nothing: str = ""

    def inline(self) -> list[str]:
        """One SVG element a panel, for the page, which prints the titles itself."""
        return [
            _for_page(
                _svg([replace(panel, title="")], 1, f"{self.name}-{i}"),
                f"{self.name}-{i}",
                panel.alt,
            )
            for i, panel in enumerate(self.panels)
        ]

    def file(self) -> str:
        """The whole figure as an SVG document."""
        panels = self.panels or [Panel("", self.nothing, 1.0, _words(self.nothing))]
        return _svg(panels, min(2, len(panels)), self.name)


def frame(ax: Axes, grid: str) -> None:
    """Only a thin lower line, and grid lines of one direction: 'x', 'y' or 'both'."""
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(LINE)
    ax.grid(axis=grid, color=LINE, lw=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    ax.xaxis.set_major_locator(MaxNLocator(6))


def _words(text: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        ax.set_axis_off()
        ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, wrap=True)

    return draw


@contextmanager
def _style(salt: str) -> Iterator[None]:
    settings = {
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.labelcolor": INK,
        "axes.facecolor": "none",
        "figure.facecolor": PAPER,
        "text.parse_math": False,  # class names are names, not formulas
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def _svg(panels: list[Panel], columns: int, salt: str) -> str:
    rows = -(-len(panels) // columns)
    heights = [max(p.height for p in panels[r * columns :][:columns]) for r in range(rows)]
    with _style(salt):
        canvas = Canvas(figsize=(WIDTH * columns, sum(heights)), layout="constrained")
        canvas.get_layout_engine().set(h_pad=0.12, w_pad=0.08)
        grid = canvas.add_gridspec(rows, columns, height_ratios=heights)
        for i, panel in enumerate(panels):
            ax = canvas.add_subplot(grid[divmod(i, columns)])
            ax.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", pad=8)
            panel.draw(ax)
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)
    # The reader's own sans-serif: the list of matplotlib's fonts stands for nothing better.
    text = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", text)
    text = re.sub(r"(font: [^;\"]*?px )[^;\"]*", r"\1system-ui, sans-serif", text)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)


def _for_page(svg: str, prefix: str, alt: str) -> str:
    """The <svg> element alone, its ids unique on the page, its colours those of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    used = set(re.findall(r"(?:xlink:href=\"|url\()#([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\1{prefix}-", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    head, body = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{_attribute(alt)}">{body}'.strip()


def _attribute(text: str) -> str:
    return (
        text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    )
