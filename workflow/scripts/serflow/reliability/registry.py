"""All metrics of posteriors, by name."""

from __future__ import annotations

from serflow.reliability.calibration_errors import CLASSWISE_ECE, ECE, ECE_MASS
from serflow.reliability.costs import NORMALISED_COST
from serflow.reliability.metric import ReliabilityMetric
from serflow.reliability.scores import BRIER, NLL

RELIABILITY: dict[str, ReliabilityMetric] = {
    metric.name: metric for metric in (NLL, BRIER, ECE, ECE_MASS, CLASSWISE_ECE, NORMALISED_COST)
}
