"""NeMo without its console noise and its guesses about the cluster."""

from __future__ import annotations

import logging
import os
import warnings

# NeMo reads these as the rank in a distributed run; a job of ours is never one.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "SLURM_PROCID")
TALKATIVE = (
    "nv_one_logger",
    "nv_one_logger.api.config",
    "nv_one_logger.training_telemetry.api.training_telemetry_provider",
    "hydra.utils",
)


def quiet_nemo() -> None:
    """To be called before NeMo's collections are imported; only its errors are printed then."""
    for name in RANKS:
        os.environ.pop(name, None)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"nemo|lightning|pydub|torch|megatron")
    import nemo.utils

    nemo.utils.logging.set_verbosity(logging.ERROR)
    logger = logging.getLogger("nemo_logger")
    for handler in list(logger.handlers):
        if type(handler).__name__ == "MemoryHandler":  # would keep every record until the end
            logger.removeHandler(handler)
    # A filter, not a level: transcribe() sets the level back.
    logger.addFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
