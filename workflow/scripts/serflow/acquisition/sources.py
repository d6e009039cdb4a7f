"""The registry: where each corpus comes from, and whom to ask for the licensed ones.

Standard library only: the Snakefile's plan reads this. A job gets its corpus's `Source` as settings
(`dataclasses.asdict`, and back by `Source.from_settings`), so that an edited address reruns the
download of that one corpus.

No checksum here is of our own making. RAVDESS's is Zenodo's, MUSAN's and RIRS_NOISES' are OpenSLR's
(resources/17 and resources/28, `checksum.md5`). TESS and CREMA-D are verified against what their
repositories say when the download runs. Where nobody publishes one, `checksum` is None, `unverified`
says why, and the digest that was found goes into the record.
"""

from __future__ import annotations

from serflow.acquisition.source import GB, LfsTree, Record, Remote, Source

MB = 10**6


def is_open(name: str) -> bool:
    """Whether the corpus of this name is downloaded by a rule."""
    return name in SOURCES and SOURCES[name].is_open


def needs_a_licence(corpus: str, name: str) -> str:
    """What to do about a corpus that is not downloaded, in one phrase.

    Parameters
    ----------
    corpus : str
        Its key under `paths`.
    name : str
        Its source's name.
    """
    if name not in SOURCES:
        return f"your own; set `paths: {{{corpus}: ...}}` to its folder"
    source = SOURCES[name]
    return (
        f"{source.title}, {source.terms}: get it from {source.home} and set "
        f"`paths: {{{corpus}: ...}}` to the folder that holds {source.holds}"
    )


_CREMA_GITLAB = "https://gitlab.com/cs-cooper-lab/crema-d-mirror/-/raw/main/"
_CREMA_GITHUB = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master/"


def _openslr(path: str) -> tuple[str, ...]:
    hosts = ("www.openslr.org", "us.openslr.org", "openslr.elda.org", "openslr.trmal.net")
    return tuple(f"https://{host}/resources/{path}" for host in hosts)


def _crema_table(name: str) -> Remote:
    return Remote(
        name,
        (_CREMA_GITHUB + name, _CREMA_GITLAB + name),
        unverified="a plain file of a git repository, for which no checksum is published",
        most=100 * MB,
    )


