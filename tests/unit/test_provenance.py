"""What a number came from is on record: archives, the commit, and facts of its jobs."""

from __future__ import annotations

import json

from serflow.report.provenance import commit_of, condensed, downloads


def test_facts_are_condensed_without_losing_the_odd_one_out():
    assert condensed([True, True]) == "yes"
    assert condensed([0.1, 0.1, 0.3]) == "0.1 (2 of 3), 0.3 (1 of 3)"
    assert condensed([None, None]) == "none"


def test_what_the_corpora_were_unpacked_from_is_on_record(tmp_path):
    """Which bytes a number came from, and whether anyone vouched for them."""
    record = tmp_path / "corpora" / "six" / "download.json"
    record.parent.mkdir(parents=True)
    one = {"name": "a.zip", "size": 5, "sha256": "ab" * 32, "checksum": None, "unverified": "old"}
    record.write_text(json.dumps({"fetched": [one]}), encoding="utf-8")
    (found,) = downloads(record)
    assert (found.corpus, found.name, found.digest) == ("six", "a.zip", "ab" * 32)
    assert found.checked == "none: old"
    many = [one | {"name": f"{i}.wav", "checksum": "md5:0"} for i in range(100)]
    record.write_text(json.dumps({"fetched": [*many, one]}), encoding="utf-8")
    (found,) = downloads(record)
    assert (found.name, found.size) == ("101 files", 505)
    assert found.checked == "each with a published checksum, but for 1"


def test_the_commit_of_a_folder_outside_git_is_unknown_and_no_error(tmp_path):
    assert commit_of(tmp_path).name.startswith("unknown")
