"""Verdicts on scans as pure functions of evidence, by topic."""
