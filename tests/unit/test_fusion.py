"""Fusion: weights are the best of the grid, and never chosen by the rows they are scored on."""

from __future__ import annotations

import doctest
import inspect
import json
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from serflow import crossing, fusion
from serflow.crossing import cross_fit, disjoint_parts
from serflow.fusion import (
    LinearInterpolation,
    LogisticRegressionFusion,
    LogLinearInterpolation,
    MajorityVote,
    MeanFusion,
    simplex_grid,
)
from serflow.fusion.regression import _inner_splits
from serflow.fusion.sweep import best_classes, confusions_along, confusions_between
from serflow.metrics import METRICS, confusion

FUSIONS = [
    LinearInterpolation,
    lambda: LinearInterpolation(step=0.1, objective="uar"),
    lambda: LinearInterpolation(objective="nll"),
    LogLinearInterpolation,
    lambda: LogLinearInterpolation(step=0.1, objective="nll"),
    MeanFusion,
    MajorityVote,
    LogisticRegressionFusion,
]


def systems(n_systems=2, n=120, n_classes=3, seed=0):
    """Make log-posteriors of systems that beat chance and err independently, and the labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    scores = rng.normal(size=(n_systems, n, n_classes)) + 1.2 * np.eye(n_classes)[y]
    return scores - logsumexp(scores, axis=-1, keepdims=True), y


def test_the_examples_in_the_documentation_run():
    modules = [crossing, *(x for x in vars(fusion).values() if inspect.ismodule(x))]
    assert len(modules) > 5
    assert sum(doctest.testmod(module).failed for module in modules) == 0


@given(st.integers(1, 4), st.sampled_from([1.0, 0.5, 0.25, 0.2, 0.1, 0.05]))
def test_the_grid_holds_every_weight_vector_once(n_systems, step):
    grid = simplex_grid(n_systems, step)
    assert len(grid) == comb(round(1 / step) + n_systems - 1, n_systems - 1)
    assert len(np.unique(grid, axis=0)) == len(grid)
    assert (grid >= 0).all()
    np.testing.assert_allclose(grid.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(grid / step, np.rint(grid / step), atol=1e-9)


def test_the_paper_grid_has_21_points():
    np.testing.assert_allclose(simplex_grid(2, 0.05)[:, 0], np.linspace(0, 1, 21), atol=1e-12)


@pytest.mark.parametrize("step", [0.3, 0.0, -0.1, 1.5])
def test_a_step_that_does_not_divide_one_is_refused(step):
    with pytest.raises(ValueError, match="expected 1 divided by a whole number"):
        simplex_grid(2, step)


def test_a_grid_too_large_to_search_is_refused_before_it_fills_the_memory():
    with pytest.raises(ValueError, match="take a coarser step"):
        simplex_grid(10, 0.05)


@given(st.integers(0, 10_000), st.integers(0, 1))
@settings(max_examples=25)
def test_interpolation_at_weight_one_is_the_single_system(seed, chosen):
    stack, y = systems(seed=seed, n=30)
    interpolation = LinearInterpolation().fit(stack, y)
    interpolation.weights_ = np.eye(2)[chosen]
    np.testing.assert_array_equal(interpolation.predict_log_proba(stack), stack[chosen])


def test_interpolation_is_linear_in_probability_not_in_log_probability():
    stack, y = systems(n_systems=3)
    interpolation = LinearInterpolation(step=0.1).fit(stack, y)
    np.testing.assert_allclose(
        np.exp(interpolation.predict_log_proba(stack)),
        np.tensordot(interpolation.weights_, np.exp(stack), axes=1),
        atol=1e-12,
    )


@pytest.mark.parametrize("objective", ["macro_f1", "uar", "nll"])
def test_the_objective_curve_is_what_each_grid_point_scores(objective):
    stack, y = systems()
    interpolation = LinearInterpolation(objective=objective).fit(stack, y)
    curve = []
    for weights in interpolation.grid_:
        fused = np.log(np.tensordot(weights, np.exp(stack), axes=1))
        if objective == "nll":
            curve.append(-fused[np.arange(len(y)), y].mean())
        else:
            curve.append(METRICS[objective](confusion(y, fused.argmax(axis=1), 3)))
    np.testing.assert_allclose(interpolation.objective_, curve, atol=1e-12)
    best = min(curve) if objective == "nll" else max(curve)
    chosen = (interpolation.grid_ == interpolation.weights_).all(axis=1)
    np.testing.assert_allclose(interpolation.objective_[chosen], [best], atol=1e-12)


def test_log_linear_interpolation_is_the_normalised_geometric_mean():
    """Mixing up the two interpolations goes unnoticed in most scores."""
    stack, y = systems()
    fusion = LogLinearInterpolation(objective="nll").fit(stack, y)
    weights = fusion.weights_
    assert 0 < weights[0] < 1
    pooled = np.prod(np.exp(stack) ** weights[:, None, None], axis=0)
    expected = pooled / pooled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(fusion.predict_log_proba(stack)), expected, atol=1e-12)


@pytest.mark.parametrize("objective", ["macro_f1", "uar", "nll"])
def test_the_log_linear_curve_is_what_each_point_scores(objective):
    """A curve of other numbers than the fusion's would choose weights for something else."""
    stack, y = systems()
    fusion = LogLinearInterpolation(step=0.25, objective=objective).fit(stack, y)
    for weights, value in zip(fusion.grid_, fusion.objective_, strict=True):
        fusion.weights_ = weights
        fused = fusion.predict_log_proba(stack)
        if objective == "nll":
            expected = -fused[np.arange(len(y)), y].mean()
        else:
            expected = METRICS[objective](confusion(y, fused.argmax(axis=1), 3))
        assert value == pytest.approx(expected, abs=1e-12)


