"""Progress on a terminal is a bar; away from one it is few lines, and the end is said once."""

import fcntl
import os
import struct
import sys
import termios

import pytest

from rangeseg.system.progress import Progress


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("count", 3, "scan") as progress:
        for _ in range(3):
            progress.update()
        for _ in range(5):
            progress.update(0, note="still evaluating")
    assert capsys.readouterr().err.splitlines() == ["count: 0/3 scan", "count: 3/3 scan, 0 s"]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, 80 columns wide."""
    reader, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Progress("train", 8, "step", initial=4) as progress:
            progress.update(3, note="loss 1.5, wait 2 %")
            progress.update()
        stderr.flush()
        shown = b""
        while not shown.endswith(b"\n"):  # a terminal hands out what it has so far
            shown += os.read(reader, 10_000)
    os.close(reader)
    drawn = [line for line in shown.decode().replace("\n", "\r").split("\r") if line.strip()]
    assert drawn[0].startswith("train:  50%|")
    assert "8/8" in drawn[-1]
    assert drawn[-1].startswith("train: 100%|")
    assert "loss 1.5, wait 2 %" in drawn[-1]
    assert all(len(line) <= 80 for line in drawn)


def test_the_time_that_is_left_and_the_last_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a resume, what was done before says nothing of the pace."""
    now = 1000.0
    monkeypatch.setattr("rangeseg.system.progress.time.monotonic", lambda: now)
    with Progress("train", 10_000, "step", initial=4_000) as progress:
        for done, seconds, note in [(100, 20, "loss 2.0"), (900, 180, ""), (4999, 1000, "loss 1")]:
            now += seconds
            progress.update(done, note=note)
        now += 1
        progress.update()
    assert capsys.readouterr().err.splitlines() == [
        "train: 4000/10000 step",
        "train: 4100/10000 step, 20 s, about 20 min left  loss 2.0",
        "train: 5000/10000 step, 200 s, about 17 min left  loss 2.0",
        "train: 9999/10000 step, 1200 s, about 0 s left  loss 1",
        "train: 10000/10000 step, 1201 s  loss 1",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "50 s"), (3, "5 min"), (60, "1.6 h")],
)
def test_a_guess_is_coarse(
    seconds: float, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("rangeseg.system.progress.time.monotonic", lambda: now)
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("train", 100, "step") as progress:
        now = float(seconds)
        progress.update()
    assert f", about {said} left" in capsys.readouterr().err
