"""`studies/<name>.yaml`: the science of one study, complete by itself."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from serflow.config.asr import AsrConfig
from serflow.config.audit import AuditSettings
from serflow.config.base import Name, Seeds, Strict
from serflow.config.corpora import SOUNDS, CorpusConfig, SoundCorpus
from serflow.config.evaluation import IntervalSettings, PaperValue
from serflow.config.families.embedding_backend import EmbeddingBackendConfig
from serflow.config.families.functionals import FunctionalsConfig
from serflow.config.families.given import GivenConfig
from serflow.config.families.prompted_lm import PromptedLmConfig
from serflow.config.families.speech_classifier import SpeechClassifierConfig
from serflow.config.families.text_classifier import TextClassifierConfig
from serflow.config.families.text_functionals import TextFunctionalsConfig
from serflow.config.families.training import chooses_on_dev
from serflow.config.folds import FoldsConfig
from serflow.config.fusions import AttributeFusion, CalibrationSettings, FusionConfig, PriorSettings
from serflow.config.grids import POINT, points_of
from serflow.config.labels import AttributeSettings, LabelSettings
from serflow.config.submission import SubmissionSettings, check_submission, members

# Between a study's name and that of one of its contrasts; no name holds it.
CONTRAST = "."

SystemConfig = Annotated[
    FunctionalsConfig
    | SpeechClassifierConfig
    | TextClassifierConfig
    | PromptedLmConfig
    | TextFunctionalsConfig
    | EmbeddingBackendConfig
    | GivenConfig,
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
    calibration: CalibrationSettings | None = Field(
        None, description="Of every system's posteriors, before they are rebalanced."
    )
    prior: PriorSettings = PriorSettings()
    fusions: dict[Name, FusionConfig] = {}
    attribute_fusions: dict[Name, AttributeFusion] = Field(
        {}, description="Late fusions of predicted attributes."
    )
    primary: Name | None = Field(
        None,
        description="The fusion that the report leads with: declared here, never the best on test.",
    )
    intervals: IntervalSettings = IntervalSettings()
    paper_values: list[PaperValue] = []
    submission: SubmissionSettings | None = Field(
        None,
        description="Files for a challenge: predictions of the rows that have no label, with the "
        "first of the seeds.",
    )

    @property
    def has_dev(self) -> bool:
        """Whether folds carry dev rows."""
        return self.folds.protocol == "official" or self.folds.dev != "none"

    @property
    def stages(self) -> list[str]:
        """What becomes of a single system's posteriors, in order."""
        return ["raw", *(["calibrated"] if self.calibration else []), "rebalanced"]

    def contrast(self, name: str) -> StudyConfig:
        """The study under another of its protocols.

        Fusions that fit that protocol and its systems come along; published values and what is
        handed in do not, as they belong to the study itself.
        """
        contrast = self.contrasts[name]
        return self._of(
            contrast.systems or list(self.systems),
            title=f"{self.title} ({name.replace('_', ' ')})",
            folds=contrast.folds.model_dump(),
            audit=contrast.audit.model_dump(),
            contrasts={},
            paper_values=[],
            submission=None,
        )

    def only(self, names: Collection[str]) -> StudyConfig:
        """The study with some of its systems, and all that these suffice for.

        A network whose embeddings one of them reads comes along.
        """
        read = {getattr(self.systems[name], "embeddings", name) for name in names}
        systems = [name for name in self.systems if name in {*names, *read}]
        contrasts = {
            key: contrast.model_dump()
            | {"systems": [name for name in contrast.systems if name in systems]}
            for key, contrast in self.contrasts.items()
            if not contrast.systems or set(contrast.systems) & set(systems)
        }
        tasks = {
            task: named.model_dump()
            for task, named in (self.submission.tasks if self.submission else {}).items()
            if set(members(self, task)) <= set(systems)
        }
        submission = self.submission.model_dump() | {"tasks": tasks} if tasks else None
        return self._of(systems, contrasts=contrasts, submission=submission)

    def _of(self, systems: list[str], **changes: Any) -> StudyConfig:
        """A study of these systems, with the fusions and the published values that are theirs."""
        fusions, rated = (
            {key: x for key, x in found.items() if set(x.systems) <= set(systems)}
            for found in (self.fusions, self.attribute_fusions)
        )
        known = {*systems, *fusions, *rated}
        data = self.model_dump() | {
            "systems": {key: self.systems[key].model_dump() for key in systems},
            "fusions": {key: fusion.model_dump() for key, fusion in fusions.items()},
            "attribute_fusions": {key: fusion.model_dump() for key, fusion in rated.items()},
            "primary": self.primary if self.primary in fusions else None,
            "paper_values": [x.model_dump() for x in self.paper_values if x.system in known],
        }
        return StudyConfig.model_validate(data | changes)

    def sound_corpora(self) -> dict[str, SoundCorpus]:
        """What systems mix into training speech: name -> corpus."""
        named = [name for system in self.trained.values() for name in _mixed_in(system)]
        return {name: self.sounds.get(name) or SOUNDS[name](source=name) for name in named}

    @cached_property
    def trained(self) -> dict[str, SystemConfig]:
        """What is trained on the folds: the systems, and the points of a grid in its system's place."""
        found = {}
        for name, system in self.systems.items():
            found |= points_of(name, system) or {name: system}
        return found

    def predicts(self, what: Literal["categories", "attributes"]) -> list[str]:
        """Names of the systems that predict categories, or attributes."""
        return [name for name, x in self.systems.items() if x.predicts in (what, "both")]

    def transcription(self, system: str) -> str | None:
        """Name of the transcription that a system reads; None for one that reads no text."""
        settings = self.trained.get(system) or self.systems[system]
        if "transcripts" not in settings.inputs:
            return None
        return settings.transcripts or next(iter(self.asr))

    def transcript_twins(self) -> list[tuple[str, str]]:
        """Pairs of systems that differ in whose transcripts they read: recognised, reference."""
        alike: dict[str, list[str]] = {}
        for name, system in self.systems.items():
            if self.transcription(name) is not None:
                settings = system.model_dump_json(exclude={"transcripts", "resources", "gpus"})
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
        wanted = self.trained[system].transcripts
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
        source = self.trained[system].embeddings
        able = [name for name, x in self.systems.items() if x.family == "speech_classifier"]
        if source not in able:
            raise ValueError(
                f"systems.{system}.embeddings is {source!r}, which is not one of the study's "
                f"speech classifiers: {', '.join(able) or 'it has none'}"
            )

    def _check_fusion(
        self, where: str, fusion: Any, what: Literal["categories", "attributes"]
    ) -> None:
        if len(set(fusion.systems)) < len(fusion.systems):
            raise ValueError(f"{where} names a system twice: {fusion.systems}")
        unknown = [s for s in fusion.systems if s not in self.systems]
        if unknown:
            raise ValueError(
                f"{where} names unknown system {unknown[0]!r}; "
                f"the study has {', '.join(self.systems)}"
            )
        able = self.predicts(what)
        mute = [s for s in fusion.systems if s not in able]
        if mute:
            raise ValueError(
                f"{where} names {mute[0]!r}, which predicts no {what}; "
                f"these do: {', '.join(able) or 'none'}"
            )
        if what == "categories" and fusion.stage == "calibrated" and not self.calibration:
            raise ValueError(
                f"{where}.stage is 'calibrated', but the study has no 'calibration': say its method"
            )
        if fusion.fit_on == "dev" and not self.has_dev:
            raise ValueError(f"{where}.fit_on is 'dev', but folds have no dev rows")

    def _check_paper_label(self, paper: PaperValue) -> None:
        labels = dict.fromkeys(("recall", "precision", "f1"), self.classes)
        labels["ccc"] = self.attributes.names if self.attributes else []
        wanted = labels.get(paper.metric, [""])
        if paper.label not in wanted:
            raise ValueError(
                f"paper_values: {paper.metric} of {paper.system} has label {paper.label!r}; "
                f"expected {', '.join(wanted) or 'none'}"
            )

    def _check_given(self, name: str, system: GivenConfig) -> None:
        try:
            system.check_classes(self.classes)
        except ValueError as error:
            raise ValueError(f"systems.{name}.{error}") from None
        for contrast, other in self.contrasts.items():
            if name in (other.systems or self.systems):
                raise ValueError(
                    f"contrasts.{contrast}: the posteriors of {name} are given, for the study's own "
                    "folds; name the systems that are trained here under other folds as well"
                )

    def _check_words(self, system: str) -> None:
        known = [*self.classes, *self.labels.train_only]
        words = self.trained[system].words
        astray = [name for name in words if name not in known]
        if astray:
            raise ValueError(
                f"systems.{system}.words names {astray[0]!r}, which is not one of the classes: "
                f"{', '.join(known)}"
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
        silent = [name for name, x in self.corpora.items() if getattr(x, "audio", "") is None]
        for name, system in self.systems.items():
            hears = {"audio", "functionals", "layer_means"} & set(system.inputs)
            if silent and hears:
                raise ValueError(
                    f"systems.{name} needs audio, and corpora.{silent[0]} has none (audio: null)"
                )
            if POINT in name:
                raise ValueError(f"systems.{name}: {POINT!r} is kept for the points of grids")
            if system.grid is None:
                continue
            points_of(name, system)
            if system.predicts == "attributes":
                raise ValueError(f"systems.{name}.grid: only posteriors choose, and it has none")
            if system.grid.choose_on == "dev" and not self.has_dev:
                raise ValueError(
                    f"systems.{name}.grid.choose_on is 'dev', but folds have no dev rows to choose "
                    "on; set folds.dev, or choose_on: cross_validation"
                )
        for name, system in self.trained.items():
            if "transcripts" in system.inputs:
                self._check_transcription(name)
            if "embeddings" in system.inputs:
                self._check_embeddings(name)
            if system.family == "prompted_lm":
                self._check_words(name)
            if system.family == "given":
                self._check_given(name, system)
            for corpus in _mixed_in(system):
                if corpus not in self.sounds and corpus not in SOUNDS:
                    known = ", ".join([*self.sounds, *(c for c in SOUNDS if c not in self.sounds)])
                    raise ValueError(
                        f"systems.{name}.augmentation names corpus {corpus!r}, which is not one of "
                        f"'sounds': {known}"
                    )
            if chooses_on_dev(system) and not self.has_dev:
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
        if self.calibration and self.calibration.fit_on == "dev" and not self.has_dev:
            raise ValueError(
                "calibration.fit_on is 'dev', but folds have no dev rows; set folds.dev, or fit_on: "
                "cross_fit"
            )
        for kind, fusions, what in (
            ("fusions", self.fusions, "categories"),
            ("attribute_fusions", self.attribute_fusions, "attributes"),
        ):
            for name, fusion in fusions.items():
                self._check_fusion(f"{kind}.{name}", fusion, what)
                if name in self.systems:
                    raise ValueError(f"{kind}.{name} has the name of a system")
        both = sorted(set(self.fusions) & set(self.attribute_fusions))
        if both:
            raise ValueError(f"fusions and attribute_fusions both have {both[0]!r}")
        if self.submission is not None:
            check_submission(self)
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
            fused = {**self.fusions, **self.attribute_fusions}
            known = fused if paper.stage == "fused" else self.systems
            if paper.system not in known:
                raise ValueError(
                    f"paper_values: there is no {paper.system!r} at stage '{paper.stage}'; "
                    f"there are {', '.join(known) or 'none'}"
                )
            self._check_paper_label(paper)
        if self.primary is not None and self.primary not in self.fusions:
            raise ValueError(f"primary is {self.primary!r}, which is not one of the fusions")
        if self.prior.target == "bbse" and not self.has_dev:
            raise ValueError(
                "prior.target is 'bbse', which needs the confusions of dev rows, but folds have "
                "none; set folds.dev, or target: em"
            )
        if isinstance(self.prior.target, dict):
            if set(self.prior.target) != set(self.classes):
                raise ValueError("prior.target must name exactly the study's classes")
            total = sum(self.prior.target.values())
            # Not `>`: NaN compares false.
            if not (abs(total - 1) <= 1e-6 and min(self.prior.target.values()) >= 0):
                raise ValueError(f"prior.target must be non-negative and sum to 1, not {total:g}")
        return self


def _mixed_in(system: SystemConfig) -> list[str]:
    """Corpora that a system mixes into its training speech."""
    augmentation = getattr(system, "augmentation", None)
    return augmentation.corpora() if augmentation else []
