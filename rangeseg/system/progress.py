"""One progress bar per stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts the work of one stage on stderr.

    Args:
        description: name of the work.
        total: number of units.
        unit: name of a unit.
        initial: finished units of a resumed run.

    A terminal gets a tqdm bar. Others (a log file, CI) get a line at the start, one at the end, and
    at most one every ten seconds with the time left.
    """

    SECONDS_BETWEEN_LINES = 10.0

    def __init__(self, description: str, total: int, unit: str = "it", initial: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self._initial = initial
        self._note = ""
        if not sys.stderr.isatty():
            print(f"{description}: {initial}/{total} {unit}", file=sys.stderr, flush=True)
        self._started = self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total, initial=initial, desc=description, unit=unit, dynamic_ncols=True
            )

    def update(self, amount: int = 1, note: str = "") -> None:
        """Count ``amount`` more units; ``note`` follows the bar until the next one."""
        self.done += amount
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(amount)
        else:
            now = time.monotonic()
            completed = amount > 0 and self.done >= self.total
            if completed or now - self._last_line >= self.SECONDS_BETWEEN_LINES:
                self._last_line = now
                seconds = now - self._started
                tail = f"  {self._note}" if self._note else ""
                count = f"{self.done}/{self.total} {self.unit}"
                line = f"{self.description}: {count}, {seconds:.0f} s{self._left(seconds)}{tail}"
                print(line, file=sys.stderr, flush=True)

    def _left(self, seconds: float) -> str:
        """The remaining time at the current rate."""
        done, left = self.done - self._initial, self.total - self.done
        if done <= 0 or left <= 0:
            return ""
        return f", about {_duration(seconds / done * left)} left"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _duration(seconds: float) -> str:
    """Format a duration as a coarse estimate."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
