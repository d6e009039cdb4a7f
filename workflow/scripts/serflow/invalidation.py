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
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

# Templates and style sheets beside a module are part of its code.
DATA_SUFFIXES = (".j2", ".css")
# A '#' is a comment unless a string literal holds it, so both are matched, strings first.
STRING_OR_COMMENT = re.compile(
    r'''("""|\'\'\')(?:\\.|.)*?\1|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*''', re.DOTALL
)


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal settings give equal strings whatever their order in the YAML."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(*parts: str | bytes) -> str:
    """First 16 hex digits of the SHA-256 of the parts, unambiguous about where each one ends."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big") + data)
    return sha.hexdigest()[:16]


def bare_source(source: str, tree: ast.Module | None = None) -> str:
    """The source without comments, docstrings, blank lines and trailing blanks.

    Works on text: the token stream and `ast.dump` change with Python's minor version, and Python's
    own tokenizer would take most of the time of a dry run.
    """
    lines = source.splitlines()
    for node in ast.walk(tree or ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
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
    return "\n".join(line.rstrip() for line in kept.splitlines() if line.strip())


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
    found: dict[str, Path] = {}
    queue = [root / script, *(path for m in modules for path in _required(root, m))]
    while queue:
        path = queue.pop()
        name = path.relative_to(root).as_posix()
        if name not in found:
            found[name] = path
            queue += _imports(root, path)
    return digest(*(part for name in sorted(found) for part in (name, _bare_file(found[name]))))


def _required(root: Path, module: str) -> list[Path]:
    paths = list(_files_of(root, module))
    if not paths:
        raise ModuleNotFoundError(f"{module} has no file below {root}")
    return paths


@cache
def _bare_file(path: Path) -> str:
    source = path.read_text(encoding="utf-8")
    return bare_source(source, _tree(path)) if path.suffix == ".py" else source


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(root: Path, path: Path) -> tuple[Path, ...]:
    """The project's own files that `path` imports, and the data files beside it."""
    if path.suffix != ".py":
        return ()
    found: list[Path] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        if names[0].split(".")[0] in _own_packages(root):
            for name in names:
                found += _files_of(root, name)
    if path.parent != root:
        found += [p for p in path.parent.iterdir() if p.suffix in DATA_SUFFIXES]
    return tuple(found)


@cache
def _own_packages(root: Path) -> frozenset[str]:
    return frozenset(path.stem for path in root.iterdir())


def _files_of(root: Path, module: str) -> Iterator[Path]:
    """The file of a dotted module name below `root`, and those of its parent packages."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:end])
        if base.with_suffix(".py").is_file():
            yield base.with_suffix(".py")
        elif (base / "__init__.py").is_file():
            yield base / "__init__.py"


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
