"""The corpora of a study: which module reads each, and what the study decides about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from serflow.config.base import Strict


class Corpus(Strict):
    """What every corpus can be told."""

    bad_audio: Literal["fail", "skip-and-report"] = Field(
        "fail", description="What an unreadable, empty, silent or NaN file does to the run."
    )

    def reading(self, name: str) -> dict[str, Any]:
        """Keyword arguments of the corpus module's `read`, beside the folder."""
        raise NotImplementedError


class DemoCorpus(Corpus):
    """Synthetic emotional speech, made by a rule; see serflow.corpora.demo."""

    source: Literal["demo"]
    seed: Annotated[int, Field(ge=0)] = 1

    def reading(self, name: str) -> dict[str, Any]:
        """Nothing beside the folder."""
        return {}


class PublishedCorpus(Corpus):
    """A corpus with published names and counts, which its module gates on."""

    subset: bool = Field(False, description="Accept a folder that holds part of the corpus.")

    def reading(self, name: str) -> dict[str, Any]:
        """Whether a part is accepted."""
        return {"subset": self.subset}


class EmodbCorpus(PublishedCorpus):
    """The Berlin Database of Emotional Speech; see serflow.corpora.emodb."""

    source: Literal["emodb"]


class RavdessCorpus(PublishedCorpus):
    """RAVDESS, the audio-only speech; see serflow.corpora.ravdess."""

    source: Literal["ravdess"]


class CremaDCorpus(PublishedCorpus):
    """CREMA-D; see serflow.corpora.crema_d."""

    source: Literal["crema_d"]
    label: Literal["intended", "voice", "face", "multimodal"] = Field(
        "intended",
        description="The emotion that the actor was asked for, or the one that most raters named "
        "from the voice, the face, or both.",
    )

    def reading(self, name: str) -> dict[str, Any]:
        """Whose label, and whether a part is accepted."""
        return {"label": self.label, "subset": self.subset}


class TessCorpus(PublishedCorpus):
    """The Toronto Emotional Speech Set; see serflow.corpora.tess."""

    source: Literal["tess"]


class SaveeCorpus(PublishedCorpus):
    """SAVEE; see serflow.corpora.savee."""

    source: Literal["savee"]


class IemocapCorpus(PublishedCorpus):
    """IEMOCAP, all labels; see serflow.corpora.iemocap."""

    source: Literal["iemocap"]


class MspPodcastCorpus(PublishedCorpus):
    """MSP-Podcast, consensus labels; see serflow.corpora.msp_podcast."""

    source: Literal["msp_podcast"]


class EmospeechCorpus(PublishedCorpus):
    """EmoSPeech 2024, with audio where there is any; see serflow.corpora.emospeech2024."""

    source: Literal["emospeech2024"]


class MusanCorpus(PublishedCorpus):
    """MUSAN: noise, music and speech to mix in; see serflow.corpora.musan."""

    source: Literal["musan"]


class RirsNoisesCorpus(PublishedCorpus):
    """Simulated and real room impulse responses; see serflow.corpora.rirs_noises."""

    source: Literal["rirs_noises"]


class TableCorpus(Corpus):
    """Your own corpus, as a table of paths and labels; see serflow.corpora.table."""

    source: Literal["table"]
    table: str = Field(
        "utterances.csv", description="CSV, TSV or Parquet file in the corpus's folder."
    )
    folder: str | None = Field(
        None,
        description="Where a small table lies that comes with the study, seen from the repository; "
        "`paths` in config.yaml goes before it.",
    )
    audio: str | None = Field(
        ".",
        description="Folder that the paths start from, seen from the corpus's folder; null: there "
        "is no audio, for studies whose systems hear none.",
    )
    columns: dict[str, str] = Field(
        {}, description="Our column -> the table's, where the names differ."
    )
    constants: dict[str, str | float] = Field(
        {}, description="Columns with one value for all rows, e.g. language: de."
    )
    ignore: list[str] = Field([], description="Columns of the table that the study does without.")
    counts: dict[str, int] = Field(
        {}, description="Utterances of each label; where given, any other count is an error."
    )

    def reading(self, name: str) -> dict[str, Any]:
        """The corpus's name and everything about its table."""
        own = self.model_dump(exclude={"source", "bad_audio", "folder"})
        return {"corpus": name, **own}


CorpusConfig = Annotated[
    DemoCorpus
    | EmodbCorpus
    | RavdessCorpus
    | CremaDCorpus
    | TessCorpus
    | SaveeCorpus
    | IemocapCorpus
    | MspPodcastCorpus
    | EmospeechCorpus
    | TableCorpus,
    Field(discriminator="source"),
]

SoundCorpus = Annotated[MusanCorpus | RirsNoisesCorpus | TableCorpus, Field(discriminator="source")]

# Those that can be fetched and prepared without any study; MUSAN and RIRS_NOISES are mixed into
# speech, and a study's utterances never come from them.
PUBLISHED: dict[str, type[PublishedCorpus]] = {
    "emodb": EmodbCorpus,
    "ravdess": RavdessCorpus,
    "crema_d": CremaDCorpus,
    "tess": TessCorpus,
    "savee": SaveeCorpus,
    "iemocap": IemocapCorpus,
    "msp_podcast": MspPodcastCorpus,
    "emospeech2024": EmospeechCorpus,
    "musan": MusanCorpus,
    "rirs_noises": RirsNoisesCorpus,
}

# What augmentation can name without more ado.
SOUNDS: dict[str, type[MusanCorpus | RirsNoisesCorpus]] = {
    "musan": MusanCorpus,
    "rirs_noises": RirsNoisesCorpus,
}
