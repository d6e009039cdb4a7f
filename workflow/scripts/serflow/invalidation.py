"""What a job depends on besides its input files: canonical settings and the code that it imports.

Snakemake compares params as an unordered set of values and does not follow imports. So each rule
gets one `settings` string that carries its key names, and one `code` digest over the import closure
of its script; then a module edit reruns exactly the rules whose code imports it, and a comment, a
docstring or a `touch` reruns nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from serflow.digests import digest
from serflow.files import write_text

# Templates and style sheets beside a module are part of its code.
DATA_SUFFIXES = (".j2", ".css")
# A '#' is a comment unless a string literal holds it, so both are matched, strings first.
STRING_OR_COMMENT = re.compile(
    r'''("""|\'\'\')(?:\\.|.)*?\1|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*''', re.DOTALL
)


class Sources:
    """The code below a folder, read once.

    Parameters
    ----------
    root : Path
        The folder that holds the scripts and the library (`workflow/scripts`).
    kept : Path, optional
        A JSON file that saves the next start of Snakemake, or of a job of a cluster, from parsing
        what has kept its time of modification and its size.
    """

    def __init__(self, root: Path, kept: Path | None = None) -> None:
        self._root = root
        read = _read_modules(root, kept)
        self._texts = {name: bare for name, (_, _, bare, _) in read.items()}
        beside: dict[str, list[str]] = {}
        for path in root.rglob("*"):
            if path.suffix in DATA_SUFFIXES and path.parent != root:
                folder = path.parent.relative_to(root).as_posix()
                beside.setdefault(folder, []).append(path.relative_to(root).as_posix())
        data = [name for names in beside.values() for name in names]
        self._texts |= {name: (root / name).read_text(encoding="utf-8") for name in data}
        # The project's own files that each file brings along.
        self._brought = {
            name: [
                *(file for module in modules for file in self._files_of(module)),
                *beside.get(name.rpartition("/")[0], []),
            ]
            for name, (_, _, _, modules) in read.items()
        }

    @cache  # noqa: B019 - one object for a start of Snakemake, asked by every job
    def digest(self, script: str, *modules: str) -> str:
        """Digest of a script's import closure below the folder.

        Parameters
        ----------
        script : str
            File name below the folder.
        *modules : str
            Dotted names of modules that the script imports by name at run time.
        """
        found: set[str] = set()
        queue = [script, *(file for module in modules for file in self._required(module))]
        while queue:
            name = queue.pop()
            if name not in found:
                found.add(name)
                queue += self._brought.get(name, [])
        return digest(*(part for name in sorted(found) for part in (name, self._texts[name])))

    def _required(self, module: str) -> list[str]:
        if not (files := self._files_of(module)):
            raise ModuleNotFoundError(f"{module} has no file below {self._root}")
        return files

    def _files_of(self, module: str) -> list[str]:
        """The file of a dotted module name, and those of its parent packages."""
        parts = module.split(".")
        found = []
        for end in range(1, len(parts) + 1):
            base = "/".join(parts[:end])
            if f"{base}.py" in self._texts:
                found.append(f"{base}.py")
            elif f"{base}/__init__.py" in self._texts:
                found.append(f"{base}/__init__.py")
        return found


def _read_modules(root: Path, kept: Path | None) -> dict[str, list[Any]]:
    """Of each module its time, its size, what counts of its text, and the project's modules it names."""
    # Read by other rules, a source may count otherwise.
    reader = file_digest(Path(__file__))
    before = _read_kept(kept, reader) if kept else {}
    own = frozenset(path.stem for path in root.iterdir())
    read: dict[str, list[Any]] = {}
    for path in sorted(root.rglob("*.py")):
        name, stat = path.relative_to(root).as_posix(), path.stat()
        as_it_is = [stat.st_mtime_ns, stat.st_size]
        if name in before and before[name][:2] == as_it_is:
            read[name] = before[name]
        else:
            bare, modules = read_source(path.read_text(encoding="utf-8"))
            named = [m for m in dict.fromkeys(modules) if m.split(".")[0] in own]
            read[name] = [*as_it_is, bare, named]
    if kept and read != before:
        write_text(kept, json.dumps({"reader": reader, "sources": read}))
    return read


def _read_kept(kept: Path, reader: str) -> dict[str, list[Any]]:
    """What an earlier start of the same code has kept; nothing, if that cannot be read."""
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        return content["sources"] if content["reader"] == reader else {}
    except (OSError, ValueError, KeyError):
        return {}


def read_source(source: str) -> tuple[str, list[str]]:
    """What counts of a module's source, and the dotted names that it may import.

    Comments, docstrings, blank lines and trailing blanks do not count. Works on text: the token stream and `ast.dump` change with Python's minor version. Statements
    alone are visited, by one parse: every dry run waits for this.
    """
    lines = source.splitlines()
    modules: list[str] = []
    bodies: list[list[ast.stmt]] = []
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            bodies.append(node.body)
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            nodes += getattr(node, field, ())
    for body in bodies:
        first = body[0] if body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            before = lines[first.lineno - 1][: first.col_offset]
            if not before.strip():  # `def f(): "text"` on one line keeps it
                for number in range(first.lineno - 1, first.end_lineno):
                    lines[number] = ""
    kept = STRING_OR_COMMENT.sub(
        lambda match: "" if match[0].startswith("#") else match[0], "\n".join(lines)
    )
    return "\n".join(line.rstrip() for line in kept.splitlines() if line.strip()), modules


def file_digest(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file's contents.

    A missing file has a digest too: the job that reads it says so.
    """
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def tree_digest(folder: Path) -> str:
    """Digest of the names, sizes and modification times of all files below `folder`.

    Cheap enough for every start of Snakemake (one `stat` a file); a replaced, added or removed
    corpus file changes it. A missing folder has a digest too: the job that reads it says so.
    """
    if not folder.is_dir():
        return "missing"
    rows = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            rows.append(f"{path.relative_to(folder)}\t{stat.st_size}\t{stat.st_mtime_ns}")
    return digest(*rows)
