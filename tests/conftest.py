"""Shared fixtures: where the real scans are, and a small simulated data set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_DATA = Path(
    os.environ.get("RANGESEG_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; use with ``@pytest.mark.real_data``."""
    if not (REAL_DATA / "SOURCES.txt").is_file():
        pytest.skip(f"no real scans at {REAL_DATA}: set RANGESEG_REAL_DATA to their folder")
    return REAL_DATA
