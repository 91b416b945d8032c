"""Rules: pure functions from evidence to findings, one cause each."""
