"""Runs compared: tables, plots, a page."""
