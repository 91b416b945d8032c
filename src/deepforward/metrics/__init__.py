"""Scores of what models give."""
