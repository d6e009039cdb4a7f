"""serflow: speech emotion recognition experiments, from corpora to final metric tables."""
