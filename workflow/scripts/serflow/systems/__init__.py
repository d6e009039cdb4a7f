"""System families: what is trained, on what, and how it predicts."""
