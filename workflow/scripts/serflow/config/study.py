"""`studies/<name>.yaml`: the science of one study, complete by itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from serflow.config.base import Seeds, Strict
from serflow.config.families.functionals import FunctionalsConfig
from serflow.config.families.speech_classifier import SpeechClassifierConfig
from serflow.config.families.text_classifier import TextClassifierConfig

# Names become folder names and Snakemake wildcards: no dots, slashes or spaces.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Count = Annotated[int, Field(ge=1)]

SystemConfig = Annotated[
    FunctionalsConfig | SpeechClassifierConfig | TextClassifierConfig,
    Field(discriminator="family"),
]


class DemoCorpus(Strict):
    """Synthetic emotional speech, made by a rule; see serflow.corpora.demo."""

    source: Literal["demo"]
    seed: int = 1
    bad_audio: Literal["fail", "skip-and-report"] = "fail"

    def reading(self, name: str) -> dict[str, Any]:
        """Keyword arguments of the corpus module's `read`, beside the folder."""
        return {}


class EmodbCorpus(Strict):
    """The Berlin Database of Emotional Speech; see serflow.corpora.emodb."""

    source: Literal["emodb"]
    subset: bool = Field(False, description="Accept a folder that holds part of the corpus.")
    bad_audio: Literal["fail", "skip-and-report"] = Field(
        "fail", description="What an unreadable, empty, silent or NaN file does to the run."
    )

    def reading(self, name: str) -> dict[str, Any]:
        """Keyword arguments of the corpus module's `read`, beside the folder."""
        return {"subset": self.subset}


class TableCorpus(Strict):
    """Your own corpus, as a table of paths and labels; see serflow.corpora.table."""

    source: Literal["table"]
    table: str = Field(
        "utterances.csv", description="CSV, TSV or Parquet file in the corpus's folder."
    )
    columns: dict[str, str] = Field(
        {}, description="Our column -> the table's, where the names differ."
    )
    bad_audio: Literal["fail", "skip-and-report"] = "fail"

    def reading(self, name: str) -> dict[str, Any]:
        """Keyword arguments of the corpus module's `read`, beside the folder."""
        return {"corpus": name, "table": self.table, "columns": self.columns}


CorpusConfig = Annotated[DemoCorpus | EmodbCorpus | TableCorpus, Field(discriminator="source")]


class AsrConfig(Strict):
    """How utterances become text."""

    name: Name = Field(description="Name of this transcription in the results and tables.")
    engine: Literal["canary"] = "canary"
    model: str = Field(description="Hub id, .nemo file or unpacked folder.")
    language: str = "en"
    pnc: bool = Field(False, description="Ask for punctuation and capitals.")
    batch_seconds: Annotated[float, Field(gt=0)] = Field(
        600.0, description="Padded seconds of audio in a batch."
    )
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    shards: Count = 1
    resources: Literal["cpu", "gpu"] = "gpu"


class LabelSettings(Strict):
    """From a corpus's own labels to the study's classes."""

    map: dict[str, str] = Field({}, description="Corpus label -> class; others keep their name.")
    drop: list[str] = Field([], description="Corpus labels whose utterances are left out.")


class OfficialFolds(Strict):
    """The corpus's own train, dev and test split, as the single fold '0'."""

    protocol: Literal["official"]

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return ["0"]


class KFold(Strict):
    """k folds over utterances, stratified by class."""

    protocol: Literal["stratified_k_fold"]
    k: Annotated[int, Field(ge=2)] = 5
    seed: int = 0
    dev: Literal["none", "next_fold"] = "none"

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return [str(fold) for fold in range(self.k)]


class GroupKFold(Strict):
    """k folds over groups: no group is on both sides, classes stratified as far as that allows."""

    protocol: Literal["grouped_k_fold"]
    group: Literal["speaker", "session", "sentence_id"] = "speaker"
    k: Annotated[int, Field(ge=2)] = 5
    seed: int = 0
    dev: Literal["none", "next_fold"] = "none"

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return [str(fold) for fold in range(self.k)]


class LeaveOneGroupOut(Strict):
    """One fold per group: its utterances are the test rows."""

    protocol: Literal["leave_one_group_out"]
    group: Literal["speaker", "session", "sentence_id"] = "speaker"
    groups: Annotated[int, Field(ge=2)] = Field(
        description="Number of groups, and so of folds; checked against the data."
    )
    dev: Literal["none", "next_fold"] = Field(
        "none", description="'next_fold': the next group is this fold's dev set."
    )

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return [str(fold) for fold in range(self.groups)]


