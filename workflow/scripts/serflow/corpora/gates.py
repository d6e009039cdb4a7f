"""What every corpus module checks before its listing is believed: folder, names and counts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.errors import UserError, name_some
from serflow.tables import LISTING, NUMBER


def corpus_folder(corpus: str, root: str | Path, holds: str) -> Path:
    """Return `root` as a path once it is a folder with something in it.

    Parameters
    ----------
    corpus : str
        Its key under `paths` in config.yaml.
    root : path
    holds : str
        What the folder should hold, for the message.

    Raises
    ------
    UserError
        The folder is missing, is a file, or is empty.
    """
    root = Path(root)
    if not root.exists():
        fault = "does not exist"
    elif not root.is_dir():
        fault = "is a file, not a folder"
    elif not any(root.iterdir()):
        fault = "is empty"
    else:
        return root
    raise UserError(f"corpus '{corpus}': {root} {fault}. {point_to(corpus, holds)}")


def point_to(corpus: str, holds: str) -> str:
    """The advice of every message about a folder: what to write into config.yaml."""
    return f"Set `paths: {{{corpus}: ...}}` in config.yaml to the folder that holds {holds}."


def files_with_suffix(corpus: str, folder: Path, suffix: str, holds: str) -> list[Path]:
    """Files of `folder` with `suffix` in any case, sorted by name.

    Hidden files are passed over: macOS puts a `._name.wav` beside every `name.wav` in its archives.

    Raises
    ------
    UserError
        There are none.
    """
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix and not path.name.startswith(".")
    )
    if not files:
        raise UserError(
            f"corpus '{corpus}': no *{suffix} file in {folder}. {point_to(corpus, holds)}"
        )
    return files


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files anywhere below `folder`, neither hidden nor in a hidden folder.

    Hidden folders hold what a system keeps aside: a disk's `.Trash-0`, a file server's `.snapshot`.
    """
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def files_below(
    corpus: str, folder: Path, suffixes: str | tuple[str, ...], holds: str
) -> list[Path]:
    """Files anywhere below `folder` with one of `suffixes` in any case, sorted; links are followed.

    Hidden files and folders are passed over, as in `visible_files`.

    Raises
    ------
    UserError
        There are none.
    """
    files = sorted(f for f in visible_files(folder) if f.name.lower().endswith(suffixes))
    if not files:
        kinds = suffixes if isinstance(suffixes, str) else " or *".join(suffixes)
        raise UserError(
            f"corpus '{corpus}': no *{kinds} file in {folder} or below. {point_to(corpus, holds)}"
        )
    return files


def check_once(corpus: str, root: Path, files: Iterable[Path], ids: Iterable[str]) -> None:
    """Refuse an utterance that several files hold.

    Copies of corpora often carry the whole set a second time in a nested folder.

    Raises
    ------
    UserError
        Names utterances and the first pair of files.
    """
    places: dict[str, list[Path]] = {}
    for file, utterance in zip(files, ids, strict=True):
        places.setdefault(utterance, []).append(file)
    twice = {utterance: found for utterance, found in places.items() if len(found) > 1}
    if twice:
        first = next(iter(twice.values()))[:2]
        pair = " and ".join(file.relative_to(root).as_posix() for file in first)
        raise UserError(
            f"corpus '{corpus}': {len(twice)} of {len(places)} utterances are there more than "
            f"once in {root}: {name_some(twice)}. First: {pair}. Take one copy out, or set "
            f"`paths: {{{corpus}: ...}}` in config.yaml to the folder of one copy."
        )


