"""What a study hands in to a challenge: predictions of utterances whose labels are hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serflow.config.base import Name, Strict
from serflow.config.families.training import chooses_on_dev

# The fold that trains on all labelled rows and whose test rows are those without a label; and the
# fold that has these alone.
FINAL, HIDDEN = "final", "hidden"
What = Literal["categories", "attributes"]


@dataclass(frozen=True)
class Challenge:
    """What a challenge asks for.

    Attributes
    ----------
    corpus : str
        `source` of the corpus that holds its hidden rows.
    labels : sequence of str
        Its classes, as the corpus's reader calls them.
    files : mapping of str to mapping of str to str
        File, without `.csv` -> its tasks -> 'categories' or 'attributes'.
    names : sequence of str
        Its attributes, where it asks for some.
    scale : pair of float, optional
        The lowest and the highest value of these.
    """

    corpus: str
    labels: tuple[str, ...]
    files: Mapping[str, Mapping[str, What]]
    names: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None


CHALLENGES = {
    "emospeech2024": Challenge(
        "emospeech2024",
        ("neutral", "disgust", "anger", "joy", "sadness", "fear"),
        {"results": {"task_1": "categories", "task_2": "categories"}},
    ),
    "odyssey2024": Challenge(
        "msp_podcast",
        ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral"),
        {"categories": {"categories": "categories"}, "attributes": {"attributes": "attributes"}},
        ("arousal", "valence", "dominance"),
        (1, 7),
    ),
}


class Task(Strict):
    """What answers one task of a challenge."""

    system: Name = Field(description="A system; at stage 'fused' a fusion.")
    stage: Literal["raw", "calibrated", "rebalanced", "fused"] = Field(
        "raw",
        description="'calibrated': by the study's `calibration`. 'rebalanced': moved to its `prior`, "
        "and calibrated before where it has a `calibration`. 'fused': the systems of a fusion, or of "
        "a fusion of attributes, at its own stage, with the weights that it found on labelled rows.",
    )


class SubmissionSettings(Strict):
    """Files in a challenge's own format, with predictions of the rows that have no label."""

    format: Literal["emospeech2024", "odyssey2024"] = Field(
        description="'emospeech2024': results.csv with a column for each of its two tasks. "
        "'odyssey2024': categories.csv and attributes.csv."
    )
    trained_on: Literal["train", "all_labelled"] = Field(
        "all_labelled",
        description="'train': by the systems as the study's one fold trained them. 'all_labelled': "
        "by systems trained once more on all labelled rows, dev and test rows among them; what "
        "calibrations and fusions learnt is still of the folds, its mean where there are several.",
    )
    tasks: Annotated[
        dict[Literal["task_1", "task_2", "categories", "attributes"], Task], Field(min_length=1)
    ] = Field(description="Task of the challenge -> what answers it; a task without one is open.")

    @property
    def fold(self) -> str:
        """The fold whose systems predict the hidden rows."""
        return HIDDEN if self.trained_on == "train" else FINAL

    @property
    def challenge(self) -> Challenge:
        """What the challenge asks for."""
        return CHALLENGES[self.format]

    def asked(self) -> dict[str, What]:
        """What each task asks for."""
        files = self.challenge.files.values()
        return {task: what for tasks in files for task, what in tasks.items()}

    def files(self) -> dict[str, list[str]]:
        """The files, without `.csv`, and their tasks that are answered."""
        answered = {
            file: [task for task in tasks if task in self.tasks]
            for file, tasks in self.challenge.files.items()
        }
        return {file: tasks for file, tasks in answered.items() if tasks}

    @model_validator(mode="after")
    def _tasks_of_the_challenge(self) -> SubmissionSettings:
        astray = [task for task in self.tasks if task not in self.asked()]
        if astray:
            raise ValueError(
                f"{self.format} has no task {astray[0]!r}; it has {', '.join(self.asked())}"
            )
        return self


def members(study: Any, task: str) -> list[str]:
    """The systems that answer a task of a StudyConfig's submission, in the order of their fusion."""
    fusion = fusion_of(study, task)
    return [study.submission.tasks[task].system] if fusion is None else fusion.systems


def fusion_of(study: Any, task: str) -> Any:
    """The settings of the fusion that answers a task; None where a system does."""
    named = study.submission.tasks[task]
    return _known(study, task)[named.system] if named.stage == "fused" else None


def stage_of(study: Any, task: str) -> str:
    """The stage of the systems that answer a task: that of their fusion, if they are fused."""
    fusion = fusion_of(study, task)
    if fusion is None:
        return study.submission.tasks[task].stage
    return getattr(fusion, "stage", "raw")  # of attributes


