"""MUSAN and RIRS_NOISES: every file is of the kind that its place and name say."""

from __future__ import annotations

from pathlib import Path

import pytest

from serflow.corpora import musan, rirs_noises
from serflow.errors import UserError
from serflow.tables import LISTING

MUSAN = {
    "noise/free-sound/noise-free-sound": 843,
    "noise/sound-bible/noise-sound-bible": 87,
    "music/fma/music-fma": 660,
    "speech/librivox/speech-librivox": 173,
    "speech/us-gov/speech-us-gov": 253,
}
FEW_RIRS = (
    "simulated_rirs/smallroom/Room001/Room001-00001.wav",
    "simulated_rirs/largeroom/Room001/Room001-00001.wav",
    "real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_far_angla.wav",
    "real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1.wav",
    "real_rirs_isotropic_noises/air_type1_air_binaural_office_0_1.wav",
    "real_rirs_isotropic_noises/RWCP_type4_rir_p30l.wav",
    "pointsource_noises/noise-free-sound-0000.wav",
)


def touched(root: Path, names) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def whole_musan(tmp_path):
    root = touched(
        tmp_path / "musan", (f"{k}-{n:04d}.wav" for k, many in MUSAN.items() for n in range(many))
    )
    (root / "noise" / "free-sound" / "ANNOTATIONS").touch()
    return root


@pytest.fixture
def few_rirs(tmp_path):
    root = touched(tmp_path / "RIRS_NOISES", FEW_RIRS)
    (root / "simulated_rirs" / "smallroom" / "rir_list").touch()
    return root


def test_musan_is_2016_files_of_three_kinds(whole_musan, tmp_path):
    listing = musan.read(whole_musan)
    assert len(listing) == sum(musan.COUNTS.values()) == 2016
    assert listing["label_raw"].value_counts().to_dict() == musan.COUNTS
    row = listing.set_index("utterance_id").loc["musan/noise-free-sound-0000"]
    assert row["path"] == "noise/free-sound/noise-free-sound-0000.wav"
    assert row["style"] == "free-sound"
    assert musan.read(whole_musan.parent)["path"][0].startswith("musan/")
    LISTING.write(listing, tmp_path / "listing.parquet")


def test_a_part_of_musan_is_a_subset(whole_musan):
    (whole_musan / "music" / "fma" / "music-fma-0000.wav").unlink()
    with pytest.raises(UserError, match=r"kind music: 659, published 660"):
        musan.read(whole_musan)
    assert len(musan.read(whole_musan, subset=True)) == 2015


def test_a_folder_of_other_noises_is_not_taken_for_musan(tmp_path):
    touched(tmp_path, ["rain/a.wav", "b.wav"])
    with pytest.raises(UserError, match=r"2 of 2 files are not in music/, noise/ or speech/"):
        musan.read(tmp_path, subset=True)


def test_rirs_noises_is_61260_files_of_four_kinds():
    assert sum(rirs_noises.COUNTS.values()) == 61_260
    assert sum(rirs_noises.PER_ROOM.values()) == rirs_noises.COUNTS["simulated_rir"]


def test_a_half_unpacked_archive_is_answered_with_the_counts_of_each_kind(few_rirs, monkeypatch):
    with pytest.raises(UserError) as caught:
        rirs_noises.read(few_rirs)
    assert "kind real_rir: 3, published 325" in str(caught.value)
    assert "simulated medium room: 0, published 20000" in str(caught.value)
    few = {"simulated_rir": 2, "real_rir": 3, "isotropic_noise": 1, "point_source_noise": 1}
    monkeypatch.setattr(rirs_noises, "COUNTS", few)
    monkeypatch.setattr(rirs_noises, "PER_ROOM", {"small room": 1, "large room": 1})
    listing = rirs_noises.read(few_rirs.parent)
    assert len(listing) == 7
    assert listing["path"].str.startswith("RIRS_NOISES/").all()


def test_noises_are_told_from_responses_in_the_folder_that_holds_both(few_rirs, tmp_path):
    """Convolved with a noise, speech becomes noise, and nothing complains."""
    listing = rirs_noises.read(few_rirs, subset=True)
    assert listing.groupby("label_raw")["path"].count().to_dict() == {
        "isotropic_noise": 1,
        "point_source_noise": 1,
        "real_rir": 3,
        "simulated_rir": 2,
    }
    noise = listing.loc[listing["label_raw"] == "isotropic_noise", "path"].item()
    assert noise == "real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1.wav"
    LISTING.write(listing, tmp_path / "listing.parquet")


def test_one_channel_of_a_measured_response_is_taken_for_their_mean_smears_it(few_rirs):
    rows = rirs_noises.read(few_rirs, subset=True).set_index("label_raw")["channel"]
    assert (rows.loc["real_rir"] == 0).all()
    assert rows.loc["isotropic_noise"] == 0
    assert rows.loc[["simulated_rir", "point_source_noise"]].isna().all()


def test_rooms_of_two_sizes_that_share_a_number_are_two_rooms(few_rirs):
    rows = rirs_noises.read(few_rirs, subset=True)
    simulated = rows[rows["label_raw"] == "simulated_rir"]
    assert set(simulated["style"]) == {"small room", "large room"}
    assert set(simulated["session"]) == {"smallroom/Room001", "largeroom/Room001"}


def test_names_outside_the_scheme_are_listed_each_with_its_reason(few_rirs):
    touched(few_rirs, ["real_rirs_isotropic_noises/echo.wav", "simulated_rirs/hall/r/x.wav"])
    with pytest.raises(UserError) as caught:
        rirs_noises.read(few_rirs, subset=True)
    assert "echo.wav (begins with none of RWCP, air, RVB2014)" in str(caught.value)
    assert "x.wav (not in simulated_rirs/<size>/<room>/" in str(caught.value)
