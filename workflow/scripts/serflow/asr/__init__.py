"""Automatic speech recognition: from packed audio to one transcript row per utterance."""
