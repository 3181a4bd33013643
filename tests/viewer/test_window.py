"""The window: its keys without a display, and a real one under Xvfb with real key presses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageGrab

from rangeseg.errors import ConfigError, DataError
from rangeseg.viewer.modes import MODES, PROPAGATED_MODES
from rangeseg.viewer.scans import ScanView, ScanViews, open_views
from rangeseg.viewer.window import KEYS, SIZE, Window, show_window
from tests.viewer.conftest import broken_library

CPU = torch.device("cpu")
OF_A_RUN = [mode for mode in MODES if mode not in PROPAGATED_MODES]
"""What a run without propagated labels shows, by the keys 1 to 7."""


@pytest.fixture
def views(run: Path) -> ScanViews:
    return open_views(run, [], None, "test", 0.2, CPU)


@pytest.fixture
def said() -> list[str]:
    return []


Open = Callable[[ScanViews], Window]


@pytest.fixture
def opened(
    said: list[str], drawing: None, no_display: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Open]:  # fmt: skip
    """Opens windows that draw into memory, and closes them."""
    import open3d

    monkeypatch.chdir(tmp_path)
    windows: list[Window] = []

    def open_window(views: ScanViews) -> Window:
        windows.append(Window(open3d, views, "truth", 3.0, said.append, visible=False))
        return windows[-1]

    yield open_window
    for window in windows:
        window.close()


@pytest.fixture
def window(views: ScanViews, opened: Open) -> Window:
    return opened(views)


def test_every_mode_looks_different(window: Window, said: list[str]) -> None:
    pictures = []
    for mode in OF_A_RUN:
        window.do(mode)
        assert said[-1].startswith(f"11/000000 · {mode} · mIoU ")
        pictures.append(window.draw()[0].tobytes())
    assert len(set(pictures)) == len(OF_A_RUN)


def test_propagated_labels_beside_the_truth(
    opened: Open, said: list[str], propagated: Path
) -> None:
    window = opened(open_views(propagated, [], None, None, 0.9, CPU))
    truth = window.draw()[0]
    pictures = [truth]
    for key in "89":
        window.do(KEYS[key])
        assert f" · {KEYS[key]} · labels from " in said[-1]
        pictures.append(window.draw()[0])
    assert len({picture.tobytes() for picture in pictures}) == 3
    window.do("truth")
    window.do("side")
    left, right = window.draw()
    np.testing.assert_array_equal(left, truth)
    np.testing.assert_array_equal(right, pictures[1])


def test_scans_one_after_the_other_and_back(window: Window, said: list[str]) -> None:
    first = window.draw()[0]
    names = []
    for action in ("next", "last", "next", "previous", "first", "on", "back"):
        window.do(action)
        names.append(said[-1].split(" · ")[0])
    assert names == [
        "11/000001", "12/000001", "12/000001 is the last scan", "12/000000", "11/000000",
        "12/000001", "11/000000",
    ]  # fmt: skip
    np.testing.assert_array_equal(window.draw()[0], first)


def test_the_camera_stays_between_scans_and_modes(window: Window) -> None:
    start = window.draw()[0]
    (pane,) = window._canvases
    control = pane.canvas.visualizer.get_view_control()
    control.rotate(300.0, 50.0)
    control.set_zoom(0.3)
    turned = pane.canvas.view().extrinsic
    for action in ("next", "range", "ignored", "legend", "help", "previous", "truth", "ignored"):
        window.do(action)
    np.testing.assert_allclose(pane.canvas.view().extrinsic, turned, atol=1e-6)
    assert not np.array_equal(window.draw()[0], start)
    window.do("reset")
    np.testing.assert_array_equal(window.draw()[0], start)


def test_ignored_points_come_and_go(window: Window) -> None:
    before = window.draw()[0]
    window.do("ignored")
    hidden = window.draw()[0]
    assert not np.array_equal(before, hidden)
    window.do("ignored")
    np.testing.assert_array_equal(window.draw()[0], before)


def test_a_picture_has_the_points_and_a_legend_and_never_replaces_another(
    window: Window, said: list[str], tmp_path: Path
) -> None:
    window.do("picture")
    window.do("picture")
    paths = sorted(tmp_path.glob("*.png"))
    names = ["rangeseg_11_000000_truth.png", "rangeseg_11_000000_truth_2.png"]
    assert [path.name for path in paths] == names
    assert said[-1] == f"picture: {names[1]}"
    with Image.open(paths[0]) as picture:
        pixels = np.asarray(picture)
    drawn = window.draw()[0]
    assert pixels.shape[0] > drawn.shape[0] + 50
    assert (pixels == (255, 0, 255)).all(axis=2).sum() > (drawn == (255, 0, 255)).all(axis=2).sum()


def test_what_has_no_predictions_says_so_and_stays(
    opened: Open, said: list[str], small_config: list[str]
) -> None:
    config, *settings = small_config
    window = opened(open_views(Path(config), settings[1::2], None, "test", 0.9, CPU))
    for action in ("error", "side"):
        window.do(action)
        assert "needs predictions" in said[-1]
    assert window.mode == "truth"


def test_a_damaged_scan_is_a_line_and_the_window_stays(
    views: ScanViews, opened: Open, said: list[str]
) -> None:
    def read(scan_id: str) -> ScanView:
        if scan_id == views.scan_ids[1]:
            raise DataError("000001.bin is cut short")
        return views.read(scan_id)

    window = opened(replace(views, read=read))
    for action, number in (("next", 2), ("previous", 0)):
        window.do(action)
        assert said[-2] == "000001.bin is cut short"
        assert window.number == number


def test_a_step_does_not_wait_for_the_scan(views: ScanViews, opened: Open) -> None:
    """Reading the next scan takes 0.2 s here, and is done by the time of the step."""
    read_ids = []

    def read(scan_id: str) -> ScanView:
        if scan_id == views.scan_ids[1]:
            time.sleep(0.2)
        view = views.read(scan_id)
        read_ids.append(scan_id)
        return view

    window = opened(replace(views, read=read))
    wait_until(lambda: views.scan_ids[1] in read_ids, "the second scan")
    window.do("next")
    assert window.number == 1
    assert read_ids.count(views.scan_ids[1]) == 1


def test_without_a_display_there_is_a_line(
    views: ScanViews, no_display: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for display in (None, ":4711"):
        if display is not None:
            monkeypatch.setenv("DISPLAY", display)
        with pytest.raises(ConfigError, match=r"there is no display .* add --save"):
            show_window(views, "truth", False, False, 2.0, print)


class Screen:
    """A display of its own, and keys that are pressed on it."""

    def __init__(self, *options: str) -> None:
        number = next(n for n in range(90, 200) if not Path(f"/tmp/.X11-unix/X{n}").exists())
        self.name = f":{number}"
        self.environment = {**os.environ, "DISPLAY": self.name}
        # Without -noreset the server starts anew whenever the last client has left, as each xdotool
        # does, and refuses who comes just then.
        words = ["Xvfb", self.name, "-screen", "0", "1920x800x24", "-nolisten", "tcp", "-noreset"]
        self.server = subprocess.Popen([*words, *options], stderr=subprocess.DEVNULL)
        wait_until(lambda: Path(f"/tmp/.X11-unix/X{number}").exists(), "Xvfb")

    def tool(self, *words: str) -> str:
        done = subprocess.run(
            ["xdotool", *words], env=self.environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def windows(self) -> list[str]:
        return self.tool("search", "--onlyvisible", "--name", "^rangeseg · ").splitlines()

    def shot(self) -> np.ndarray:
        return np.asarray(ImageGrab.grab(xdisplay=self.name))


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


@pytest.fixture
def screen(drawing: None, request: pytest.FixtureRequest) -> Iterator[Screen]:
    missing = [tool for tool in ("Xvfb", "xdotool") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}: apt-get install -y xvfb xdotool")
    screen = Screen(*getattr(request, "param", ()))
    yield screen
    screen.server.terminate()
    screen.server.wait()


@pytest.mark.slow
@pytest.mark.display
def test_a_real_window_with_real_keys(run: Path, screen: Screen, tmp_path: Path) -> None:
    """Opened as a user does; every key is pressed, and the screen is looked at after each."""
    words = [sys.executable, "-m", "rangeseg", "view", str(run), "--split", "test"]
    words += ["--point-size", "4", "--min-confidence", "0.2", "--hide-ignored"]
    said = tmp_path / "said.txt"
    with said.open("w") as stdout:
        viewer = subprocess.Popen(words, env=screen.environment, cwd=tmp_path, stdout=stdout)
    try:
        wait_until(screen.windows, "the window")
        (window,) = screen.windows()
        assert screen.tool("getwindowname", window) == f"rangeseg · {run}"
        screen.tool("windowfocus", "--sync", window)
        shots: dict[str, np.ndarray] = {}

        def settled(name: str) -> None:
            """The picture once it no longer changes."""
            shots[name] = screen.shot()

            def still() -> bool:
                before, shots[name] = shots[name], screen.shot()
                return np.array_equal(before, shots[name])

            time.sleep(0.3)
            wait_until(still, f"a still picture after {name}")

        def press(key: str, line: str) -> None:
            before = len(said.read_text())
            screen.tool("key", key)
            wait_until(lambda: line in said.read_text()[before:], f"{line} after {key}")
            settled(key)

        wait_until(lambda: "11/000000 · prediction · mIoU " in said.read_text(), "the first scan")
        settled("start")
        press("n", "11/000001 · prediction")
        press("b", "11/000000 · prediction")
        for number, mode in enumerate(OF_A_RUN, 1):
            press(str(number), f"11/000000 · {mode}")
        for key, place in (("Next", 3), ("Prior", 0), ("End", 3), ("Home", 0)):
            press(key, ("11/000000", "12/000001")[place // 3])
        screen.tool("keydown", "n")  # held
        wait_until(lambda: "is the last scan" in said.read_text(), "the last scan, n held")
        screen.tool("keyup", "n")
        press("Home", "11/000000")
        for key in ("i", "l", "h"):
            before = screen.shot()
            screen.tool("key", key)
            wait_until(lambda b=before: not np.array_equal(b, screen.shot()), f"a change by {key}")
            settled(key)
        screen.tool("key", "h", "l", "1")
        press("s", "· prediction")
        assert len(screen.windows()) == 2
        left, right = shots["s"][:, : SIZE[0]], shots["s"][:, SIZE[0] : 2 * SIZE[0]]
        assert not np.array_equal(left, right)

        # Turning one camera turns the other.
        screen.tool("mousemove", "400", "400", "mousedown", "1")
        for x in range(420, 620, 20):
            screen.tool("mousemove", str(x), "420")
        screen.tool("mouseup", "1")
        for side in (slice(0, SIZE[0]), slice(SIZE[0], 2 * SIZE[0])):
            was = shots["s"][:, side]
            wait_until(lambda s=side, w=was: not np.array_equal(screen.shot()[:, s], w), "a turn")
        screen.tool("key", "r")
        wait_until(lambda: np.array_equal(screen.shot(), shots["s"]), "the first look after r")

        screen.tool("key", "p")
        picture = tmp_path / "rangeseg_11_000000_truth.png"
        wait_until(picture.is_file, "the picture")
        screen.tool("key", "q")
        assert viewer.wait(timeout=60) == 0
    finally:
        viewer.kill()
        viewer.wait()
    lines = said.read_text()
    np.testing.assert_array_equal(shots["b"], shots["start"])
    modes = [shots[str(number)].tobytes() for number in range(1, 8)]
    assert len(set(modes)) == 7
    np.testing.assert_array_equal(shots["2"], shots["start"])
    assert not np.array_equal(shots["n"], shots["start"])
    for mode in OF_A_RUN:
        assert f"11/000000 · {mode} · mIoU " in lines
    assert f"picture: {picture.name}" in lines
    assert lines.index("ignored points hidden") < lines.index("ignored points shown")


@pytest.mark.slow
@pytest.mark.display
@pytest.mark.parametrize(
    ("screen", "missing", "message"),
    [
        ((), "libusb-1.0.so.0", "open3d needs libusb-1.0.so.0, which this system lacks: apt-get "),
        (("-extension", "GLX"), None, "open3d cannot draw here (open3d could not create a window)"),
    ],
    ids=["no libusb", "no OpenGL"],
    indirect=["screen"],
)
def test_a_screen_that_cannot_be_drawn_on_is_a_line(
    screen: Screen, missing: str | None, message: str, small_config: list[str], tmp_path: Path
) -> None:
    environment = screen.environment
    if missing is not None:
        environment = {**broken_library(tmp_path, missing), "DISPLAY": screen.name}
    words = [sys.executable, "-m", "rangeseg", "view", *small_config]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]  # the window system may say something before
    assert last.startswith(f"error: {message}")
    assert "apt-get install -y" in last


def test_every_key_does_something() -> None:
    assert set(MODES) < set(KEYS.values())
    assert len(set(KEYS.values())) == len(KEYS)
