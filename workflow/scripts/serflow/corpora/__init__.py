"""One module per corpus: from file names and annotations to utterance rows."""
