"""What train, dev and test must not share: copies of a recording, and the audit of all overlaps."""