def check_submission(study: Any) -> None:
    """Refuse what would fail after hours of training.

    Parameters
    ----------
    study : StudyConfig
        With a submission, and otherwise checked.

    Raises
    ------
    ValueError
        If the study lacks what the challenge asks for, or its systems cannot predict it.
    """
    settings, challenge = study.submission, study.submission.challenge
    if challenge.corpus not in [corpus.source for corpus in study.corpora.values()]:
        raise ValueError(
            f"submission.format is {settings.format!r}, which asks for rows of "
            f"{challenge.corpus}: that is none of the corpora"
        )
    withholding = {asked.corpus for asked in CHALLENGES.values()}
    hidden = [name for name, corpus in study.corpora.items() if corpus.source in withholding]
    if len(hidden) > 1:
        raise ValueError(
            f"submission: the corpora {' and '.join(hidden)} have test rows without labels, and a "
            "file is of one corpus; hand in from a study that has one of them"
        )
    if study.labels.unlabelled != "drop":
        raise ValueError(
            "submission: what is handed in has no label, and `labels.unlabelled` is 'fail'; "
            "set it to 'drop'"
        )
    folds = len(study.folds.names())
    if settings.trained_on == "train" and folds > 1:
        raise ValueError(
            f"submission.trained_on is 'train', but the study has {folds} folds, and no one system "
            "is that of all; set it to 'all_labelled'"
        )
    for task, named in settings.tasks.items():
        where, known, what = f"submission.tasks.{task}", _known(study, task), settings.asked()[task]
        if named.system not in known:
            kind = f"fusion of {what}" if named.stage == "fused" else f"system that predicts {what}"
            raise ValueError(
                f"{where} is {named.system!r} at stage '{named.stage}', which is no {kind}; there "
                f"are {', '.join(known) or 'none'}"
            )
        if what == "categories":
            _check_labels(study, where)
            _check_stage(study, where, task)
        else:
            _check_scale(study, where, named)
        for system in members(study, task):
            _check_member(study, where, system)


def _known(study: Any, task: str) -> Mapping[str, Any]:
    """What could answer a task at its stage, by name."""
    what = study.submission.asked()[task]
    if study.submission.tasks[task].stage == "fused":
        return study.fusions if what == "categories" else study.attribute_fusions
    return {name: study.systems[name] for name in study.predicts(what)}


def _check_labels(study: Any, where: str) -> None:
    labels = study.submission.challenge.labels
    astray = [label for label in study.classes if label not in labels]
    if astray:
        raise ValueError(
            f"{where}: class {astray[0]!r} is no label of {study.submission.format}, which takes "
            f"{', '.join(labels)}"
        )


def _check_scale(study: Any, where: str, named: Task) -> None:
    challenge = study.submission.challenge
    if named.stage in ("calibrated", "rebalanced"):
        raise ValueError(f"{where}.stage is '{named.stage}'; attributes are raw or fused")
    names, scale = study.attributes.names, tuple(study.attributes.scale)
    if set(names) != set(challenge.names) or scale != challenge.scale:
        low, high = challenge.scale
        raise ValueError(
            f"{where} asks for {', '.join(challenge.names)} from {low:g} to {high:g}; `attributes` "
            f"has {', '.join(names)} from {scale[0]:g} to {scale[1]:g}"
        )


def _check_stage(study: Any, where: str, task: str) -> None:
    settings, stage = study.submission, stage_of(study, task)
    if stage == "calibrated" and not study.calibration:
        raise ValueError(
            f"{where}.stage is 'calibrated', but the study has no 'calibration': say its method"
        )
    # The confusions of dev rows are those of a system that has not trained on them.
    if (stage, study.prior.target, settings.trained_on) == ("rebalanced", "bbse", "all_labelled"):
        raise ValueError(
            f"{where} is rebalanced by prior.target 'bbse', which needs dev rows, and training on "
            "all labelled rows leaves none; set submission.trained_on: train, or prior.target: em"
        )


def _check_member(study: Any, where: str, name: str) -> None:
    """Refuse systems that cannot predict the hidden rows."""
    system = study.systems[name]
    if system.family == "given":
        raise ValueError(
            f"{where}: {name} is given, and only what is trained here can predict the rows without "
            "a label"
        )
    if system.grid and "model" in system.grid.over:
        raise ValueError(
            f"{where}: the grid of {name} chooses among models; hand in a system with one of them"
        )
    sources = [system, study.systems[getattr(system, "embeddings", name)]]
    if study.submission.trained_on == "all_labelled" and any(map(chooses_on_dev, sources)):
        raise ValueError(
            f"{where}: {name} chooses its epoch on dev rows, and training on all labelled rows "
            "leaves none; set training.select: last, or submission.trained_on: train"
        )
