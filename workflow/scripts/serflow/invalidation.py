"""What a job depends on besides its input files: canonical settings and the code that it imports.

Snakemake compares params as an unordered set of values and does not follow imports. So each rule
gets one `settings` string that carries its key names, and one `code` digest over the import closure
of its script; then a module edit reruns exactly the rules whose code imports it, and a comment, a
docstring or a `touch` reruns nothing.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

from serflow.digests import digest

# Templates and style sheets beside a module are part of its code.
DATA_SUFFIXES = (".j2", ".css")
# A '#' is a comment unless a string literal holds it, so both are matched, strings first.
STRING_OR_COMMENT = re.compile(
    r'''("""|\'\'\')(?:\\.|.)*?\1|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*''', re.DOTALL
)


@cache
def code_digest(root: Path, script: str, *modules: str) -> str:
    """Digest of a script's import closure inside `root`.

    Parameters
    ----------
    root : Path
        The folder that holds the scripts and the library (`workflow/scripts`).
    script : str
        File name below `root`.
    *modules : str
        Dotted names of modules that the script imports by name at run time.
    """
    found: dict[str, str] = {}
    queue = [root / script, *(path for m in modules for path in _required(root, m))]
    while queue:
        path = queue.pop()
        name = path.relative_to(root).as_posix()
        if name not in found:
            found[name], imported = _read(root, path)
            queue += imported
    return digest(*(part for name in sorted(found) for part in (name, found[name])))


def _required(root: Path, module: str) -> list[Path]:
    paths = list(_files_of(root, module))
    if not paths:
        raise ModuleNotFoundError(f"{module} has no file below {root}")
    return paths


@cache
def _read(root: Path, path: Path) -> tuple[str, tuple[Path, ...]]:
    """A file's text as far as it counts, and the project's own files that it brings along."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return source, ()
    bare, modules = read_source(source)
    own = _own_packages(root)
    found = [p for m in modules if m.split(".")[0] in own for p in _files_of(root, m)]
    if path.parent != root:
        found += [p for p in path.parent.iterdir() if p.suffix in DATA_SUFFIXES]
    return bare, tuple(found)


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


@cache
def _own_packages(root: Path) -> frozenset[str]:
    return frozenset(path.stem for path in root.iterdir())


@cache
def _files_of(root: Path, module: str) -> tuple[Path, ...]:
    """The file of a dotted module name below `root`, and those of its parent packages."""
    parts = module.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:end])
        if base.with_suffix(".py").is_file():
            found.append(base.with_suffix(".py"))
        elif (base / "__init__.py").is_file():
            found.append(base / "__init__.py")
    return tuple(found)


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
