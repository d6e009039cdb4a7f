"""`studies/<name>.yaml`: the science of one study, complete by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from serflow.config.asr import AsrConfig
from serflow.config.audit import AuditSettings
from serflow.config.base import Name, Seeds, Strict
from serflow.config.corpora import SOUNDS, CorpusConfig, SoundCorpus
from serflow.config.evaluation import IntervalSettings, PaperValue
from serflow.config.families.embedding_backend import EmbeddingBackendConfig
from serflow.config.families.functionals import FunctionalsConfig
from serflow.config.families.speech_classifier import SpeechClassifierConfig
from serflow.config.families.text_classifier import TextClassifierConfig
from serflow.config.families.text_functionals import TextFunctionalsConfig
from serflow.config.folds import FoldsConfig
from serflow.config.fusions import FusionConfig, PriorSettings
from serflow.config.labels import AttributeSettings, LabelSettings
from serflow.config.submission import LABELS, SubmissionSettings

# Between a study's name and that of one of its contrasts; no name holds it.
CONTRAST = "."

SystemConfig = Annotated[
    FunctionalsConfig
    | SpeechClassifierConfig
    | TextClassifierConfig
    | TextFunctionalsConfig
    | EmbeddingBackendConfig,
    Field(discriminator="family"),
]


class Contrast(Strict):
    """The study once more under another protocol, to show side by side what the protocol does."""

    folds: FoldsConfig
    audit: AuditSettings = AuditSettings()
    systems: list[Name] = Field([], description="Systems to train again; empty: all.")
    note: str = Field("", description="What the reader should know of it; printed beside it.")


class StudyConfig(Strict):
    """One study: corpora, folds, systems, priors, fusions, evaluation."""

    title: str
    description: str = ""
    classes: Annotated[list[str], Field(min_length=2)] = Field(description="The class order.")
    corpora: Annotated[dict[Name, CorpusConfig], Field(min_length=1)]
    keep: dict[
        Literal["partition", "style", "intensity", "gender", "language", "session", "speaker"],
        list[str],
    ] = Field({}, description="Column of the utterance table -> values whose utterances stay in.")
    labels: LabelSettings = LabelSettings()
    attributes: AttributeSettings | None = Field(
        None, description="Ratings to predict; needed when a system predicts attributes."
    )
    folds: FoldsConfig
    audit: AuditSettings = AuditSettings()
    contrasts: dict[Name, Contrast] = Field(
        {}, description="Other protocols to show beside the study's own."
    )
    asr: dict[Name, AsrConfig] = Field(
        {}, description="Transcriptions by name; needed when a system reads transcripts."
    )
    systems: Annotated[dict[Name, SystemConfig], Field(min_length=1)]
    sounds: dict[Name, SoundCorpus] = Field(
        {},
        description="Noises and room responses for augmentation, beside musan and rirs_noises as "
        "published: a part of these, or a table of your own. Never utterances of the study.",
    )
    seeds: Seeds = [1]
    prior: PriorSettings = PriorSettings()
    fusions: dict[Name, FusionConfig] = {}
    primary: Name | None = Field(
        None,
        description="The fusion that the report leads with: declared here, never the best on test.",
    )
    intervals: IntervalSettings = IntervalSettings()
    paper_values: list[PaperValue] = []
    submission: SubmissionSettings | None = Field(
        None,
        description="A file for a challenge, by systems that are trained once more on all labelled "
        "rows, with the first of the seeds.",
    )

    @property
    def has_dev(self) -> bool:
        """Whether folds carry dev rows."""
        return self.folds.protocol == "official" or self.folds.dev != "none"

    def contrast(self, name: str) -> StudyConfig:
        """The study under another of its protocols.

        Fusions that fit that protocol and its systems come along; published values and what is
        handed in do not, as they belong to the study itself.
        """
        contrast = self.contrasts[name]
        systems = contrast.systems or list(self.systems)
        fusions = {
            key: fusion
            for key, fusion in self.fusions.items()
            if set(fusion.systems) <= set(systems)
        }
        data = self.model_dump(
            exclude={"contrasts", "paper_values", "fusions", "systems", "primary", "submission"}
        )
        return StudyConfig.model_validate(
            {
                **data,
                "title": f"{self.title} ({name.replace('_', ' ')})",
                "folds": contrast.folds.model_dump(),
                "audit": contrast.audit.model_dump(),
                "systems": {key: self.systems[key].model_dump() for key in systems},
                "fusions": {key: fusion.model_dump() for key, fusion in fusions.items()},
                "primary": self.primary if self.primary in fusions else next(iter(fusions), None),
            }
        )

    def sound_corpora(self) -> dict[str, SoundCorpus]:
        """What systems mix into training speech: name -> corpus."""
        named = [name for system in self.systems.values() for name in _mixed_in(system)]
        return {name: self.sounds.get(name) or SOUNDS[name](source=name) for name in named}

    def predicts(self, what: Literal["categories", "attributes"]) -> list[str]:
        """Names of the systems that predict categories, or attributes."""
        return [name for name, x in self.systems.items() if x.predicts in (what, "both")]

    def transcription(self, system: str) -> str | None:
        """Name of the transcription that a system reads; None for one that reads no text."""
        settings = self.systems[system]
        if "transcripts" not in settings.inputs:
            return None
        return settings.transcripts or next(iter(self.asr))

    def transcript_twins(self) -> list[tuple[str, str]]:
        """Pairs of systems that differ in whose transcripts they read: recognised, reference."""
        alike: dict[str, list[str]] = {}
        for name, system in self.systems.items():
            if self.transcription(name) is not None:
                settings = system.model_dump_json(exclude={"transcripts", "resources"})
                alike.setdefault(settings, []).append(name)
        recognised = {
            n: self.asr[x].engine != "reference"
            for n in self.systems
            if (x := self.transcription(n))
        }
        return [
            (name, other)
            for names in alike.values()
            for name in names
            for other in names
            if recognised[name] and not recognised[other]
        ]

    def _check_transcription(self, system: str) -> None:
        wanted = self.systems[system].transcripts
        known = ", ".join(self.asr)
        if not self.asr:
            raise ValueError(f"systems.{system} reads transcripts, but the study has no 'asr'")
        if wanted is None and len(self.asr) > 1:
            raise ValueError(
                f"systems.{system} reads transcripts, and the study has several ({known}): name "
                "one as its 'transcripts'"
            )
        if wanted is not None and wanted not in self.asr:
            raise ValueError(
                f"systems.{system}.transcripts is {wanted!r}, which is not one of asr: {known}"
            )

    def _check_embeddings(self, system: str) -> None:
        source = self.systems[system].embeddings
        able = [name for name, x in self.systems.items() if x.family == "speech_classifier"]
        if source not in able:
            raise ValueError(
                f"systems.{system}.embeddings is {source!r}, which is not one of the study's "
                f"speech classifiers: {', '.join(able) or 'it has none'}"
            )

    def _check_submission(self) -> None:
        challenge = self.submission.format
        if challenge not in [corpus.source for corpus in self.corpora.values()]:
            raise ValueError(f"submission.format is {challenge!r}, which is none of the corpora")
        if self.labels.unlabelled != "drop":
            raise ValueError(
                "submission: what is handed in has no label, and `labels.unlabelled` is 'fail'; "
                "set it to 'drop'"
            )
        astray = [label for label in self.classes if label not in LABELS[challenge]]
        if astray:
            raise ValueError(
                f"submission: class {astray[0]!r} is no label of {challenge}, which takes "
                f"{', '.join(LABELS[challenge])}"
            )
        for task, name in self.submission.tasks.items():
            able = self.predicts("categories")
            if name not in able:
                raise ValueError(
                    f"submission.tasks.{task} is {name!r}, which is no system that predicts "
                    f"categories; there are {', '.join(able)}"
                )
            sources = [name, getattr(self.systems[name], "embeddings", name)]
            if any(_chooses_on_dev(self.systems[source]) for source in sources):
                raise ValueError(
                    f"submission.tasks.{task}: {name} chooses its epoch on dev rows, and training "
                    "on all labelled rows leaves none; set training.select: last"
                )

    @model_validator(mode="after")
    def _hangs_together(self) -> StudyConfig:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes are not unique: {self.classes}")
        both = sorted(set(self.sounds) & set(self.corpora))
        if both:
            raise ValueError(f"sounds.{both[0]} has the name of a corpus of the study")
        twice = set(self.classes) & set(self.labels.train_only)
        if twice:
            raise ValueError(f"labels.train_only names {min(twice)!r}, which is one of the classes")
        known = {*self.classes, *self.labels.train_only}
        astray = [label for label in self.labels.map.values() if label not in known]
        if astray:
            raise ValueError(f"labels.map leads to {astray[0]!r}, which is not one of the classes")
        for name, system in self.systems.items():
            if "transcripts" in system.inputs:
                self._check_transcription(name)
            if "embeddings" in system.inputs:
                self._check_embeddings(name)
            for corpus in _mixed_in(system):
                if corpus not in self.sounds and corpus not in SOUNDS:
                    known = ", ".join([*self.sounds, *(c for c in SOUNDS if c not in self.sounds)])
                    raise ValueError(
                        f"systems.{name}.augmentation names corpus {corpus!r}, which is not one of "
                        f"'sounds': {known}"
                    )
            if _chooses_on_dev(system) and not self.has_dev:
                raise ValueError(
                    f"systems.{name}.training.select is 'best', but folds have no dev rows "
                    "to choose an epoch on; set folds.dev, or select: last"
                )
        rated = self.predicts("attributes")
        if rated and self.attributes is None:
            raise ValueError(
                f"systems.{rated[0]} predicts attributes, but the study has no 'attributes': say "
                "their scale, as `attributes: {scale: [1, 7]}`"
            )
        if not self.predicts("categories"):
            raise ValueError(
                "no system predicts categories: give at least one, as `predicts: both`; the tables "
                "of a study start from its classes"
            )
        if self.submission is not None:
            self._check_submission()
        for name, fusion in self.fusions.items():
            unknown = [s for s in fusion.systems if s not in self.systems]
            mute = [s for s in fusion.systems if s not in {*unknown, *self.predicts("categories")}]
            if mute:
                raise ValueError(
                    f"fusions.{name} names {mute[0]!r}, which predicts attributes alone and has no "
                    "posteriors"
                )
            if len(set(fusion.systems)) < len(fusion.systems):
                raise ValueError(f"fusions.{name} names a system twice: {fusion.systems}")
            if unknown:
                raise ValueError(
                    f"fusions.{name} names unknown system {unknown[0]!r}; "
                    f"the study has {', '.join(self.systems)}"
                )
            if fusion.fit_on == "dev" and not self.has_dev:
                raise ValueError(f"fusions.{name}.fit_on is 'dev', but folds have no dev rows")
            if fusion.fit_on == "cross_fit" and len(self.folds.names()) == 1:
                raise ValueError(f"fusions.{name}.fit_on is 'cross_fit', but there is one fold")
            if name in self.systems:
                raise ValueError(f"fusions.{name} has the name of a system")
        for name, contrast in self.contrasts.items():
            unknown = [s for s in contrast.systems if s not in self.systems]
            if unknown:
                raise ValueError(
                    f"contrasts.{name} names unknown system {unknown[0]!r}; "
                    f"the study has {', '.join(self.systems)}"
                )
            try:
                self.contrast(name)
            except ValidationError as error:
                faults = "; ".join(str(fault["msg"]) for fault in error.errors())
                raise ValueError(f"contrasts.{name}: {faults}") from None
        for paper in self.paper_values:
            known = self.fusions if paper.stage == "fused" else self.systems
            if paper.system not in known:
                raise ValueError(
                    f"paper_values: there is no {paper.system!r} at stage '{paper.stage}'; "
                    f"there are {', '.join(known) or 'none'}"
                )
        if self.primary is not None and self.primary not in self.fusions:
            raise ValueError(f"primary is {self.primary!r}, which is not one of the fusions")
        if self.primary is None and len(self.fusions) > 1:
            raise ValueError(
                "the study has several fusions: declare the one that the report leads with as "
                f"'primary' ({', '.join(self.fusions)})"
            )
        if isinstance(self.prior.target, dict):
            if set(self.prior.target) != set(self.classes):
                raise ValueError("prior.target must name exactly the study's classes")
            total = sum(self.prior.target.values())
            # Not `>`: NaN compares false.
            if not (abs(total - 1) <= 1e-6 and min(self.prior.target.values()) >= 0):
                raise ValueError(f"prior.target must be non-negative and sum to 1, not {total:g}")
        return self


def _chooses_on_dev(system: SystemConfig) -> bool:
    """Whether a system needs dev rows to choose an epoch."""
    phases = getattr(system, "phases", [system])
    return any(phase.training.select == "best" for phase in phases if hasattr(phase, "training"))


def _mixed_in(system: SystemConfig) -> list[str]:
    """Corpora that a system mixes into its training speech."""
    augmentation = getattr(system, "augmentation", None)
    return augmentation.corpora() if augmentation else []
