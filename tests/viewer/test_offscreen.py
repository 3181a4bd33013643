"""Pictures without a display: exact colours, and one line where open3d cannot draw."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.drawing.colours import EMPTY
from rangeseg.viewer.offscreen import OffscreenRenderer
from rangeseg.viewer.open3d_libraries import FaultyLibraries, explain, missing_libraries
from tests.viewer.conftest import broken_library

RNG = np.random.default_rng(0)


@pytest.fixture
def points() -> np.ndarray:
    return (RNG.normal(size=(20000, 3)) * [15, 15, 2]).astype(np.float32)


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("display", [None, ":4711"])
def test_colours_are_exactly_those_of_the_table(
    display: str | None, points: np.ndarray, no_display: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where DISPLAY names a display that is not there."""
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    classes = SemanticKitti.info.label_map.colours
    colours = classes[RNG.integers(0, len(classes), len(points))]
    with OffscreenRenderer(640, 360, 3.0, EMPTY) as renderer:
        picture = renderer.draw(points, colours)
    assert picture.shape == (360, 640, 3)
    assert picture.dtype == np.uint8
    shown = {tuple(c) for c in np.unique(picture.reshape(-1, 3), axis=0).tolist()}
    assert shown == {tuple(c) for c in [*classes.tolist(), EMPTY.tolist()]}


@pytest.mark.usefixtures("drawing")
def test_the_camera_stays_whatever_the_scan(points: np.ndarray, no_display: None) -> None:
    white = np.full((1, 3), 255, dtype=np.uint8)
    with OffscreenRenderer(320, 200, 3.0, EMPTY) as renderer:
        one = renderer.draw(np.array([[6.0, 0.0, -1.5]]), white)
        renderer.draw(points * 5, np.repeat(white, len(points), axis=0))
        again = renderer.draw(np.array([[6.0, 0.0, -1.5]]), white)
    np.testing.assert_array_equal(one, again)
    row, column = np.argwhere((one == 255).all(axis=2)).mean(axis=0)
    assert abs(row - 99.5) <= 2  # what it looks at is in the middle
    assert abs(column - 159.5) <= 2


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(
    ("variable", "value"),
    [("__EGL_VENDOR_LIBRARY_DIRS", "/nowhere"), ("LIBGL_DRIVERS_PATH", "/nowhere")],
)
def test_a_missing_driver_is_a_line(
    variable: str, value: str, points: np.ndarray, no_display: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with (
        OffscreenRenderer(64, 48, 2.0, EMPTY) as renderer,
        pytest.raises(FaultyLibraries, match=r"cannot draw here .*apt-get install .*libegl1"),
    ):
        renderer.draw(points, np.zeros((len(points), 3), dtype=np.uint8))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the names are those of Linux")
@pytest.mark.parametrize(
    ("library", "package"), [("libusb-1.0.so.0", "libusb-1.0-0"), ("libEGL.so.1", "libegl1")]
)
def test_a_missing_library_is_named_with_its_package(
    library: str, package: str, run: Path, tmp_path: Path
) -> None:
    """The whole command, as on a system that lacks the library."""
    out = tmp_path / "scan.png"
    words = [sys.executable, "-m", "rangeseg", "view", str(run), "--save", str(out)]
    done = subprocess.run(
        words, env=broken_library(tmp_path, library), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stdout == ""
    error = f"error: open3d needs {library}, which this system lacks: apt-get install -y "
    assert done.stderr.strip().startswith(error)
    assert done.stderr.strip().endswith(package)
    assert "\n" not in done.stderr.strip()
    assert not out.exists()


def test_what_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"libnosuch.so.9": "libnosuch9"}
    monkeypatch.setattr("rangeseg.viewer.open3d_libraries.PACKAGES", missing)
    if sys.platform == "linux":
        assert missing_libraries() == ["libnosuch.so.9"]
        assert explain("").endswith("apt-get install -y --no-install-recommends libnosuch9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert explain("") == "open3d is not installed, and draws the points: pip install open3d"


def test_the_child_needs_no_torch() -> None:
    code = (
        "import sys, rangeseg.viewer.offscreen\n"
        "sys.exit(str({'torch', 'numba', 'open3d', 'pydantic'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stderr.strip() == "", done.stderr
