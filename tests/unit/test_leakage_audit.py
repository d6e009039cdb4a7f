"""The audit: every leak that published results were built on is refused, by name, before training."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import audit_leakage
import extract_fingerprints
from serflow.acoustics.fingerprints import FINGERPRINTS
from serflow.audio import SAMPLE_RATE
from serflow.corpora import emodb
from serflow.errors import UserError
from serflow.folds import assign
from serflow.labels import apply_labels
from serflow.leakage.audit import (
    ALL_FOLDS,
    AUDIT,
    OVERLAPS,
    audit,
    refuse_failed,
    refuse_unknown_speakers,
)
from serflow.leakage.duplicates import PAIRS
from serflow.packing import pack
from serflow.tables import FOLDS, LISTING, UTTERANCES

CLASSES = ["anger", "joy", "neutral"]
NOTHING_NEAR = pd.DataFrame(columns=list(PAIRS))


def rows_of(speakers=6, sentences=4, corpus="crema-d", **columns):
    """Everyone says each sentence in each emotion once."""
    rows = [
        {
            "utterance_id": f"{corpus}/{speaker:02d}_{sentence}_{label}",
            "corpus": corpus,
            "speaker": f"{speaker:02d}",
            "label": label,
            "audio_digest": f"{corpus}{speaker}{sentence}{label}",
            "number": speaker,
        }
        for speaker, sentence, label in itertools.product(
            range(speakers), range(sentences), CLASSES
        )
    ]
    table = pd.DataFrame(rows).assign(**columns)
    return table.reindex(columns=[*UTTERANCES.columns, "number"])


def by_speaker(rows, roles=("train", "train", "train", "dev", "test", "test")):
    """One fold without a shared speaker."""
    role = [roles[number] for number in rows["number"]]
    return pd.DataFrame({"utterance_id": rows["utterance_id"], "fold": "0", "role": role})


def moved(folds, utterance_id, role):
    return folds.assign(role=folds["role"].where(folds["utterance_id"] != utterance_id, role))


def run(rows, folds, *, near=NOTHING_NEAR, min_per_class=0, prior_shift=1.0, **options):
    """The findings and the (check, between, status) of those that found something."""
    findings = audit(
        rows[list(UTTERANCES.columns)],
        folds,
        near=near,
        min_per_class=min_per_class,
        prior_shift=prior_shift,
        **options,
    )
    AUDIT.check(findings, "here")
    found = findings[~findings["status"].isin(["ok", "not_checked"])]
    return findings, found[["check", "between", "status"]].to_numpy().tolist()


def test_clean_folds_pass_and_all_that_was_looked_at_is_on_record():
    rows = rows_of()
    findings, found = run(rows, by_speaker(rows))
    assert found == []
    refuse_failed(findings)
    pairs = {"train-dev", "train-test", "dev-test"}
    for check in OVERLAPS:
        assert set(findings.loc[findings["check"] == check, "between"]) == pairs
    status = findings.drop_duplicates("check").set_index("check")["status"].to_dict()
    assert {check for check in status if status[check] == "not_checked"} == {
        "sentence",
        "session",
        "text",
    }
    empty = findings[findings["check"] == "session"].iloc[0]
    assert empty["detail"] == "no utterance has session", "not checked is not passed"


def test_random_folds_that_share_every_speaker_are_refused():
    # EmoBox's CREMA-D, EmoDB and TESS fold files, and most "90 % on RAVDESS" papers.
    rows = rows_of(speakers=12)
    folds, _ = assign(rows, "stratified_k_fold", k=5)
    findings, found = run(rows, folds)
    assert found == [["speaker", "train-test", "failed"]] * 5
    first = findings[findings["check"] == "speaker"].iloc[0]
    tested = (folds["fold"] == "0") & (folds["role"] == "test")
    assert first["utterances_second"] == tested.sum()
    assert first["groups"] == rows.loc[tested[tested].index, "speaker"].nunique()
    with pytest.raises(UserError) as caught:
        refuse_failed(findings)
    message = str(caught.value)
    assert "speaker, train-test: in 5 of 5 folds; in fold '" in message
    assert f"{findings['groups'].max()} speakers" in message
    assert "crema-d/00: crema-d/00_" in message and "(train), crema-d/00_" in message
    assert "grouped_k_fold, group: speaker" in message
    assert "audit: {accept: [{overlap: speaker, reason: ...}]}" in message
    assert len(message) < 1500, "ten thousand offenders do not flood the log"


def iemocap():
    """Five sessions of two speakers: scripted sentences return in all of them."""
    rows = rows_of(speakers=10, corpus="iemocap")
    rows["session"] = [f"Ses0{1 + number // 2}" for number in rows["number"]]
    scripted = rows["number"] % 2 == 0
    rows["sentence_id"] = rows["utterance_id"].str.extract(r"_(\d)_")[0].where(scripted)
    return rows


def test_scripted_sentences_that_return_in_every_session_are_found():
    # IEMOCAP, leave one session out: no speaker is shared, but 2,588 scripted utterances are.
    rows = iemocap()
    folds, _ = assign(rows, "leave_one_group_out", group="session", groups=5)
    findings, found = run(rows, folds)
    assert found == [["sentence", "train-test", "failed"]] * 5
    sentence = findings[findings["check"] == "sentence"].iloc[0]
    assert (sentence["groups"], sentence["utterances_second"]) == (4, 12)
    assert sentence["detail"] == "60 of 120 utterances have no sentence_id"
    with pytest.raises(UserError, match="group: sentence_id"):
        refuse_failed(findings)
    improvised = rows[rows["sentence_id"].isna()]
    assert run(improvised, folds.merge(improvised[["utterance_id"]]))[1] == []


def test_a_session_on_both_sides_is_found_where_no_speaker_is():
    # The two speakers of one dialogue talk in one room about one matter.
    rows = iemocap().assign(sentence_id=None)
    folds = by_speaker(rows, ["train"] * 9 + ["test"])
    assert run(rows, folds)[1] == [["session", "train-test", "failed"]]


def test_one_file_under_two_names_is_found_across_corpora_and_names_both():
    # The Spanish MEACorpus holds all 750 EmoSPeech test items under names of its own.
    rows = pd.concat([rows_of(), rows_of(corpus="meacorpus")], ignore_index=True)
    rows.loc[rows["utterance_id"] == "meacorpus/05_0_joy", "audio_digest"] = rows["audio_digest"][1]
    assert rows["label"][1] == "joy"
    findings, found = run(rows, by_speaker(rows))
    assert found == [["duplicate", "train-test", "failed"]]
    with pytest.raises(UserError, match=r"crema-d/00_0_joy \(train\), meacorpus/05_0_joy \(test\)"):
        refuse_failed(findings)


def test_one_speaker_name_in_two_corpora_is_two_people_and_so_are_sentences_and_sessions():
    # SAVEE and RAVDESS both have a speaker 01, a sentence a01 and a session 1.
    same = {"session": "1", "sentence_id": "a01"}
    rows = pd.concat([rows_of(corpus="savee", **same), rows_of(corpus="ravdess", **same)])
    role = np.where(rows["corpus"] == "savee", "train", "test")
    folds = pd.DataFrame({"utterance_id": rows["utterance_id"], "fold": "0", "role": role})
    assert run(rows, folds)[1] == []


def test_emodb_by_speaker_shares_all_sentences_and_says_why_it_may(emodb_folder):
    rows, _ = apply_labels(emodb.read(emodb_folder), list(emodb.COUNTS), {}, [])
    rows = rows.reindex(columns=list(UTTERANCES.columns))
    folds, _ = assign(rows, "leave_one_group_out", group="speaker", groups=10)
    assert run(rows, folds)[1] == [["sentence", "train-test", "failed"]] * 10
    reason = "ten sentences, said by everyone in every emotion: they tell nothing of it"
    accepted, found = run(rows, folds, accept=[{"overlap": "sentence", "reason": reason}])
    assert found == [["sentence", "train-test", "accepted"]] * 10
    refuse_failed(accepted)
    mine = accepted[accepted["check"] == "sentence"]
    assert set(mine["reason"]) == {reason} and mine["examples"].notna().all()
    assert accepted.loc[accepted["check"] != "sentence", "reason"].isna().all()


@pytest.mark.parametrize("gap", [None, np.nan])
def test_without_speakers_an_overlap_cannot_be_excluded(gap):
    # EmoSPeech 2024 gives no speakers: its folds may share all of them.
    rows = rows_of()
    folds = by_speaker(rows)
    some = rows.assign(speaker=rows["speaker"].astype(object).where(rows["number"] > 0, gap))
    findings, found = run(some, folds)
    # One side is enough: the unknown speaker may be one of the other's.
    assert found == [
        ["unknown_speaker", "train-dev", "failed"],
        ["unknown_speaker", "train-test", "failed"],
    ]
    unknown = findings[findings["check"] == "unknown_speaker"].iloc[0]
    assert (unknown["utterances_first"], unknown["utterances_second"]) == (12, 0)
    with pytest.raises(UserError, match=r"1 corpora without speakers, 12 train and 0 dev"):
        refuse_failed(findings)
    findings, found = run(rows.assign(speaker=gap), folds)
    assert {check for check, _, _ in found} == {"unknown_speaker"}
    assert set(findings.loc[findings["check"] == "speaker", "status"]) == {"not_checked"}


def test_what_is_accepted_between_train_and_dev_is_not_accepted_in_test():
    rows = rows_of()
    folds = moved(by_speaker(rows), "crema-d/00_0_joy", "dev")
    for between in (["train", "dev"], ["dev", "train"], ("train", "dev"), None):
        entry = {"overlap": "speaker", "between": between, "reason": "dev rows drawn at random"}
        findings, found = run(rows, folds, accept=[entry])
        assert found == [["speaker", "train-dev", "accepted"]]
    tested = moved(folds, "crema-d/01_0_joy", "test")
    entry = {"overlap": "speaker", "between": ["train", "dev"], "reason": "as above"}
    findings, found = run(rows, tested, accept=[entry])
    assert found == [["speaker", "train-dev", "accepted"], ["speaker", "train-test", "failed"]]
    with pytest.raises(UserError, match="speaker, train-test") as caught:
        refuse_failed(findings)
    assert "train-dev" not in str(caught.value)


def test_an_acceptance_that_nothing_needs_is_pointed_out():
    # Copied from another study, it would let a later leak pass unseen.
    rows = rows_of()
    entries = [
        {"overlap": "speaker", "reason": "copied"},
        {"overlap": "speaker", "between": ["train", "dev"], "reason": "copied"},
        {"overlap": "session", "reason": "copied"},
    ]
    findings, found = run(rows, by_speaker(rows), accept=entries)
    assert found == [
        ["accept_entry", "speaker", "warning"],
        ["accept_entry", "speaker train-dev", "warning"],
        ["accept_entry", "session", "warning"],
    ]
    idle = findings[findings["check"] == "accept_entry"]
    assert idle["detail"].str.contains("remove it").all()
    assert list(idle["detail"].str.contains("cannot be checked")) == [False, False, True]
    refuse_failed(findings)


def test_the_same_words_on_both_sides_are_found_where_no_sentence_is_named():
    # EmoSPeech's transcripts: a text model would know the test set by heart.
    rows = rows_of()
    texts = [f"esto es la frase número {i}" for i in range(len(rows))]
    texts[-1], texts[-2], texts[5], texts[-5] = "¡Esto ES, la frase  número 0!", None, "Sí.", "sí"
    rows["text"] = texts
    findings, found = run(rows, by_speaker(rows))
    assert found == [["text", "train-test", "failed"]]
    shared = findings[(findings["check"] == "text") & (findings["groups"] > 0)].iloc[0]
    assert shared["groups"] == 1 and "esto es la frase número 0" in shared["examples"]
    assert "recur by chance" in shared["detail"]
    read = rows.assign(sentence_id=[str(i) for i in range(len(rows))])
    assert run(read, by_speaker(read))[1] == [], "read sentences are the check 'sentence'"


def test_the_papers_folds_of_emospeech_share_texts_and_hide_their_speakers(shared_data):
    # 8 of the 3,000 training transcripts occur twice; the paper's folds are stratified, seed 42.
    path = shared_data / "emospeech2024" / "train.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    table = pd.read_csv(path)
    rows = pd.DataFrame(
        {
            "utterance_id": "emospeech/" + table["id"],
            "corpus": "emospeech",
            "label": table["label"],
            "text": table["transcription"],
            "position": np.arange(len(table), dtype=float),
        }
    ).reindex(columns=list(UTTERANCES.columns))
    folds, _ = assign(rows, "stratified_k_fold", k=5, seed=42, order="position")
    findings, found = run(rows, folds, near=None)
    assert {(check, status) for check, _, status in found} == {
        ("text", "failed"),
        ("unknown_speaker", "failed"),
    }
    text = findings[findings["check"] == "text"]
    assert 0 < text["groups"].max() <= 8
    assert text["examples"].str.contains("secesión|crisis|españoles|méxico|vagón").any()


def test_a_test_set_of_other_class_shares_is_a_warning_with_its_size_and_significance():
    # MSP-Podcast: training data of natural priors, Test3 balanced.
    rows = rows_of(speakers=6, sentences=10)
    folds = by_speaker(rows)
    keep = (rows["label"] == "neutral") | (folds["role"] != "train") | (rows.index % 5 == 0)
    findings, found = run(rows[keep], folds[keep], prior_shift=0.1)
    assert found == [["prior_shift", "train-test", "warning"]]
    row = findings[findings["check"] == "prior_shift"].iloc[0]
    share = rows[keep & (folds["role"] == "train")]["label"].value_counts(normalize=True)
    assert row["value"] == pytest.approx(np.abs(share - 1 / 3).sum() / 2)
    assert row["p"] < 1e-3
    even, found = run(rows, folds, prior_shift=0.1)
    row = even[even["check"] == "prior_shift"].iloc[0]
    assert found == [] and (row["value"], row["p"]) == (0, 1)


def test_classes_of_a_handful_are_a_warning_by_role():
    # EmoSPeech has 23 fears in 3,000: five folds test on four or five.
    rows = rows_of()
    folds = by_speaker(rows)
    keep = (rows["label"] != "joy") | (folds["role"] != "test") | (rows.index % 3 == 4)
    findings, found = run(rows[keep], folds[keep], min_per_class=5)
    assert found == [["small_class", "dev", "warning"], ["small_class", "test", "warning"]]
    test = findings[(findings["check"] == "small_class") & (findings["between"] == "test")].iloc[0]
    assert (test["examples"], test["value"], test["groups"]) == ("joy 0", 0, 1)


@pytest.mark.parametrize("near", [False, True])
def test_copies_with_different_labels_are_a_warning_even_inside_one_role(near):
    # Relabelled releases list one recording twice, as anger and as joy.
    rows = rows_of()
    pairs = NOTHING_NEAR
    if near:
        pairs = pd.DataFrame(
            [["crema-d/00_0_anger", "crema-d/00_0_joy", 0, 2, 0.05]], columns=PAIRS
        )
    else:
        rows.loc[1, "audio_digest"] = rows["audio_digest"][0]
    findings, found = run(rows, by_speaker(rows), near=pairs)
    assert found == [["conflicting_labels", "any", "warning"]]
    row = findings[findings["check"] == "conflicting_labels"].iloc[0]
    assert (row["fold"], row["groups"], row["utterances_first"]) == (ALL_FOLDS, 1, 2)
    assert row["examples"] == "crema-d/00_0_anger anger = crema-d/00_0_joy joy"


def test_near_duplicates_are_judged_by_role_and_exact_ones_are_not_told_twice():
    rows = rows_of()
    first, second, third = (f"crema-d/{name}_0_joy" for name in ("00", "04", "05"))
    pairs = pd.DataFrame([[first, second, 0, 2, 0.0], [first, third, 0, 2, 0.1]], columns=PAIRS)
    rows.loc[rows["utterance_id"] == second, "audio_digest"] = rows["audio_digest"][1]
    findings, found = run(rows, by_speaker(rows), near=pairs)
    assert found == [
        ["duplicate", "train-test", "failed"],
        ["near_duplicate", "train-test", "failed"],
    ]
    near = findings[(findings["check"] == "near_duplicate") & (findings["groups"] > 0)].iloc[0]
    assert near["examples"] == f"{first} (train), {third} (test)"
    without, _ = run(rows, by_speaker(rows), near=None)
    row = without[without["check"] == "near_duplicate"].iloc[0]
    assert row["status"] == "not_checked" and "near_duplicates: false" in row["detail"]


def near_without(short=(), quiet=()):
    pairs = NOTHING_NEAR.copy()
    pairs.attrs = {"too_short": list(short), "too_quiet": list(quiet)}
    return pairs


def test_a_corpus_of_single_words_is_not_said_to_be_free_of_copies():
    # Under 0.8 s no re-encoded copy is ever found: 'ok' would be said of any number of them.
    rows = rows_of()
    findings, found = run(rows, by_speaker(rows), near=near_without(rows["utterance_id"]))
    near = findings[findings["check"] == "near_duplicate"]
    assert found == [] and set(near["status"]) == {"not_checked"}
    assert set(near["detail"]) == {"of 72 utterances, too short to be compared (under 0.84 s): 72"}


def test_utterances_that_could_not_be_compared_are_counted_where_others_were():
    rows = rows_of()
    ids, dev = rows["utterance_id"], rows["number"] == 3
    rows.loc[1, "audio_digest"] = None
    near = near_without(short=[ids[0], *ids[dev]], quiet=[ids[2], "another/corpus"])
    findings, found = run(rows, by_speaker(rows), near=near)
    mine = findings[findings["check"] == "near_duplicate"].set_index("between")
    assert found == []
    assert mine["status"].to_dict() == {
        "train-dev": "not_checked",
        "train-test": "ok",
        "dev-test": "not_checked",
    }
    assert set(mine["detail"]) == {
        "of 72 utterances, without audio: 1, too short to be compared (under 0.84 s): 13, "
        "too quiet to be compared: 1"
    }


def test_text_without_audio_has_no_duplicates_to_look_for():
    rows = rows_of(audio_digest=None)
    findings, found = run(rows, by_speaker(rows))
    assert found == []
    for check in ("duplicate", "near_duplicate", "conflicting_labels"):
        assert set(findings.loc[findings["check"] == check, "status"]) == {"not_checked"}


def segments(*spans, channel=None):
    """Segments of one file, each with a speaker, a sentence and a digest of its own."""
    return pd.DataFrame(
        [
            {"corpus": "c", "utterance_id": f"c/{i}", "path": "one.wav", "channel": channel,
             "start": start, "end": end, "speaker": f"s{i}", "sentence_id": f"t{i}",
             "label": "a", "audio_digest": f"d{i}"}
            for i, (start, end) in enumerate(spans)
        ]
    ).reindex(columns=list(UTTERANCES.columns))  # fmt: skip


@pytest.mark.parametrize(
    ("spans", "shared"),
    [
        ([(0, 2), (2, 4), (4, 6)], 0),
        ([(0, 2), (2, 4), (3.4, 6)], 1),
        # The long one is not the last before the third.
        ([(0, 9), (1, 2), (8, 10)], 1),
        ([(None, None), (1, 2), (30, 40)], 1),
        ([(0, 2.05), (2, 4), (3.95, 6)], 0),
    ],
)
def test_segments_that_overlap_are_the_same_recording(spans, shared):
    """Half a second of a test utterance in training: no digest and no fingerprint shows it."""
    utterances = segments(*spans)
    folds = pd.DataFrame(
        {
            "utterance_id": utterances["utterance_id"],
            "fold": "0",
            "role": ["train", "train", "test"],
        }
    )
    findings = audit(utterances, folds, min_per_class=1)
    found = findings.set_index(["check", "between"]).loc[("duplicate", "train-test")]
    assert (found["groups"], found["status"] == "failed") == (shared, bool(shared))


def test_other_channels_of_one_file_are_other_recordings():
    utterances = segments((0, 5), (0, 5), (9, 10)).assign(channel=[0, 1, 0])
    folds = pd.DataFrame(
        {
            "utterance_id": utterances["utterance_id"],
            "fold": "0",
            "role": ["train", "test", "train"],
        }
    )
    findings = audit(utterances, folds, min_per_class=1)
    assert set(findings.loc[findings["check"] == "duplicate", "status"]) == {"ok"}


def test_a_contrast_is_told_where_to_accept_and_dev_rows_how_to_keep_apart():
    """The study's own `audit` does not speak for a contrast."""
    utterances = segments((0, 1), (2, 3), (4, 5)).assign(speaker="s")
    folds = pd.DataFrame(
        {"utterance_id": utterances["utterance_id"], "fold": "0", "role": ["train", "train", "dev"]}
    )
    findings = audit(utterances, folds, min_per_class=1)
    with pytest.raises(UserError) as caught:
        refuse_failed(findings, contrast="random")
    assert "contrasts.random.audit: {accept: [{overlap: speaker" in str(caught.value)
    assert "`dev: {fraction: 0.1, group: speaker}`" in str(caught.value)
    assert "grouped_k_fold" not in str(caught.value)


