r"""How far posteriors can be relied on: proper scores, calibration errors and expected cost.

Every metric is a function of sums over utterances, so its interval comes from the sums of resamples.
`RELIABILITY` has them all with their definitions.

References
----------
T. Gneiting and A. Raftery, "Strictly proper scoring rules, prediction, and estimation", Journal of
the American Statistical Association 102, 2007.
"""

from __future__ import annotations

from serflow.reliability.calibration_errors import reliability_curve
from serflow.reliability.costs import expected_cost
from serflow.reliability.interval import reliability_interval
from serflow.reliability.metric import ReliabilityMetric
from serflow.reliability.registry import RELIABILITY

__all__ = [
    "RELIABILITY",
    "ReliabilityMetric",
    "expected_cost",
    "reliability_curve",
    "reliability_interval",
]
