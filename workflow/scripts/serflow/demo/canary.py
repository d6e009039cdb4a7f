"""A tiny Canary that really transcribes: NVIDIA's architecture and prompts, a `.nemo` file of 2 MB.

Same class, prompt format and tokenizers as nvidia/canary-1b (an aggregate of special tokens and one
SentencePiece model per language), trained in seconds on given speech. What it hears is a closed
vocabulary; it stands in for the hub model where nothing can be downloaded.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serflow.asr import nemo  # noqa: I001  (quiet before NeMo is imported)
import sentencepiece
import soxr
import torch
from nemo.collections.asr.models import EncDecMultiTaskModel
from omegaconf import DictConfig, OmegaConf
from torch.nn.utils.rnn import pad_sequence