# EmoDB has no mirror here: Zenodo's record 17651657 (EmoDB 2.0) is another edition, laid out for
# audformat, without the erkennung.txt that serflow.corpora.emodb reads.
_ALL = (
    Source(
        name="emodb",
        title="EmoDB",
        home="http://emodb.bilderbar.info",
        terms="free to download, no licence stated",
        size=40_567_066,
        holds="wav/ and erkennung.txt of EmoDB's download.zip",
        archives=(
            Remote(
                "download.zip",
                (
                    "http://emodb.bilderbar.info/download/download.zip",
                    "http://www.emodb.bilderbar.info/download/download.zip",
                ),
                unverified="the site publishes no checksum; it sent 40,567,066 bytes in 2019",
                most=200 * MB,
            ),
        ),
        unpacked=GB,
    ),
    Source(
        name="ravdess",
        title="RAVDESS (speech, audio only)",
        home="https://doi.org/10.5281/zenodo.1188976",
        terms="CC BY-NC-SA 4.0",
        size=208_468_073,
        holds="Actor_01 to Actor_24 of RAVDESS's Audio_Speech_Actors_01-24.zip",
        archives=(
            Remote(
                "Audio_Speech_Actors_01-24.zip",
                (
                    "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
                    "https://zenodo.org/api/records/1188976/files/Audio_Speech_Actors_01-24.zip/content",
                ),
                size=208_468_073,
                checksum="md5:bc696df654c87fed845eb13823edef8a",
            ),
        ),
        unpacked=2 * GB,
    ),
    Source(
        name="crema_d",
        title="CREMA-D (audio and votes)",
        home="https://github.com/CheyneyComputerScience/CREMA-D",
        terms="Open Database License 1.0",
        size=606 * MB,
        holds="AudioWAV/ and VideoDemographics.csv of CREMA-D's repository",
        files=tuple(
            map(
                _crema_table,
                (
                    "SentenceFilenames.csv",
                    "VideoDemographics.csv",
                    "processedResults/summaryTable.csv",
                    "processedResults/tabulatedVotes.csv",
                ),
            )
        ),
        trees=(
            LfsTree(
                Remote(
                    "pointers.zip",
                    (
                        "https://gitlab.com/api/v4/projects/cs-cooper-lab%2Fcrema-d-mirror/repository/"
                        "archive.zip?sha=main&path=AudioWAV&include_lfs_blobs=false",
                        "https://codeload.github.com/CheyneyComputerScience/CREMA-D/zip/refs/heads/master",
                    ),
                    unverified="made by the server when it is asked for",
                    most=100 * MB,
                ),
                folder="AudioWAV",
                suffix=".wav",
                count=7442,
                # The authors' mirror first: the LFS budget of their GitHub repository runs out
                # (its issue 15).
                media=(
                    _CREMA_GITLAB,
                    "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/",
                ),
            ),
        ),
    ),
    Source(
        name="tess",
        title="TESS",
        home="https://doi.org/10.5683/SP2/E8H2MF",
        terms="CC BY-NC-ND 4.0",
        size=280 * MB,
        holds="TESS once: OAF_back_angry.wav and so on, in any folders",
        records=(
            Record(
                "dataverse",
                Remote(
                    "borealis-SP2-E8H2MF.json",
                    (
                        "https://borealisdata.ca/api/datasets/:persistentId/"
                        "?persistentId=doi:10.5683/SP2/E8H2MF",
                    ),
                    unverified="the repository's own listing",
                    most=100 * MB,
                ),
            ),
        ),
        unpacked=2 * GB,
    ),
    Source(
        name="musan",
        title="MUSAN",
        home="https://www.openslr.org/17/",
        terms="CC BY 4.0 as a whole, its parts free in different ways",
        size=11_086_114_085,
        holds="music/, noise/ and speech/ of musan.tar.gz",
        archives=(
            Remote(
                "musan.tar.gz",
                _openslr("17/musan.tar.gz"),
                size=11_086_114_085,
                checksum="md5:0c472d4fc0c5141eca47ad1ffeb2a7df",
            ),
        ),
        strip=True,
        unpacked=25 * GB,
    ),
    Source(
        name="rirs_noises",
        title="RIRS_NOISES",
        home="https://www.openslr.org/28/",
        terms="Apache 2.0",
        size=1_311_166_223,
        holds="simulated_rirs/, real_rirs_isotropic_noises/ and pointsource_noises/ of rirs_noises.zip",
        archives=(
            Remote(
                "rirs_noises.zip",
                _openslr("28/rirs_noises.zip"),
                size=1_311_166_223,
                checksum="md5:e6f48e257286e05de56413b4779d8ffb",
            ),
        ),
        strip=True,
        unpacked=15 * GB,
        members=200_000,
    ),
    Source(
        name="savee",
        title="SAVEE",
        home="http://kahlan.eps.surrey.ac.uk/savee/",
        terms="by registration, for research only",
        size=150 * MB,
        holds="SAVEE's AudioData (DC/a01.wav ...) or ALL (DC_a01.wav ...)",
    ),
    Source(
        name="iemocap",
        title="IEMOCAP",
        home="https://sail.usc.edu/iemocap/iemocap_release.htm",
        terms="by a signed release form, for research only",
        size=13 * GB,
        holds="Session1 to Session5 of IEMOCAP_full_release",
    ),
    Source(
        name="msp_podcast",
        title="MSP-Podcast",
        home="https://www.lab-msp.com/MSP/MSP-Podcast.html",
        terms="by an academic licence between institutions",
        size=30 * GB,
        holds="Labels/, Audios/ and Partitions.txt of MSP-Podcast",
    ),
    Source(
        name="emospeech2024",
        title="EmoSPeech 2024 (Spanish MEACorpus)",
        home="https://codalab.lisn.upsaclay.fr/competitions/17647",
        terms="the audio with a key from the organisers",
        size=GB,
        holds="train.csv and test.csv of EmoSPeech 2024, and its audio if you have it",
    ),
)
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