def test_intervals_over_speakers_need_them_before_the_training():
    utterances = segments((0, 1), (2, 3), (4, 5)).assign(speaker=["a", None, None])
    folds = pd.DataFrame(
        {
            "utterance_id": utterances["utterance_id"],
            "fold": "0",
            "role": ["train", "train", "test"],
        }
    )
    with pytest.raises(UserError, match="1 of 1 test utterances have none: c/2"):
        refuse_unknown_speakers(utterances, folds)


def test_roles_that_a_fold_does_not_have_are_not_reported():
    rows = rows_of()
    folds = by_speaker(rows, ("train", "train", "train", "train", "test", "test"))
    assert set(run(rows, folds)[0]["between"]) == {"train-test", "train", "test", "any"}


def test_folds_of_other_utterances_are_an_error():
    rows = rows_of()
    with pytest.raises(
        UserError, match="1 rows of the folds are no utterances: crema-d/05_3_neutr"
    ):
        run(rows[:-1], by_speaker(rows))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_counts_are_those_of_a_plain_loop(data):
    rows = rows_of(speakers=4, sentences=2)
    roles = data.draw(st.lists(st.sampled_from(["train", "dev", "test"]), min_size=24, max_size=24))
    unknown = data.draw(st.sets(st.integers(0, 23)))
    speakers = [None if i in unknown else s for i, s in enumerate(rows["speaker"])]
    rows["speaker"] = speakers
    folds = pd.DataFrame({"utterance_id": rows["utterance_id"], "fold": "0", "role": roles})
    findings, _ = run(rows.sample(frac=1, random_state=1), folds)
    for row in findings[findings["check"] == "speaker"].itertuples():
        if row.status == "not_checked":
            continue
        first, second = row.between.split("-")
        sides = [
            [s for s, role in zip(speakers, roles, strict=True) if role == side and s]
            for side in (first, second)
        ]
        shared = set(sides[0]) & set(sides[1])
        assert row.groups == len(shared)
        assert row.utterances_first == sum(s in shared for s in sides[0])
        assert row.utterances_second == sum(s in shared for s in sides[1])


