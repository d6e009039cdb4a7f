"""Check a file before it is handed in: `python -m serflow.submission FORMAT FILE UTTERANCES`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from serflow.errors import UserError
from serflow.submission.formats import FORMATS, check_file
from serflow.tables import UTTERANCES


def main() -> None:
    """Say that the file is what the challenge asks for, or what is wrong with it (exit status 1)."""
    parser = argparse.ArgumentParser(prog="python -m serflow.submission", description=__doc__)
    titles = "; ".join(f"{name}: {found.title}" for name, found in FORMATS.items())
    parser.add_argument("format", choices=list(FORMATS), metavar="FORMAT", help=titles)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "utterances",
        metavar="UTTERANCES",
        help="the corpus as serflow lists it: results/corpora/<corpus>/utterances.parquet",
    )
    given = parser.parse_args()
    try:
        n = check_file(given.format, given.file, UTTERANCES.read(given.utterances))
    except UserError as error:
        sys.exit(f"{given.file} is not what {FORMATS[given.format].title} asks for: {error}")
    print(f"{given.file}: {n} rows, as {FORMATS[given.format].title} asks for")


if __name__ == "__main__":
    main()
