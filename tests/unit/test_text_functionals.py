"""Weighted words and characters: honest about priors, blind to what it is not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serflow.config.families.text_functionals import TextFunctionalsConfig
from serflow.context import Context
from serflow.errors import UserError
from serflow.systems.interface import Examples, build
from serflow.systems.text_functionals import style

CLASSES = ["joy", "fear"]
JOYFUL = ["gracias a todos", "muchas gracias, de verdad", "estamos muy contentos", "qué alegría"]
AFRAID = ["¡ayúdame!", "¡no! ¿dónde estás?"]


def examples(texts, labels=None):
    ids = [f"x/{i}" for i in range(len(texts))]
    if labels is None:
        return Examples.unlabelled(ids, texts=texts)
    return Examples(ids, np.array(labels), np.full(len(ids), "x/"), texts=texts)


TRAIN = examples(JOYFUL + AFRAID, [0] * 4 + [1] * 2)


def fitted(tmp_path, train=TRAIN, **settings):
    context = Context(CLASSES, 1, tmp_path)
    return build("text_functionals", {"family": "text_functionals"} | settings, context).fit(
        train, None
    )


def test_its_prior_is_the_one_that_the_class_weights_make(tmp_path):
    """Rebalancing divides by it: the frequencies of a balanced model would correct twice."""
    assert fitted(tmp_path).train_prior_ == pytest.approx([0.5, 0.5])
    plain = fitted(tmp_path, class_weight="none")
    assert plain.train_prior_ == pytest.approx([4 / 6, 2 / 6])


def test_a_text_scores_the_same_alone_and_in_company(tmp_path):
    """Document frequencies of the test texts would make every posterior depend on the others."""
    system = fitted(tmp_path)
    texts = ["gracias", "¡ayúdame, por favor!", "", "palabras jamás oídas"]
    together = system.predict(examples(texts)).log_proba
    alone = [system.predict(examples([text])).log_proba[0] for text in texts]
    assert np.allclose(together, alone, atol=1e-12)
    assert np.allclose(np.exp(together).sum(axis=1), 1)
    assert together[0].argmax() == 0 and together[1].argmax() == 1
    assert system.predict(examples([])).log_proba.shape == (0, 2)


def test_the_order_of_the_training_rows_is_of_no_account(tmp_path):
    """A solver that stops early gave other labels for another order of the table."""
    order = [5, 2, 0, 4, 1, 3]
    texts = [TRAIN.texts[i] for i in order]
    turned = fitted(tmp_path, train=examples(texts, TRAIN.labels[order].tolist()))
    asked = examples(["gracias", "¡no!", "de verdad"])
    expected = fitted(tmp_path).predict(asked).log_proba
    assert np.allclose(turned.predict(asked).log_proba, expected, atol=1e-3)


def test_dev_rows_are_not_trained_on(tmp_path):
    context = Context(CLASSES, 1, tmp_path)
    system = build("text_functionals", {"family": "text_functionals"}, context)
    texts = ["gracias por todo"]
    expected = fitted(tmp_path).predict(examples(texts)).log_proba
    found = system.fit(TRAIN, examples(["gracias, qué miedo"], [1])).predict(examples(texts))
    assert np.array_equal(found.log_proba, expected)


def test_punctuation_and_cut_sentences_are_seen():
    """Transcripts of cut-out segments start in lower case; fear exclaims. TF-IDF drops marks."""
    counts = style(["¡No! ¿Dónde estás?", "y por eso, decía...", ""])
    questions, exclamations, commas, ellipses = counts[:, 2:6].T
    assert questions.tolist() == pytest.approx([np.log(2), 0, 0])
    assert exclamations.tolist() == pytest.approx([np.log(2), 0, 0])
    assert commas[1] == ellipses[1] == pytest.approx(np.log(2))
    assert counts[:, 9].tolist() == [0, 1, 0]
    assert counts[:, 10].tolist() == [1, 1, 0]
    assert np.isfinite(counts).all()


def test_it_reads_marks_as_words(tmp_path):
    words = dict(fitted(tmp_path).features_.transformer_list)["words"].vocabulary_
    assert {"¡", "ayúdame !", "¿ dónde"} <= set(words)


def test_without_style_the_counts_are_no_features(tmp_path):
    with_counts, without = fitted(tmp_path), fitted(tmp_path, style=0)
    assert with_counts.facts_["features"] == without.facts_["features"] + 11


def test_texts_of_a_recogniser_that_heard_nothing_are_named(tmp_path):
    empty = replace(TRAIN, texts=[""] * len(TRAIN))
    with pytest.raises(UserError, match=r"6 training texts cannot be weighted.*are they empty"):
        fitted(tmp_path, train=empty)


def test_a_range_of_runs_that_is_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match=r"word_ngrams is \[2, 1\]; expected the shortest"):
        TextFunctionalsConfig(family="text_functionals", word_ngrams=(2, 1))
