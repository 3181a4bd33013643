"""Progress away from a terminal: few lines, and the end is said once."""

import pytest

from rangeseg.progress import Progress


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("count", 3, "scan") as progress:
        for _ in range(3):
            progress.update()
        for _ in range(5):
            progress.update(0, note="still evaluating")
    assert capsys.readouterr().err.splitlines() == ["count: 0/3 scan", "count: 3/3 scan, 0 s"]


def test_a_note_alone_waits_its_turn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("count", 3, "scan") as progress:
        progress.update(0, note="still there")
    assert capsys.readouterr().err.splitlines()[1] == "count: 0/3 scan, 0 s  still there"