def test_a_large_corpus_is_audited_in_seconds():
    rng = np.random.default_rng(0)
    count = 150_000
    ids = [f"msp/{i:06d}" for i in range(count)]
    rows = pd.DataFrame({"utterance_id": ids, "corpus": "msp", "label": rng.choice(CLASSES, count)})
    rows["speaker"] = rng.integers(0, 2000, count).astype(str)
    rows["audio_digest"] = ids
    rows["text"] = [f"so then {i} of the others went home" for i in range(count)]
    rows = rows.reindex(columns=list(UTTERANCES.columns))
    folds = pd.concat(
        [
            pd.DataFrame(
                {"utterance_id": ids, "fold": str(k), "role": rng.choice(["train", "test"], count)}
            )
            for k in range(5)
        ],
        ignore_index=True,
    )
    start = time.perf_counter()
    findings, _ = run(rows, folds)
    assert time.perf_counter() - start < 20, "about 2 s are usual"
    assert (findings["status"] == "failed").sum() == 5


def job(folder, **options):
    """What Snakemake gives the script."""
    return SimpleNamespace(
        input=SimpleNamespace(
            utterances=folder / "utterances.parquet",
            folds=folder / "folds.parquet",
            fingerprints=[folder / "fingerprints.parquet"],
        ),
        output=SimpleNamespace(findings=folder / "audit.parquet"),
        log=[str(folder / "audit_leakage.log")],
    ), {
        "study": "own",
        "intervals": {"unit": "utterance"},
        "labels": {"train_only": []},
        "audit": {
            "accept": [],
            "near_duplicates": True,
            "min_per_class": 1,
            "prior_shift": 0.5,
            **options,
        },
    }


