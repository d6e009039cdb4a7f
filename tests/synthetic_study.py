"""A whole study of noisy posteriors, made by the same library as a real one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from serflow.config.study import StudyConfig
from serflow.evaluation.comparisons import compare
from serflow.evaluation.posteriors import score_posteriors
from serflow.evaluation.rows import Evaluation
from serflow.evaluation.transcripts import score_transcripts
from serflow.folds import folds_digest
from serflow.leakage.audit import audit
from serflow.posteriors import Posteriors
from serflow.rebalancing import rebalance
from serflow.recalibration import calibrate
from serflow.report.results import Results
from serflow.stacking import fuse, make_fusion
from serflow.tables import COMPARISONS, UTTERANCES

INTERPOLATION = {"method": "linear_interpolation", "step": 0.05, "objective": "macro_f1"}
ACCEPTED = [
    {"overlap": "text", "reason": "Few words, many speakers."},
    {"overlap": "speaker", "reason": "A made-up study."},
]
REGRESSION = {"method": "logistic_regression", "C": 1.0}
WORDS = [
    "oh", "no", "this", "is", "not", "what", "I",
    "wanted", "to", "hear", "today", "my", "dear", "friend",
]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a synthetic study has."""

    study: str
    classes: tuple[str, ...]
    systems: dict[str, float]  # name -> noise
    official: bool = True
    speakers: int = 6
    per_cell: int = 8
    seeds: tuple[int, ...] = (1,)
    asr: bool = False
    skew: float = 1.6
    fusions: tuple[str, ...] = ("interpolation", "logistic_regression")
    title: str = "Speech, text and their fusion on synthetic speech"
    resamples: int = 200
    calibration: str = ""

    @property
    def fit_on(self) -> str:
        return "dev" if self.official else "cross_fit"


SIX = Recipe(
    "six",
    ("angry", "disgusted", "fearful", "happy", "neutral", "sad"),
    {"speech": 1.7, "text": 2.0},
    asr=True,
)
SEVEN = Recipe(
    "seven",
    ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"),
    {"functionals_svm": 1.2, "functionals_lr": 1.4},
    official=False,
    speakers=10,
    per_cell=6,
    skew=1.0,
)
TWO_SEEDS = replace(SIX, study="two_seeds", seeds=(1, 2), asr=False)


