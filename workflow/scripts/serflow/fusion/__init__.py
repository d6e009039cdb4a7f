"""Late fusion of the log-posteriors of several systems.

Interpolations, logistic regression and baselines that learn nothing, all scikit-learn estimators
over a stack of log-posteriors, shape (n_systems, n_utterances, n_classes) or a list of
(n_utterances, n_classes), natural logarithms, -inf allowed. `serflow.crossing` fits
and predicts where there is no dev set.
"""

from serflow.fusion.baselines import MajorityVote, MeanFusion
from serflow.fusion.interpolation import LinearInterpolation, LogLinearInterpolation
from serflow.fusion.regression import LogisticRegressionFusion
from serflow.fusion.simplex import TIE, simplex_grid
from serflow.fusion.stacks import Fusion, Stack

__all__ = [
    "TIE",
    "Fusion",
    "LinearInterpolation",
    "LogLinearInterpolation",
    "LogisticRegressionFusion",
    "MajorityVote",
    "MeanFusion",
    "Stack",
    "simplex_grid",
]