def test_a_reencoded_copy_in_the_test_set_stops_the_run(tmp_path, emodb_folder):
    # The same recording comes as WAV from one archive and as MP3 from another.
    files = sorted((emodb_folder / "wav").glob("*.wav"))[::30]
    speech, _ = soundfile.read(files[0], dtype="float32")
    encoded = tmp_path / "copy.mp3"
    soundfile.write(encoded, speech / 2, SAMPLE_RATE, compression_level=0.9)
    paths = [*map(str, files), str(encoded)]
    listing = pd.DataFrame({"utterance_id": paths, "corpus": "emodb", "path": paths})
    listing = listing.assign(speaker=[str(i) for i in range(len(paths))], label_raw="anger")
    place = tmp_path / "audio.i16", tmp_path / "audio.parquet"
    utterances, _ = pack(listing.reindex(columns=list(LISTING.columns)), *place, root="/")
    UTTERANCES.write(utterances.assign(label="anger"), tmp_path / "utterances.parquet")
    roles = ["train"] * (len(paths) - 2) + ["test"] * 2
    folds = pd.DataFrame({"utterance_id": paths, "fold": "0", "role": roles})
    FOLDS.write(folds, tmp_path / "folds.parquet")
    smk = SimpleNamespace(
        input=SimpleNamespace(samples=place[0], index=place[1]),
        output=[tmp_path / "fingerprints.parquet"],
        threads=1,
    )
    extract_fingerprints.main(smk, {})
    assert FINGERPRINTS.read(smk.output[0])["utterance_id"].tolist() == paths

    smk, options = job(tmp_path)
    with pytest.raises(UserError, match="near_duplicate, train-test: in 1 of 1 folds") as caught:
        audit_leakage.main(smk, options)
    assert f"{files[0]} (train), {encoded} (test)" in str(caught.value)
    listed = tmp_path / "audit_leakage.csv"
    assert str(listed) in str(caught.value)
    assert (pd.read_csv(listed)["status"] == "failed").sum() == 1
    assert not smk.output.findings.exists()

    smk, options = job(tmp_path, accept=[{"overlap": "near_duplicate", "reason": "a test"}])
    audit_leakage.main(smk, options)
    assert "accepted" in set(AUDIT.read(smk.output.findings)["status"])
    assert not listed.exists(), "a refusal of the run before is not this run's"

    smk, options = job(tmp_path, near_duplicates=False)
    smk.input.fingerprints = []
    audit_leakage.main(smk, options)
    found = AUDIT.read(smk.output.findings)
    assert set(found.loc[found["check"] == "near_duplicate", "status"]) == {"not_checked"}