def parse_all(
    corpus: str, files: Iterable[Path], parse: Callable[[Path], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Apply `parse` to every file.

    Parameters
    ----------
    parse : callable
        Returns a row; raises ValueError with the reason when a name does not follow the scheme.

    Raises
    ------
    UserError
        Lists the names that do not follow the scheme, each with its reason.
    """
    rows, faults = [], []
    for file in files:
        try:
            rows.append(parse(file))
        except ValueError as error:
            faults.append(f"{file.name} ({error})")
    if faults:
        raise UserError(
            f"corpus '{corpus}': {len(faults)} names do not follow the corpus's scheme: "
            f"{name_some(faults, 20)}. Take foreign files out of the folder, or name them back."
        )
    return rows


def check_pairs(
    corpus: str, audio: Iterable[str], annotated: Iterable[str], source: str, *, subset: bool
) -> None:
    """Refuse audio that the annotation does not name, and annotation without its audio.

    Parameters
    ----------
    corpus : str
    audio, annotated : iterable of str
        Names of utterances.
    source : str
        Where the annotation is, for the message.
    subset : bool
        Accept annotation without audio. Audio without annotation is never accepted.

    Raises
    ------
    UserError
        Names the utterances.
    """
    audio, annotated = set(audio), set(annotated)
    bare, silent = sorted(audio - annotated), sorted(annotated - audio)
    if bare:
        raise UserError(
            f"corpus '{corpus}': {len(bare)} of {len(audio)} audio files are not in {source}: "
            f"{name_some(bare, 20)}. Take them out, or unpack the annotation again."
        )
    if silent and not subset:
        raise UserError(
            f"corpus '{corpus}': {len(silent)} of {len(annotated)} utterances in {source} have no "
            f"audio file: {name_some(silent, 20)}. Unpack the audio again, or set `subset: true` "
            "for this corpus in the study to leave them out."
        )


def check_complete(
    corpus: str,
    found: Iterable[str],
    expected: Iterable[str],
    groups: Mapping[str, tuple[Iterable[str], Mapping[str, int]]],
) -> None:
    """Compare a corpus with what was published.

    Parameters
    ----------
    corpus : str
    found, expected : iterable of str
        Names of utterances or files.
    groups : mapping of str to (iterable of str, mapping of str to int)
        For each grouping (class, session, speaker), the group of every utterance found and the
        published count of each group.

    Raises
    ------
    UserError
        Names the missing, the surplus and the groups whose counts differ.
    """
    found, expected = list(found), list(expected)
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    faults = [f"{len(found)} utterances, published {len(expected)}"] if missing or extra else []
    if missing:
        faults.append(f"missing: {name_some(missing, 20)}")
    if extra:
        faults.append(f"not part of it: {name_some(extra, 20)}")
    for grouping, (values, published) in groups.items():
        counts = Counter(values)
        for group in sorted(set(counts) | set(published)):
            if counts[group] != published.get(group, 0):
                faults.append(
                    f"{grouping} {group}: {counts[group]}, published {published.get(group, 0)}"
                )
    if faults:
        raise UserError(
            f"corpus '{corpus}' is not as published:\n  "
            + "\n  ".join(faults)
            + "\nUnpack it again, or set `subset: true` for this corpus in the study to accept "
            "what is there."
        )


def listing(corpus: str, rows: Iterable[Mapping[str, Any]], bare: bool = False) -> pd.DataFrame:
    """Turn parsed rows into a checked `tables.LISTING`, sorted by utterance id.

    Columns that the rows do not have are filled with missing values. With `bare`, labels alone will
    do.

    Raises
    ------
    UserError
        An utterance has neither audio nor text, or an id is there twice.
    """
    frame = pd.DataFrame(list(rows)).assign(corpus=corpus)
    frame = frame.reindex(columns=list(LISTING.columns)).astype(
        {c: "float64" if kind == NUMBER else "str" for c, kind in LISTING.columns.items()}
    )
    frame = frame.sort_values("utterance_id", ignore_index=True)
    LISTING.check(frame, f"parsed from corpus '{corpus}'")
    empty = frame.loc[frame["path"].isna() & frame["text"].isna(), "utterance_id"]
    if len(empty) and not bare:
        raise UserError(
            f"corpus '{corpus}': {len(empty)} utterances have neither a path nor a text: "
            f"{name_some(empty, 20)}"
        )
    return frame