def test_one_systems_zero_does_not_veto_a_class():
    """A one-hot system at any positive weight would otherwise decide alone."""
    sure = np.log(np.array([[1.0, 0.0]]).clip(1e-300))
    sure[0, 1] = -np.inf
    other = np.log([[0.01, 0.99]])
    fusion = LogLinearInterpolation(step=0.5).fit([sure, other], [1])
    fusion.weights_ = np.array([0.05, 0.95])
    assert fusion.predict_log_proba([sure, other]).argmax() == 1


def brute_force(start, end, reference, steps):
    mixed = [(1 - w) * start + w * end for w in np.linspace(0, 1, steps + 1)]
    return confusion(reference, np.stack([x.argmax(axis=0) for x in mixed]), len(start))


@given(
    st.integers(2, 9), st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32 - 1),
    st.sampled_from(["any", "eighths", "one-hot"]),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_crossings_count_what_every_point_alone_would(n_classes, n, steps, seed, kind):
    """Ties at grid points, three lines through one point, identical lines, one-hot systems."""
    rng = np.random.default_rng(seed)
    start, end = rng.random((2, n_classes, n))
    if kind == "eighths":
        start, end = np.rint(8 * start) / 8, np.rint(8 * end) / 8
        steps = 2 ** (steps % 5)  # so that no sum is rounded and equal means equal
    if kind == "one-hot":
        start, end = (np.eye(n_classes)[x.argmax(axis=0)].T for x in (start, end))
        steps = 2 ** (steps % 5)
    reference = rng.integers(0, n_classes, n)
    np.testing.assert_array_equal(
        confusions_along(start, end, reference, steps), brute_force(start, end, reference, steps)
    )


@given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_between_two_crossings_no_decision_changes(n_classes, n, seed):
    rng = np.random.default_rng(seed)
    start, end = rng.random((2, n_classes, n))
    reference = rng.integers(0, n_classes, n)
    edges, counts = confusions_between(start, end, reference)
    assert edges[0] == 0
    assert edges[-1] == 1
    for low, high, found in zip(edges, edges[1:], counts, strict=False):
        for share in np.linspace(low, high, 5)[1:-1]:
            winner = ((1 - share) * start + share * end).argmax(axis=0)
            np.testing.assert_array_equal(found, confusion(reference, winner, n_classes))


