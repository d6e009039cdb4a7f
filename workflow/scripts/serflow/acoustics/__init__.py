"""Acoustic functionals of an utterance: frames, pitch, statistics."""
