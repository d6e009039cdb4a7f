"""Every corpus that serflow reads: what `make corpora` lists, and the page docs/corpora.md.

python -m serflow.catalogue list config.yaml
python -m serflow.catalogue page docs/corpora.md
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import yaml

from serflow.acquisition.source import GB, Source
from serflow.acquisition.sources import MB, SOURCES
from serflow.config.base import validated
from serflow.config.site import SiteConfig
from serflow.errors import UserError
from serflow.files import write_text

# In the order of the page; the keys of SOURCES, and the two that come from nowhere.
CORPORA = (
    "emodb", "ravdess", "crema_d", "tess", "savee", "iemocap", "msp_podcast", "emospeech2024",
    "table", "demo", "musan", "rirs_noises",
)  # fmt: skip
FIELDS = ("What", "Who", "Licence", "Where", "Holes")


@dataclass(frozen=True)
class State:
    """One line of the list.

    Attributes
    ----------
    corpus, title : str
    state : {'present', 'missing', 'downloadable', 'needs a licence'}
    advice : list of str
        Where it lies, or how to get it; a line each.
    """

    corpus: str
    title: str
    state: str
    advice: list[str]


def states(site: SiteConfig, results: Path) -> list[State]:
    """Whether each published corpus is on this machine, and what to do if not.

    Parameters
    ----------
    site : SiteConfig
    results : Path
        The folder `results` of the workflow.
    """
    found = []
    for corpus, source in SOURCES.items():
        own = site.paths.get(corpus)
        record = results / "corpora" / corpus / "download.json"
        if own and Path(own).expanduser().is_dir():
            state, advice = "present", [f"{own} (looked into when it is read)"]
        elif own:
            state, advice = "missing", [f"paths.{corpus} in config.yaml is {own}: no such folder"]
        elif record.is_file():
            state, advice = "present", [f"{record.parent / 'download'} (downloaded)"]
        else:
            state = "downloadable" if source.is_open else "needs a licence"
            advice = how_to_get(corpus, source)
        found.append(State(corpus, source.title, state, advice))
    return found


def others(site: SiteConfig) -> list[tuple[str, str]]:
    """The folders under `paths` that are of no published corpus: one's own, or a misspelt name."""
    found = []
    for corpus, own in site.paths.items():
        if own and corpus not in SOURCES:
            there = Path(own).expanduser().is_dir()
            nearest = difflib.get_close_matches(corpus, SOURCES, n=1, cutoff=0.7)
            hint = f"; no published corpus, did you mean '{nearest[0]}'?" if nearest else ""
            found.append((corpus, f"{own}{'' if there else ': no such folder'}{hint}"))
    return found


def how_to_get(corpus: str, source: Source) -> list[str]:
    """Size, terms and address; how it is fetched or asked for; what to put into config.yaml."""
    facts = f"{_size(source.size)}; {source.terms}; {source.home}"
    own = f"paths: {{{corpus}: /folder}}, the folder that holds {source.holds}"
    if not source.is_open:
        return [f"about {facts}", f"once you have it, in config.yaml: {own}"]
    return [
        facts,
        "fetched when a study needs it, or now: "
        f"snakemake --cores 1 results/corpora/{corpus}/download.json",
        f"or, if you have it, in config.yaml: {own}",
    ]


def _size(n_bytes: int) -> str:
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= GB else f"{n_bytes / MB:.0f} MB"


def banner(corpus: str) -> tuple[str, dict[str, str]]:
    """A corpus module's first line, and the fields of its docstring.

    Raises
    ------
    ValueError
        A field is missing or out of order: the page would have a hole.
    """
    text = inspect.getdoc(import_module(f"serflow.corpora.{corpus}")) or ""
    first, _, rest = text.partition("\n\n")
    parts = re.split(rf"^({'|'.join(FIELDS)})\s+", rest, flags=re.MULTILINE)[1:]
    names = tuple(parts[::2])
    if names != FIELDS:
        raise ValueError(f"serflow.corpora.{corpus}: its docstring has {names}, expected {FIELDS}")
    values = [" ".join(part.split()) for part in parts[1::2]]
    return first.rstrip("."), dict(zip(names, values, strict=True))


def page() -> str:
    """The text of docs/corpora.md."""
    sections = [_section(corpus) for corpus in CORPORA]
    head = """# Corpora

Generated from the corpus modules by `make docs`; a test keeps it true. `make corpora` lists which
of them are on your machine, which are downloaded when a study needs them, and whom to ask for the
licensed ones.

Every corpus is gated on what was published: its names where they are known, its counts in all, by
class and by speaker or session. A corpus that differs stops the run, with what is missing or extra
by name, unless the study says `subset: true`. No parser merges or drops labels: that is the
study's `labels`. Open corpora are verified by size and checksum before anything is unpacked; their
archives stay in `downloads` of config.yaml, and an archive that was put there by hand is used
without internet. The digests are in `results/corpora/<corpus>/download.json`.
"""
    return "\n".join([head, *sections])


def _section(corpus: str) -> str:
    title, fields = banner(corpus)
    module = import_module(f"serflow.corpora.{corpus}")
    lines = [f"## {title}", "", f"`source: {corpus}`", ""]
    lines += [f"- **{name}.** {fields[name]}" for name in FIELDS]
    counts = getattr(module, "COUNTS", None)
    if counts and all(isinstance(n, int) for n in counts.values()):
        classes = ", ".join(f"{label} {n:,}" for label, n in counts.items())
        lines.append(f"- **Counts.** {sum(counts.values()):,}: {classes}.")
    if corpus in SOURCES:
        source = SOURCES[corpus]
        lines.append(f"- **To get it.** {'; '.join(how_to_get(corpus, source))}.")
        lines += [f"- **Verified.** {text}" for text in _checks(source)]
    return "\n".join([*lines, ""])


def _checks(source: Source) -> list[str]:
    said = []
    for file in (*source.archives, *source.files):
        size = f"{file.size:,} bytes, " if file.size else ""
        said.append(f"`{file.name}`: {size}{file.checksum or file.unverified}.")
    said += [
        f"Every file against the {record.kind.capitalize()} record's own list of sizes and MD5 sums."
        for record in source.records
    ]
    said += [
        f"`{tree.folder}/`: each of {tree.count:,} files against the size and SHA-256 of its "
        "git-LFS pointer."
        for tree in source.trees
    ]
    return said


def main(arguments: Sequence[str]) -> None:
    """Print the list, or write the page."""
    command, path = arguments
    if command == "page":
        write_text(path, page())
        return
    text = Path(path).read_text(encoding="utf-8")
    site = validated(SiteConfig, yaml.safe_load(text), path)
    rows = states(site, Path(path).parent / "results")
    width = max(len(row.corpus) for row in rows)
    for row in rows:
        print(f"{row.corpus:{width}}  {row.state:15}  {row.title}")
        print(*(f"{'':{width}}  {line}" for line in row.advice), "", sep="\n")
    for corpus, own in others(site):
        print(f"paths.{corpus}: {own}", "", sep="\n")
    print("Your own: a table of paths and labels, `source: table` in a study (docs/corpora.md).")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
