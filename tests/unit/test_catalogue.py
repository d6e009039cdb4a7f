"""The list of corpora and its page: true, complete, and of use to someone who has none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runs import ROOT
from serflow.acquisition.sources import SOURCES
from serflow.catalogue import CORPORA, banner, others, page, states
from serflow.config.corpora import PUBLISHED
from serflow.config.site import SiteConfig

MODULES = sorted(
    path.stem
    for path in (ROOT / "workflow/scripts/serflow/corpora").glob("*.py")
    if path.stem not in ("__init__", "gates")
)


def test_the_page_of_corpora_is_not_stale():
    shipped = (ROOT / "docs/corpora.md").read_text(encoding="utf-8")
    assert shipped == page(), "run `make docs`"


def test_every_corpus_module_is_in_the_catalogue_the_registry_and_the_settings():
    assert sorted(CORPORA) == MODULES
    assert sorted(SOURCES) == sorted(PUBLISHED) == sorted(set(MODULES) - {"demo", "table"})


@pytest.mark.parametrize("corpus", MODULES)
def test_every_module_says_what_who_licence_where_and_holes(corpus):
    title, fields = banner(corpus)
    assert title and all(fields.values())


def test_the_list_tells_present_missing_downloaded_downloadable_and_licensed_apart(tmp_path):
    record = tmp_path / "corpora/ravdess/download.json"
    record.parent.mkdir(parents=True)
    record.touch()
    site = SiteConfig(paths={"emodb": str(tmp_path), "savee": "/nowhere", "tess": None})
    found = {state.corpus: state for state in states(site, tmp_path)}
    assert set(found) == set(SOURCES)
    told = {name: found[name].state for name in ("emodb", "savee", "ravdess", "tess", "iemocap")}
    assert told == {
        "emodb": "present",
        "savee": "missing",
        "ravdess": "present",
        "tess": "downloadable",
        "iemocap": "needs a licence",
    }
    advice = " ".join(found["iemocap"].advice)
    for part in ("13.0 GB", "https://sail.usc.edu/iemocap/", "paths: {iemocap: /folder}"):
        assert part in advice


def test_a_misspelt_name_under_paths_is_pointed_out(tmp_path):
    site = SiteConfig(paths={"crema-d": str(tmp_path), "mine": "/nope"})
    assert others(site) == [
        ("crema-d", f"{tmp_path}; no published corpus, did you mean 'crema_d'?"),
        ("mine", "/nope: no such folder"),
    ]


def test_make_corpora_prints_the_list_without_a_traceback(tmp_path):
    def listed(config: str) -> subprocess.CompletedProcess:
        (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
        command = [sys.executable, "-m", "serflow.catalogue", "list", str(tmp_path / "config.yaml")]
        scripts = Path(ROOT, "workflow/scripts")
        return subprocess.run(command, cwd=scripts, capture_output=True, text=True)

    done = listed("paths: {savee: /nowhere}")
    assert done.returncode == 0
    assert "paths.savee in config.yaml is /nowhere: no such folder" in done.stdout
    wrong = listed("path: {savee: /nowhere}")
    assert wrong.returncode == 1
    assert "did you mean 'paths'?" in wrong.stderr
    assert "Traceback" not in wrong.stderr