FoldsConfig = Annotated[
    OfficialFolds | KFold | GroupKFold | LeaveOneGroupOut, Field(discriminator="protocol")
]


class PriorSettings(Strict):
    """The class prior that posteriors are rebalanced to."""

    target: Literal["uniform"] | dict[str, float] = "uniform"


class InterpolationFusion(Strict):
    """Linear interpolation of posteriors, weights from a grid over the simplex."""

    method: Literal["linear_interpolation"]
    systems: Annotated[list[Name], Field(min_length=2)]
    stage: Literal["raw", "rebalanced"] = "rebalanced"
    fit_on: Literal["dev", "cross_fit"]
    step: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    objective: Literal["macro_f1", "uar", "nll"] = "macro_f1"

    @model_validator(mode="after")
    def _step_divides_one(self) -> InterpolationFusion:
        if abs(round(1 / self.step) * self.step - 1) > 1e-9:
            raise ValueError(f"step is {self.step}; expected 1 divided by a whole number, as 0.05")
        return self


class LogisticFusion(Strict):
    """Multinomial logistic regression on log-posteriors with an L2 penalty."""

    method: Literal["logistic_regression"]
    systems: Annotated[list[Name], Field(min_length=2)]
    stage: Literal["raw", "rebalanced"] = "rebalanced"
    fit_on: Literal["dev", "cross_fit"]
    C: Annotated[float, Field(gt=0)] = 1.0


FusionConfig = Annotated[InterpolationFusion | LogisticFusion, Field(discriminator="method")]


class IntervalSettings(Strict):
    """Percentile bootstrap of the test rows."""

    resamples: Annotated[int, Field(ge=100)] = 10_000
    unit: Literal["utterance", "speaker"] = "utterance"
    seed: int = 0


class PaperValue(Strict):
    """A published value to print beside ours."""

    system: str
    stage: Literal["raw", "rebalanced", "fused"]
    metric: Literal["macro_f1", "micro_f1", "uar", "wa"]
    value: float
    source: str


class StudyConfig(Strict):
    """One study: corpora, folds, systems, priors, fusions, evaluation."""

    title: str
    description: str = ""
    classes: Annotated[list[str], Field(min_length=2)] = Field(description="The class order.")
    corpora: Annotated[dict[Name, CorpusConfig], Field(min_length=1)]
    labels: LabelSettings = LabelSettings()
    folds: FoldsConfig
    asr: AsrConfig | None = Field(None, description="Needed when a system reads transcripts.")
    systems: Annotated[dict[Name, SystemConfig], Field(min_length=1)]
    seeds: Seeds = [1]
    prior: PriorSettings = PriorSettings()
    fusions: dict[Name, FusionConfig] = {}
    primary: Name | None = Field(
        None,
        description="The fusion that the report leads with: declared here, never the best on test.",
    )
    intervals: IntervalSettings = IntervalSettings()
    paper_values: list[PaperValue] = []

    @property
    def has_dev(self) -> bool:
        """Whether folds carry dev rows."""
        return self.folds.protocol == "official" or self.folds.dev != "none"

    @model_validator(mode="after")
    def _hangs_together(self) -> StudyConfig:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes are not unique: {self.classes}")
        astray = [label for label in self.labels.map.values() if label not in self.classes]
        if astray:
            raise ValueError(f"labels.map leads to {astray[0]!r}, which is not one of the classes")
        for name, system in self.systems.items():
            if "transcripts" in system.inputs and self.asr is None:
                raise ValueError(f"systems.{name} reads transcripts, but the study has no 'asr'")
            training = getattr(system, "training", None)
            if training is not None and training.select == "best" and not self.has_dev:
                raise ValueError(
                    f"systems.{name}.training.select is 'best', but folds have no dev rows "
                    "to choose an epoch on; set folds.dev, or select: last"
                )
        for name, fusion in self.fusions.items():
            unknown = [s for s in fusion.systems if s not in self.systems]
            if len(set(fusion.systems)) < len(fusion.systems):
                raise ValueError(f"fusions.{name} names a system twice: {fusion.systems}")
            if unknown:
                raise ValueError(
                    f"fusions.{name} names unknown system {unknown[0]!r}; "
                    f"the study has {', '.join(self.systems)}"
                )
            if fusion.fit_on == "dev" and not self.has_dev:
                raise ValueError(f"fusions.{name}.fit_on is 'dev', but folds have no dev rows")
            if fusion.fit_on == "cross_fit" and self.folds.protocol == "official":
                raise ValueError(f"fusions.{name}.fit_on is 'cross_fit', but there is one fold")
            if name in self.systems:
                raise ValueError(f"fusions.{name} has the name of a system")
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
