"""What counts as log-posteriors: natural logarithms whose probabilities sum to 1 in each row."""

from __future__ import annotations

import numpy as np

LOG_FLOOR = float(np.log(1e-10))  # where finite values are needed, lower ones are raised to it
SUM_TOLERANCE = 1e-6
