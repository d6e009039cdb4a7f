"""Calibration of log-posteriors: temperature, vector and matrix scaling, isotonic regression.

scikit-learn style estimators over log-posteriors of shape (n_utterances, n_classes), natural
logarithms, -inf allowed. They are to be fitted on rows that the system was not trained on, dev rows
or out-of-fold ones, and applied to others. `METHODS` names them; `restore` brings one back from what
it learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serflow.calibration.interface import Calibration
from serflow.calibration.isotonic import IsotonicOneVsRest
from serflow.calibration.matrix import MatrixScaling
from serflow.calibration.scaling import TemperatureScaling, VectorScaling

__all__ = [
    "METHODS",
    "Calibration",
    "IsotonicOneVsRest",
    "MatrixScaling",
    "TemperatureScaling",
    "VectorScaling",
    "restore",
]

METHODS: dict[str, type[Calibration]] = {
    "temperature": TemperatureScaling,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "isotonic": IsotonicOneVsRest,
}


def restore(method: str, learnt: Mapping[str, Any]) -> Calibration:
    """A fitted calibration from what it learnt.

    Parameters
    ----------
    method : {"temperature", "vector", "matrix", "isotonic"}
    learnt : mapping
        What `learnt()` gave, also after a way through JSON.

    Returns
    -------
    calibration : Calibration
        Predicts what the original predicts, bit for bit. Settings that matter to `fit` alone have
        their defaults.

    Raises
    ------
    ValueError
        If there is no such method, or `learnt` is not what it learns.

    Examples
    --------
    >>> import numpy as np
    >>> dev = np.log([[0.8, 0.2], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    >>> fitted = TemperatureScaling().fit(dev, [0, 0, 1, 1])
    >>> again = restore("temperature", fitted.learnt())
    >>> bool((again.predict_log_proba(dev) == fitted.predict_log_proba(dev)).all())
    True
    """
    if method not in METHODS:
        raise ValueError(f"no calibration is called {method!r}; there are {', '.join(METHODS)}")
    return METHODS[method]().set_learnt(learnt)