@given(st.integers(1, 300), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_first_of_the_best_classes_wins(n_classes, n, seed):
    """More classes than a byte counts, and ties."""
    scores = np.random.default_rng(seed).integers(0, 4, (n_classes, n)).astype(float)
    np.testing.assert_array_equal(best_classes(scores), scores.argmax(axis=0))


@pytest.mark.parametrize("make", [LinearInterpolation, LogLinearInterpolation])
@pytest.mark.parametrize("objective", ["macro_f1", "uar", "nll"])
def test_the_exact_weight_of_two_systems_is_not_beaten_by_any_grid(make, objective):
    stack, y = systems(n=90)
    exact = make(step="exact", objective=objective).fit(stack, y)
    grid = make(step=0.002, objective=objective).fit(stack, y)
    best = min if objective == "nll" else max
    assert best(*exact.objective_) == pytest.approx(best(*grid.objective_), abs=1e-5)
    assert best(best(exact.objective_), best(grid.objective_) + 1e-9) == pytest.approx(
        best(exact.objective_), abs=1e-9
    )
    at = (exact.grid_ == exact.weights_).all(axis=1)
    assert exact.objective_[at] == pytest.approx([best(exact.objective_)], abs=1e-12)
    assert (np.diff(exact.grid_[:, 0]) > 0).all()


def test_an_exact_weight_is_for_two_systems():
    with pytest.raises(ValueError, match="step is 'exact', which is for two systems, not 3"):
        LinearInterpolation(step="exact").fit(*systems(n_systems=3))


@pytest.mark.parametrize(("n_systems", "step"), [(4, 0.05), (5, 0.1)])
def test_coarse_to_fine_reaches_the_best_likelihood_of_the_whole_grid(n_systems, step):
    """The likelihood is concave in the weights: stopping early would be a fault of the search."""
    stack, y = systems(n_systems=n_systems, n=80)
    fusion = LinearInterpolation(step=step, objective="nll").fit(stack, y)
    grid = simplex_grid(n_systems, step)
    mixed = np.log(np.einsum("ps,snc->pnc", grid, np.exp(stack)))
    whole = -mixed[:, np.arange(len(y)), y].mean(axis=1)
    assert fusion.objective_.min() <= whole.min() + 1e-4
    assert len(fusion.grid_) < len(grid) / 2
    np.testing.assert_allclose(fusion.grid_.sum(axis=1), 1, atol=1e-12)


def test_coarse_to_fine_gains_on_the_coarse_grid_and_its_curve_is_true():
    stack, y = systems(n_systems=6, n=200)
    fusion = LinearInterpolation().fit(stack, y)
    for weights, value in list(zip(fusion.grid_, fusion.objective_, strict=True))[::37]:
        winner = np.tensordot(weights, np.exp(stack), axes=1).argmax(axis=1)
        assert value == pytest.approx(METRICS["macro_f1"](confusion(y, winner, 3)), abs=1e-12)
    coarse = (fusion.grid_ % 0.2).round(9) % 0.2 == 0
    assert fusion.objective_.max() > fusion.objective_[coarse.all(axis=1)].max()


def test_a_vote_is_the_majority_and_a_tie_goes_to_the_higher_mean():
    certain, unsure, other = np.log([[0.98, 0.02]]), np.log([[0.45, 0.55]]), np.log([[0.4, 0.6]])
    vote = MajorityVote().fit([certain, unsure, other], [0])
    assert vote.predict_log_proba([certain, unsure, other]).argmax() == 1
    assert MeanFusion().fit([certain, unsure, other], [0]).predict_log_proba(
        [certain, unsure, other]
    ).argmax() == 0  # fmt: skip
    tied = MajorityVote().fit([certain, unsure], [0])
    assert tied.predict_log_proba([certain, unsure]).argmax() == 0


def test_a_cross_validated_penalty_is_strong_where_there_is_nothing_to_learn():
    """TalTech saw a fixed penalty overfit; noise must be penalised away."""
    stack, y = systems(n=150)
    noise = np.log(np.random.default_rng(2).dirichlet([1, 1, 1], size=(2, 150)))
    assert LogisticRegressionFusion(C="cross_validated").fit(noise, y).C_ < 0.05
    assert LogisticRegressionFusion(C="cross_validated").fit(stack, y).C_ > 0.05


def test_inner_folds_split_no_speaker():
    """A speaker on both sides would favour weights that know the speaker, so another penalty."""
    stack, y = systems(n=150)
    speakers = np.array([f"s{i // 10}" for i in range(150)])
    for fitted, scored in _inner_splits(y, speakers, 3):
        assert not set(speakers[fitted]) & set(speakers[scored])
    with pytest.raises(ValueError, match="inner fold for C has no row of class"):
        LogisticRegressionFusion(C="cross_validated").fit(stack, y, np.array(list("abc"))[y])


def test_parts_are_the_folds_where_these_keep_speakers_apart_and_else_whole_speakers():
    """Under a random split, weights fitted on a speaker's other rows would be scored on him."""
    folds = np.array(list("0011"))
    parts, made_by = disjoint_parts(folds, np.array(list("aabb")))
    assert made_by == "folds"
    np.testing.assert_array_equal(parts, folds)
    rng = np.random.default_rng(0)
    speakers = rng.choice(list("abcdefg"), 200)
    for chosen in (rng.choice(list("012"), 200), np.zeros(200, dtype=str)):
        parts, made_by = disjoint_parts(chosen, speakers)
        assert made_by == "groups"
        assert len(set(parts)) == 5
        for name in set(speakers):
            assert len(set(parts[speakers == name])) == 1
    with pytest.raises(ValueError, match="all rows are of a: there are no two parts"):
        disjoint_parts(folds, np.full(4, "a"))


def test_among_equally_good_weights_the_most_even_is_taken():
    """A tie broken by search order hands one system all the weight by accident."""
    stack, y = systems(n_systems=3)
    same = LinearInterpolation(step=0.05).fit(np.stack([stack[0]] * 3), y)
    np.testing.assert_allclose(same.weights_, [0.3, 0.35, 0.35])


def test_a_useless_system_gets_little_weight_and_fusion_beats_both():
    stack, y = systems(n=600)
    rng = np.random.default_rng(1)
    noise = np.log(rng.dirichlet([1, 1, 1], size=600))
    against_noise = LinearInterpolation(objective="nll").fit([stack[0], noise], y)
    assert against_noise.weights_[0] > 0.8
    curve = LinearInterpolation().fit(stack, y).objective_
    assert curve.max() > max(curve[0], curve[-1]) + 0.02


@given(st.integers(0, 10_000), st.permutations(range(3)))
@settings(max_examples=8, deadline=None)
def test_class_order_does_not_matter(seed, order):
    stack, y = systems(seed=seed, n=60)
    order = np.array(order)
    renamed = np.argsort(order)[y]
    for make_fusion in FUSIONS:
        tolerance = 1e-6 if make_fusion is LogisticRegressionFusion else 1e-9
        fused = make_fusion().fit(stack, y).predict_log_proba(stack)
        again = make_fusion().fit(stack[..., order], renamed).predict_log_proba(stack[..., order])
        np.testing.assert_allclose(again, fused[:, order], atol=tolerance)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_logistic_regression_fusion_is_scikit_learns(n_classes):
    stack, y = systems(n_classes=n_classes, n=210)
    ours = LogisticRegressionFusion().fit(stack, y).predict_log_proba(stack)
    features = np.hstack(list(stack))
    settled = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12).fit(features, y)
    np.testing.assert_allclose(ours, settled.predict_log_proba(features), atol=1e-9)


