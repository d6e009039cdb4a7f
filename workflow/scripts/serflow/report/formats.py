"""How the report prints numbers: one way for each kind."""

from __future__ import annotations

import math
import re

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number; a dash where there is none.

    Examples
    --------
    >>> number(0.12345), number(-0.0001), number(None)
    ('0.123', '0.000', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A difference, always with its sign; zero has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def interval(low: float, high: float, digits: int = 3, sign: bool = False) -> str:
    """An interval in brackets."""
    write = signed if sign else number
    return f"[{write(low, digits)}, {write(high, digits)}]"


def percent(share: float, digits: int = 0) -> str:
    """A share as per cent; a dash for NaN."""
    return DASH if math.isnan(share) else f"{100 * share:.{digits}f}%"


def p_value(p: float | None) -> str:
    """A p-value to three digits, never as zero."""
    if p is None or math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: float) -> str:
    """A whole number, its thousands set apart."""
    return f"{round(n):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def memory(mebibytes: float) -> str:
    """Memory in MiB or GiB."""
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"


def listing(items: list[str]) -> str:
    """Names as English lists them.

    Examples
    --------
    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def plural(n: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count(n)} {noun}" + ("" if n == 1 else "s")


def without_folders(text: str) -> str:
    """The text with the folders of absolute paths cut: a page is shown on other machines.

    Examples
    --------
    >>> without_folders("cannot read /data/emodb/a.wav: empty")
    'cannot read a.wav: empty'
    """
    return re.sub(r"(?<![\w.:/~-])(?:~|[A-Za-z]:)?[/\\](?:[^/\\\n:\"']+[/\\])+", "", text)
