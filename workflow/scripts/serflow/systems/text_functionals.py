"""The `text_functionals` family: TF-IDF, counts of style, and logistic regression.

Words, punctuation marks and characters are weighted on the training rows of the fold alone: neither
document frequencies nor scales know a dev or test text. Settings are fixed: nothing is searched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from serflow.config.families.text_functionals import TextFunctionalsConfig
from serflow.context import Context
from serflow.errors import UserError
from serflow.systems import saved
from serflow.systems.interface import Examples, Predicted
from serflow.training_prior import effective_prior

# A mark says as much as a word: fear asks and exclaims.
TOKENS = r"\w+|[^\w\s]"


def build(settings: dict[str, Any], context: Context) -> TextFunctionals:
    """Build the system from its settings."""
    return TextFunctionals(TextFunctionalsConfig.model_validate(settings), context)


class TextFunctionals:
    """Weighted words and characters, and one classifier; see `System`."""

    def __init__(self, settings: TextFunctionalsConfig, context: Context) -> None:
        self.settings = settings
        self.context = context

    def fit(self, train: Examples, dev: Examples | None) -> TextFunctionals:
        """Fit on the training rows; dev is not used."""
        n_classes = len(self.context.classes)
        weight = None if self.settings.class_weight == "none" else "balanced"
        self.features_ = _features(self.settings)
        try:
            features = self.features_.fit_transform(train.texts)
        except ValueError as error:  # of texts without a single word
            raise UserError(
                f"the {len(train)} training texts cannot be weighted: {error}. Look at the "
                "transcripts: are they empty?"
            ) from None
        # lbfgs with its own tolerance stops early enough for the order of the rows to move a
        # posterior by 0.08, and takes twice the time.
        classifier = LogisticRegression(
            C=self.settings.C, class_weight=weight, solver="newton-cg", tol=1e-5, max_iter=1000
        )
        self.model_ = classifier.fit(features, train.labels)
        self.train_prior_ = effective_prior(train.labels, n_classes, weight)
        self.facts_ = {
            "features": int(features.shape[1]),
            "empty_texts": sum(not text.strip() for text in train.texts),
            "iterations": int(self.model_.n_iter_.max()),
        }
        return self

    def predict(self, examples: Examples) -> Predicted:
        """Posteriors; an empty transcript is a valid input."""
        if not len(examples):
            return Predicted(np.empty((0, len(self.context.classes))))
        return Predicted(self.model_.predict_log_proba(self.features_.transform(examples.texts)))

    def save(self, folder: Path) -> None:
        """Write the settings: with them, fitting anew takes seconds."""
        block = self.settings.model_dump(mode="json")
        saved.write_record(folder, block, self.context, self.train_prior_, facts=self.facts_)


def style(texts: Sequence[str]) -> NDArray[np.float64]:
    """How a text is said, whatever it says.

    Parameters
    ----------
    texts : sequence of str, length n

    Returns
    -------
    ndarray of float, shape (n, 11)
        Logarithms of 1 + words, words a sentence, question marks, exclamation marks, commas and
        ellipses; shares of distinct words, of capitals and of digits; whether the text starts in
        lower case, and whether it ends as a sentence does (utterances are often cut out of one).
    """
    return np.array([_style(text.strip()) for text in texts], dtype=np.float64).reshape(-1, 11)


def _style(text: str) -> list[float]:
    words = re.findall(r"\w+", text.lower())
    sentences = len(re.findall(r"[.!?…]+", text))
    counts = [
        len(words),
        len(words) / max(sentences, 1),
        text.count("?"),
        text.count("!"),
        text.count(","),
        text.count("...") + text.count("…"),
    ]
    return [
        *np.log1p(counts),
        len(set(words)) / max(len(words), 1),
        sum(map(str.isupper, text)) / max(len(text), 1),
        sum(map(str.isdigit, text)) / max(len(text), 1),
        text[:1].islower(),
        text.endswith((".", "!", "?", "…")),
    ]


def _features(settings: TextFunctionalsConfig) -> FeatureUnion:
    """Unfitted; two TF-IDF vectors of length 1 side by side, and the counts of style."""
    parts = [
        (
            "words",
            TfidfVectorizer(
                ngram_range=settings.word_ngrams, token_pattern=TOKENS, sublinear_tf=True
            ),
        ),
        (
            "characters",
            TfidfVectorizer(
                analyzer="char",
                ngram_range=settings.character_ngrams,
                min_df=settings.min_character_texts,
                sublinear_tf=True,
            ),
        ),
    ]
    if settings.style:
        scale = FunctionTransformer(_scaled, kw_args={"by": settings.style})
        counts = Pipeline(
            [("count", FunctionTransformer(style)), ("scale", StandardScaler()), ("weigh", scale)]
        )
        parts.append(("style", counts))
    return FeatureUnion(parts)


def _scaled(values: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    return values * by
