"""Checks and measurements of data sets for ``rangeseg-data``."""
