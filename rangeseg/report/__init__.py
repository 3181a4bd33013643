"""Compare runs: tables, plots, a page."""
