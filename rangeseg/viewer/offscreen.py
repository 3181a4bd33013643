"""Draw point clouds without a display, with open3d in a separate process.

With faulty drivers or libraries open3d may print to stdout, hang, or end its process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Any

import numpy as np

from rangeseg.errors import RangesegError
from rangeseg.viewer.canvas import Canvas
from rangeseg.viewer.open3d_libraries import FaultyLibraries, explain

PATIENCE_SECONDS = 120.0
"""Timeout of one picture in seconds."""


class OffscreenRenderer:
    """Draws clouds in turn, all from the same camera.

    Args:
        width: width of the pictures in pixels.
        height: height of the pictures in pixels.
        point_size: size of points in pixels.
        background: (3,) uint8.
    """

    def __init__(self, width: int, height: int, point_size: float, background: np.ndarray) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this object)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rangeseg.viewer.offscreen"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._first: Any = (width, height, point_size, background)

    def draw(self, points: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """Draw a picture (H,W,3) uint8 of points (N,3) in metres with colours (N,3) uint8.

        Raises:
            RangesegError: nothing can be drawn; the message names what is missing.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        timer.start()
        try:
            if self._first is not None:
                pickle.dump(self._first, self._process.stdin)
                self._first = None
            pickle.dump((points[:, :3], colours), self._process.stdin)
            self._process.stdin.flush()
            answer = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._fault() from None
        finally:
            timer.cancel()
        if isinstance(answer, str):
            raise FaultyLibraries(answer)
        picture: np.ndarray = answer
        return picture

    def __enter__(self) -> OffscreenRenderer:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _fault(self) -> RangesegError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return FaultyLibraries(explain(f"its process ended with {code}; {' '.join(lines[-1:])}"))


def _serve() -> None:
    """The child: clouds from stdin, pictures to stdout, until stdin ends."""
    # Redirect open3d's messages from stdout to stderr.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(Exception):  # the first picture reports the fault
        import open3d  # noqa: F401 (while the first scan is read and predicted)
    width, height, point_size, background = pickle.load(sys.stdin.buffer)
    canvas: Canvas | None = None
    while True:
        try:
            points, colours = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any
        try:
            if canvas is None:
                canvas = Canvas(_import_open3d(), "rangeseg", background, width, height)
                canvas.set_point_size(point_size)
            canvas.show(points, colours)
            answer = canvas.draw()
        except (ImportError, OSError, RuntimeError) as error:
            answer = explain(str(error))
        pickle.dump(answer, answers)
        answers.flush()


def _import_open3d() -> Any:
    import open3d

    if tuple(map(int, open3d.__version__.split(".")[:2])) >= (0, 20):
        # It draws without a display only if none exists, and a display may lack OpenGL.
        os.environ.pop("DISPLAY", None)
        os.environ.pop("WAYLAND_DISPLAY", None)
    return open3d


if __name__ == "__main__":
    _serve()