def utterances_of(recipe: Recipe) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for speaker in range(recipe.speakers):
        split = ("train", "dev", "test")[min(speaker * 3 // recipe.speakers, 2)]
        for i, label in enumerate(recipe.classes):
            for take in range(recipe.per_cell):
                name = f"{recipe.study}/s{speaker:02}-{label}-{take}"
                rows.append(
                    {
                        "utterance_id": name,
                        "corpus": recipe.study,
                        "path": f"wav/{name.partition('/')[2]}.wav",
                        "speaker": f"s{speaker:02}",
                        "gender": ("female", "male")[speaker % 2],
                        "text": " ".join(rng.permutation(WORDS)[: 4 + i]),
                        "label": label,
                        "label_raw": label,
                        "split": split if recipe.official else None,
                        "duration_s": 1.0 + take / 10,
                        "sample_rate": 16000,
                        "audio_digest": name,
                    }
                )
    return pd.DataFrame(rows).reindex(columns=list(UTTERANCES.columns))


def folds_of(recipe: Recipe, utterances: pd.DataFrame) -> pd.DataFrame:
    if recipe.official:
        return pd.DataFrame(
            {"utterance_id": utterances["utterance_id"], "fold": "0", "role": utterances["split"]}
        )
    return pd.concat(
        pd.DataFrame(
            {
                "utterance_id": utterances["utterance_id"],
                "fold": str(i),
                "role": np.where(utterances["speaker"] == speaker, "test", "train"),
            }
        )
        for i, speaker in enumerate(sorted(set(utterances["speaker"])))
    )


def raw_posteriors(recipe, utterances, folds, system, seed) -> Posteriors:
    rng = np.random.default_rng([seed, *map(ord, system)])
    rows = folds[folds["role"] != "train"].merge(utterances[["utterance_id", "label"]])
    rows = rows.assign(system=system)[["utterance_id", "system", "fold", "role", "label"]]
    prior = recipe.skew ** -np.arange(len(recipe.classes))
    prior /= prior.sum()
    truth = np.eye(len(recipe.classes))[rows["label"].map(recipe.classes.index)]
    scores = 2 * truth + recipe.systems[system] * rng.standard_normal(truth.shape) + np.log(prior)
    priors = dict.fromkeys(sorted(set(rows["fold"]), key=int), prior)
    return Posteriors(
        rows, log_softmax(scores, axis=1), recipe.classes, priors, seed, f"digest-{system}"
    )


def transcripts_of(utterances: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    heard = []
    for text in utterances["text"]:
        words = [word if rng.random() > 0.15 else "umm" for word in text.split()]
        heard.append(" ".join(words if rng.random() > 0.05 else []))
    return pd.DataFrame(
        {
            "utterance_id": utterances["utterance_id"],
            "text": heard,
            "status": ["ok" if text else "empty" for text in heard],
            "note": "",
            "asr": "tiny-canary",
        }
    )


def config_of(recipe: Recipe) -> dict:
    fusions = {
        name: {
            **(REGRESSION if name == "logistic_regression" else INTERPOLATION),
            "systems": list(recipe.systems),
            "fit_on": recipe.fit_on,
        }
        for name in recipe.fusions
    }
    folds = {"protocol": "official"}
    if not recipe.official:
        folds = {"protocol": "leave_one_group_out", "group": "speaker", "groups": recipe.speakers}
    asr = {"engine": "canary", "model": "/srv/models/canary.nemo"}
    return {
        "title": recipe.title,
        "description": "Made by the tests: noisy posteriors of known quality, no speech at all.",
        "classes": list(recipe.classes),
        "corpora": {recipe.study: {"source": "emodb"}},
        "folds": folds,
        "asr": {"tiny-canary": asr} if recipe.asr else {},
        "systems": {name: {"family": "functionals"} for name in recipe.systems},
        "seeds": list(recipe.seeds),
        "fusions": fusions,
        "primary": recipe.fusions[0] if recipe.fusions else None,
        "calibration": {"method": recipe.calibration, "fit_on": recipe.fit_on}
        if recipe.calibration
        else None,
    }


def make(recipe: Recipe) -> Results:
    """A whole study, made by the same library as a real one."""
    utterances = utterances_of(recipe)
    folds = folds_of(recipe, utterances)
    config = config_of(recipe)
    paper = {"system": "interpolation", "stage": "fused", "metric": "macro_f1", "value": 0.356}
    evaluation = Evaluation(
        recipe.study,
        utterances,
        resamples=recipe.resamples,
        unit="utterance",
        seed=0,
        paper_values=[{**paper, "source": "Some authors, 2024, table 3"}],
    )
    posteriors, fusions, calibrations, scores, comparisons = {}, {}, {}, [], []
    for seed in recipe.seeds:
        tables = {
            ("raw", name): raw_posteriors(recipe, utterances, folds, name, seed)
            for name in recipe.systems
        }
        for name in recipe.systems:
            last = tables["raw", name]
            if recipe.calibration:
                last, fits = calibrate(last, recipe.calibration, recipe.fit_on, utterances)
                tables["calibrated", name] = last
                calibrations[seed, name] = {"fits": fits}
            tables["rebalanced", name] = rebalance(last, "uniform")
        for name in recipe.fusions:
            settings = {"name": name, "stage": "rebalanced", **config["fusions"][name]}
            systems = {n: tables["rebalanced", n] for n in recipe.systems}
            fused, learnt = fuse(
                systems, name, recipe.fit_on, lambda s=settings: make_fusion(s), utterances
            )
            tables["fused", name] = fused
            fusions[seed, name] = {"settings": settings, **learnt}
        for (stage, name), table in tables.items():
            posteriors[seed, stage, name] = table
            scores += score_posteriors(evaluation, table, name, stage)
        comparisons += compare(evaluation, tables)
    transcripts = transcripts_of(utterances) if recipe.asr else None
    if recipe.asr:
        scores += score_transcripts(evaluation, transcripts, seed=recipe.seeds[0])
    columns = list(COMPARISONS.columns)
    return Results(
        study=recipe.study,
        config=StudyConfig.model_validate(config),
        scores=pd.DataFrame(scores),
        comparisons=pd.DataFrame(comparisons, columns=columns),
        posteriors=posteriors,
        fusions=fusions,
        calibrations=calibrations,
        utterances=utterances,
        folds=folds,
        fold_notes=[] if recipe.official else ["the test rows of fold '3' have no disgust"],
        folds_digest=folds_digest(folds),
        audit=audit(utterances.reindex(columns=list(UTTERANCES.columns)), folds, accept=ACCEPTED),
        dropped={"other": 3} if recipe.official else {},
        skipped=pd.DataFrame(
            [("six/x", "wav/x.wav", "not readable: /home/ann/corpus/wav/x.wav is empty", "six")]
            if recipe.asr
            else [],
            columns=["utterance_id", "path", "reason", "corpus"],
        ),
        transcripts=transcripts,
    )
