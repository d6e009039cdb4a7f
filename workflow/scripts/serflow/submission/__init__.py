"""Files for challenges: answers in each one's own format, and the check that a file is in it."""