def test_the_regression_is_at_its_optimum():
    """scikit-learn's own solver stopped early where systems are alike, which those of a study are."""
    stack, y = systems(n=300)
    stack = np.stack([stack[0], stack[0] + 0.01 * stack[1], stack[1]])
    stack = stack - logsumexp(stack, axis=-1, keepdims=True)
    fusion = LogisticRegressionFusion(C=10.0).fit(stack, y)
    fused = np.exp(fusion.predict_log_proba(stack))
    missed = np.eye(3)[y] - fused
    # Where the gradient of the penalised likelihood is zero.
    gradient = missed.T @ np.hstack(list(stack)) - fusion.regression_.coef_ / 10.0
    assert np.abs(gradient).max() < 1e-5
    assert np.abs(missed.sum(axis=0)).max() < 1e-5


@pytest.mark.parametrize("make_fusion", FUSIONS)
def test_impossible_classes_make_no_nan(make_fusion):
    """A confident system writes -inf for the other classes, sometimes for the right one."""
    stack, y = systems(n=60)
    certain = np.where(np.eye(3)[stack[0].argmax(axis=1)] > 0, 0.0, -np.inf)
    for second in (stack[1], certain):
        fused = make_fusion().fit([certain, second], y).predict_log_proba([certain, second])
        assert not np.isnan(fused).any()
        np.testing.assert_allclose(logsumexp(fused, axis=1), 0, atol=1e-9)


def test_a_class_without_fit_rows_is_an_error_that_names_it():
    """scikit-learn would drop the class and shift every later column by one."""
    stack, y = systems()
    with pytest.raises(ValueError, match="no fit row has class 1: the regression cannot learn it"):
        LogisticRegressionFusion().fit(stack[:, y != 1], y[y != 1])
    with pytest.raises(ValueError, match="predicts part 'a', fitted on the other parts: no fit"):
        cross_fit(LogisticRegressionFusion, stack, y, np.where(y == 1, "a", "b"))


@pytest.mark.parametrize("make_fusion", FUSIONS)
def test_scored_rows_never_choose_their_own_weights(make_fusion):
    """Whatever the labels of a fold's rows, that fold's fused posteriors stay bit for bit."""
    stack, y = systems(n_systems=3)
    folds = np.random.default_rng(0).integers(0, 4, size=len(y))
    fused, fusions = cross_fit(make_fusion, stack, y, folds)
    assert list(fusions) == [0, 1, 2, 3]
    for fold in range(4):
        scored = folds == fold
        other = y.copy()
        other[scored] = np.random.default_rng(fold).permutation(y[scored])
        again, _ = cross_fit(make_fusion, stack, other, folds)
        np.testing.assert_array_equal(again[scored], fused[scored])


