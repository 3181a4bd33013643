"""One progress bar per stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts the work of one stage on stderr.

    Args:
        description: what is being done.
        total: how many units there are.
        unit: what one unit is called.
        enabled: ``False`` for helpers whose parent shows the progress.

    A terminal gets a tqdm bar. Anything else (a log file, CI) gets a line at the start, at most
    one every ten seconds, and one at the end.
    """

    SECONDS_BETWEEN_LINES = 10.0

    def __init__(
        self, description: str, total: int, unit: str = "it", enabled: bool = True
    ) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done, self.note = 0, ""
        self._bar: tqdm | None = None
        self._lines = enabled and not sys.stderr.isatty()
        self._started = self._last_line = time.monotonic()
        if enabled and not self._lines:
            self._bar = tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True)

    def update(self, amount: int = 1, note: str = "") -> None:
        """Count ``amount`` more units; ``note`` stands behind the bar."""
        self.done += amount
        self.note = note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(amount)
        elif self._lines:
            now = time.monotonic()
            if self.done >= self.total or now - self._last_line >= self.SECONDS_BETWEEN_LINES:
                self._last_line = now
                seconds = now - self._started
                tail = f"  {note}" if note else ""
                print(
                    f"{self.description}: {self.done}/{self.total} {self.unit}, {seconds:.0f} s{tail}",
                    file=sys.stderr,
                    flush=True,
                )

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
