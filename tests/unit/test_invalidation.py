"""Digests: equal for what cannot change a result, different for what can."""

import io
import os
import random
import tokenize
from pathlib import Path

from serflow.digests import canonical
from serflow.invalidation import STRING_OR_COMMENT, Sources, read_source, tree_digest

MODULE = '''"""What it does."""

import os  # for paths


def name(path):
    """The file's name."""
    text = "a # is not a comment"
    return os.path.basename(path) + text
'''


def bare_source(source):
    return read_source(source)[0]


def code_digest(root, script, *modules):
    return Sources(root).digest(script, *modules)


def tree(tmp_path, **sources):
    for name, source in sources.items():
        path = tmp_path / name.replace("__", "/")
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return tmp_path


def test_key_order_in_a_study_reruns_nothing():
    items = [("b", {"y": 1, "x": [2, 3]}), ("a", None), ("ä", 0.05)]
    texts = set()
    for seed in range(5):
        random.Random(seed).shuffle(items)
        texts.add(canonical(dict(items)))
    assert len(texts) == 1


def test_swapped_values_are_seen():
    assert canonical({"rank": 8, "alpha": 16}) != canonical({"rank": 16, "alpha": 8})


def test_comments_docstrings_and_blank_lines_do_not_count():
    other = MODULE.replace('"""What it does."""', '"""Other\n\nwords."""').replace(
        "# for paths", "# why"
    )
    other = other.replace('    """The file\'s name."""\n', "\n\n    # nothing\n")
    assert bare_source(other) == bare_source(MODULE)


def test_a_hash_sign_in_a_string_is_code():
    assert bare_source(MODULE.replace("a # is", "a # was")) != bare_source(MODULE)


def test_a_docstring_beside_code_does_not_hide_the_code():
    assert bare_source('def f(): "doc"; return 1\n') != bare_source('def f(): "doc"; return 2\n')


def test_an_edit_reaches_scripts_through_imports_only(tmp_path):
    sources = {
        "job": "from pack import near\n",
        "pack____init__": "",
        "pack__near": "import pack.far\n",
        "pack__far": "VALUE = 1\n",
        "pack__other": "VALUE = 1\n",
    }
    root = tree(tmp_path, **sources)
    before = code_digest(root, "job.py")
    for module, seen in (("pack__other", False), ("pack__far", True)):
        changed = tree(tmp_path / f"changed-{module}", **{**sources, module: "VALUE = 2\n"})
        assert (code_digest(changed, "job.py") != before) == seen


def test_a_module_imported_by_name_at_run_time_is_followed_when_declared(tmp_path):
    root = tree(tmp_path, job="import importlib\n", pack____init__="", pack__family="A = 1\n")
    changed = tree(
        tmp_path / "b", job="import importlib\n", pack____init__="", pack__family="A = 2"
    )
    assert code_digest(root, "job.py") == code_digest(changed, "job.py")
    assert code_digest(root, "job.py", "pack.family") != code_digest(
        changed, "job.py", "pack.family"
    )


def test_a_template_beside_a_module_is_part_of_its_code(tmp_path):
    root = tree(tmp_path, job="import pack.page\n", pack____init__="", pack__page="A = 1\n")
    (root / "pack" / "page.html.j2").write_text("one")
    other = tree(tmp_path / "b", job="import pack.page\n", pack____init__="", pack__page="A = 1\n")
    (other / "pack" / "page.html.j2").write_text("two")
    assert code_digest(root, "job.py") != code_digest(other, "job.py")


def test_what_is_kept_of_the_sources_gives_the_digest_that_reading_them_gives(
    tmp_path, monkeypatch
):
    """A stale copy would miss an edit; one by other rules would count otherwise."""
    root = tree(tmp_path / "a", job="import pack.near\n", pack____init__="", pack__near="A = 1\n")
    kept = tmp_path / "kept" / "sources.json"
    first = Sources(root, kept).digest("job.py")
    assert first == code_digest(root, "job.py")
    with monkeypatch.context() as patched:
        patched.setattr("serflow.invalidation.read_source", None)
        assert Sources(root, kept).digest("job.py") == first, "nothing is parsed again"
    near = root / "pack/near.py"
    time = near.stat().st_mtime_ns
    near.write_text("A = 2\n", encoding="utf-8")
    os.utime(near, ns=(time, time + 1))
    edited = Sources(root, kept).digest("job.py")
    assert edited == code_digest(root, "job.py") != first
    for broken in ("{", "{}", '{"reader": "older", "sources": {"job.py": [0, 0, "", []]}}'):
        kept.write_text(broken, encoding="utf-8")
        assert Sources(root, kept).digest("job.py") == edited


def test_a_replaced_corpus_file_changes_the_listing_digest(tmp_path):
    (tmp_path / "wäv").mkdir()
    file = tmp_path / "wäv" / "a b.wav"
    file.write_bytes(b"12")
    before = tree_digest(tmp_path)
    assert tree_digest(tmp_path) == before
    file.write_bytes(b"123")
    assert tree_digest(tmp_path) != before
    assert tree_digest(tmp_path / "none") == "missing"


def test_the_repositorys_own_sources_lose_exactly_their_comments():
    """The quick reading of strings and comments agrees with Python's tokenizer on real code."""
    root = Path(__file__).parents[2]
    for path in [*root.glob("workflow/**/*.py"), *root.glob("tests/**/*.py")]:
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
        assert bare_source(source) == bare_source("\n".join(lines)), path
        found = [m[0] for m in STRING_OR_COMMENT.finditer(source) if m[0].startswith("#")]
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        assert found == [t.string for t in tokens if t.type == tokenize.COMMENT], path