def test_cross_fit_puts_each_row_back_in_its_place():
    stack, y = systems()
    folds = np.array(["x", "y"])[np.random.default_rng(0).integers(0, 2, size=len(y))]
    fused, fusions = cross_fit(LogisticRegressionFusion, stack, y, folds)
    for fold in ("x", "y"):
        rows = folds == fold
        alone = LogisticRegressionFusion().fit(stack[:, ~rows], y[~rows])
        expected = alone.predict_log_proba(stack[:, rows])
        np.testing.assert_array_equal(fused[rows], expected)
        np.testing.assert_array_equal(fusions[fold].predict_log_proba(stack[:, rows]), expected)


def test_one_fold_cannot_be_cross_fitted():
    stack, y = systems()
    with pytest.raises(ValueError, match="needs two parts or more; all rows are in part 3"):
        cross_fit(LinearInterpolation, stack, y, np.full(len(y), 3))


@pytest.mark.parametrize("make_fusion", FUSIONS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda stack, y: (np.exp(stack), y), "system 0, row 0 holds no log-posteriors"),
        (lambda stack, y: ([stack[0], stack[1][:-1]], y), r"shapes \[\(120, 3\), \(119, 3\)\]"),
        (lambda stack, y: (np.where(stack == stack[1, 5, 0], np.nan, stack), y), "system 1, row 5"),
        (lambda stack, y: ([], y), "have shapes"),
        (lambda stack, y: (stack, y[:-1]), r"y has shape \(119,\); expected \(120,\)"),
        (lambda stack, y: (stack, y + 1), "y holds 3 in row 2"),
    ],
)
def test_wrong_input_is_named(make_fusion, spoil, message):
    """Probabilities where logarithms are due, tables of different rows, labels of another order."""
    with pytest.raises(ValueError, match=message):
        make_fusion().fit(*spoil(*systems()))


@pytest.mark.parametrize("make_fusion", FUSIONS)
def test_a_fusion_refuses_another_number_of_systems(make_fusion):
    stack, y = systems()
    with pytest.raises(ValueError, match="1 systems to fuse; the fusion was fitted on 2"):
        make_fusion().fit(stack, y).predict_log_proba(stack[:1])


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("make_fusion", FUSIONS)
def test_what_was_learnt_predicts_alike_after_a_way_through_json(make_fusion, n_classes):
    """Rows without labels are fused by what stands in the file of weights."""
    logs, y = systems(3, n_classes=n_classes)
    fitted = make_fusion().fit(logs, y)
    learnt = json.loads(json.dumps(fitted.learnt()))
    again = type(fitted).from_learnt([learnt], n_systems=3)
    np.testing.assert_array_equal(again.predict_log_proba(logs), fitted.predict_log_proba(logs))


@pytest.mark.parametrize("make_fusion", FUSIONS)
def test_of_cross_fitted_fusions_the_mean_is_taken(make_fusion):
    """Linear weights: the mean posterior of the fits. Log-linear ones, coefficients: the geometric."""
    logs, y = systems(3)
    fitted = [make_fusion().fit(logs[:, part], y[part]) for part in (slice(60), slice(60, 120))]
    mean = type(fitted[0]).from_learnt([one.learnt() for one in fitted], n_systems=3)
    each = np.stack([one.predict_log_proba(logs) for one in fitted])
    if isinstance(mean, LogLinearInterpolation | LogisticRegressionFusion):
        expected = each.mean(axis=0)
        expected -= logsumexp(expected, axis=1, keepdims=True)
    else:
        expected = logsumexp(each, axis=0) - np.log(2)
    np.testing.assert_allclose(mean.predict_log_proba(logs), expected, atol=1e-9)


@pytest.mark.parametrize(
    "kind", [LinearInterpolation, LogLinearInterpolation, LogisticRegressionFusion]
)
def test_weights_of_other_systems_or_none_are_not_taken_over(kind):
    logs, y = systems(3)
    learnt = kind().fit(logs, y).learnt()
    with pytest.raises(ValueError, match="expected"):
        kind.from_learnt([learnt], n_systems=2)
    with pytest.raises(ValueError, match="there is no fit"):
        kind.from_learnt([], n_systems=3)


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="objective is 'f1'; expected macro_f1, uar or nll"):
        LinearInterpolation(objective="f1").fit(*systems())


def test_fusions_can_be_cloned():
    assert clone(LinearInterpolation(step=0.1)).get_params() == {
        "step": 0.1,
        "objective": "macro_f1",
    }
    assert clone(LogisticRegressionFusion(C=0.5)).C == 0.5
