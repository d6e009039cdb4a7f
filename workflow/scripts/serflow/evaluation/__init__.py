"""Scores of posteriors, attributes and transcripts, and the differences of systems, as tidy rows."""
