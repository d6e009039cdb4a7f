"""Functionals: a few statistics of each contour."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from serflow.acoustics.frames import Array, regression_slope

Features = dict[str, float]

MIN_FRAMES = 4  # shorter selections are repeated up to this length


def contour_functionals(table: Array) -> dict[str, Array]:
    """Functionals of contours held as columns, in the unit of each contour.

    Mean, standard deviation, skewness and kurtosis (no unit), regression
    ``slope`` (per half utterance), percentiles, ``iqr`` (25 to 75) and
    ``range`` (5 to 95), mean ``rise`` and ``fall`` per frame, and the share of
    frames that are ``rising``.
    """
    table = _at_least_min_frames(table)
    mean, std = table.mean(axis=0), table.std(axis=0)
    score = (table - mean) / (std + 1e-3)
    low, lower, median, upper, high = np.percentile(table, (5, 25, 50, 75, 95), axis=0)
    step = np.diff(table, axis=0)
    return {
        "mean": mean,
        "std": std,
        "skew": (score**3).mean(axis=0),
        "kurt": (score**4).mean(axis=0),
        "slope": regression_slope(np.linspace(-1, 1, len(table), dtype=np.float32), table),
        "p5": low,
        "p25": lower,
        "p50": median,
        "p75": upper,
        "p95": high,
        "iqr": upper - lower,
        "range": high - low,
        "rise": np.maximum(step, 0).sum(axis=0) / ((step > 0).sum(axis=0) + 1),
        "fall": np.minimum(step, 0).sum(axis=0) / ((step < 0).sum(axis=0) + 1),
        "rising": (step > 0).mean(axis=0),
    }


def slope_functionals(table: Array) -> dict[str, Array]:
    """Functionals of contour slopes held as columns, in contour units per frame."""
    table = _at_least_min_frames(table)
    low, high = np.percentile(table, (5, 95), axis=0)
    return {"std": table.std(axis=0), "size": np.abs(table).mean(axis=0), "p5": low, "p95": high}


def named(names: Iterable[str], functionals: dict[str, Array], prefix: str = "") -> Features:
    """One value a contour and functional, as `<prefix><contour>_<functional>`."""
    return {
        f"{prefix}{name}_{functional}": float(value)
        for functional, values in functionals.items()
        for name, value in zip(names, values, strict=True)
    }


def local_slope(table: Array) -> Array:
    """Local regression slope of each column over five frames, per frame."""
    padded = np.pad(table, ((2, 2), (0, 0)), mode="edge")
    return (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10


def _at_least_min_frames(table: Array) -> Array:
    if len(table) >= MIN_FRAMES:
        return table
    return np.resize(table, (MIN_FRAMES, table.shape[1]))  # zeros if it is empty
