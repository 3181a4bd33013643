"""A run's network as a file, written once."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def exported(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of ``trained_run``, for reading."""
    from rangeseg.cli import main

    out = tmp_path_factory.mktemp("exported") / "net.onnx"
    assert main(["export", str(trained_run), "--out", str(out)]) == 0
    return out
