"""The rangeseg-data command."""
