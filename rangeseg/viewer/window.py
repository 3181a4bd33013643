"""The window: step through scans by keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rangeseg.drawing.colours import EMPTY, Legend
from rangeseg.drawing.sheets import save_picture
from rangeseg.errors import ConfigError, RangesegError
from rangeseg.system.prefetch import LoadAhead
from rangeseg.viewer.canvas import Canvas
from rangeseg.viewer.display import has_display
from rangeseg.viewer.modes import (
    MODES,
    check_mode,
    describe,
    mode_legend,
    point_colours,
    shown_mode,
    side_modes,
    visible_points,
)
from rangeseg.viewer.open3d_libraries import FaultyLibraries, explain
from rangeseg.viewer.overlay import HELP, KEYS, Hud, overlay
from rangeseg.viewer.save import scene_sheet
from rangeseg.viewer.scans import ScanView, ScanViews

FAR = 10
"""Scans that PgUp and PgDn skip."""

SIZE = (940, 720)
"""Width and height of a window; two fit on a screen."""

IDLE_SECONDS = 0.005


def show_window(
    views: ScanViews,
    mode: str,
    side_by_side: bool,
    hide_ignored: bool,
    point_size: float,
    say: Callable[[str], None],
) -> None:
    """Show scans until the user leaves.

    Args:
        views: the scans.
        mode: by what points are coloured at first.
        side_by_side: begin with truth and the initial mode.
        hide_ignored: begin without points of ignored classes.
        point_size: in pixels.
        say: takes a line for each scan, mode and action.

    Raises:
        ConfigError: there is no display.
        FaultyLibraries: open3d cannot draw.
        RangesegError: the first scan cannot be read.
    """
    if not has_display():
        raise ConfigError(
            "there is no display to open a window on: add --save scan.png or --video scans.gif, "
            "which need none"
        )
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise FaultyLibraries(explain(str(error))) from None
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        window = Window(open3d, views, mode, point_size, say)
        try:
            if side_by_side:
                window.do("side")
            if hide_ignored:
                window.do("ignored")
            window.run()
        finally:
            window.close()


class Window:
    """One or two canvases that show a scan, and the actions of keys.

    Args:
        open3d: the module.
        views: the scans.
        mode: by what points are coloured at first.
        point_size: in pixels.
        say: takes lines for the user.
        visible: False draws into memory, for tests.
    """

    def __init__(
        self,
        open3d: Any,
        views: ScanViews,
        mode: str,
        point_size: float,
        say: Callable[[str], None],
        visible: bool = True,
    ) -> None:
        self._o3d, self._views, self._say, self._visible = open3d, views, say, visible
        self.mode, self.number = mode, 0
        self.hide_ignored, self.legend, self.help = False, True, False
        self._point_size = point_size
        self._scans = LoadAhead(self._load, len(views.scan_ids))
        self.view = self._scans.get(0)
        self._canvases: list[_Pane] = []
        self._waiting: list[str] = []
        self._open = True
        self._add_canvas()
        self._refresh()

    def run(self) -> None:
        """Draw and answer keys until the user leaves."""
        while self._open:
            alive = [pane.canvas.visualizer.poll_events() for pane in self._canvases]
            if not all(alive):
                return
            waiting, self._waiting = self._waiting, []
            for action in waiting:
                self.do(action)
            self._link()
            for pane in self._canvases:
                pane.hud.follow()
                if pane.canvas.changed:
                    pane.canvas.visualizer.update_renderer()
                    pane.canvas.changed = False
            time.sleep(IDLE_SECONDS)

    def do(self, action: str) -> None:
        """Perform the action of a key; see KEYS."""
        try:
            if action in MODES:
                self.mode = check_mode(action, self._views)
                self._refresh()
            elif action in ("next", "previous", "on", "back", "first", "last"):
                self._go(action)
            elif action == "picture":
                self._save()
            elif action == "side":
                self._toggle_side()
            elif action == "quit":
                self._open = False
            elif action == "reset":
                for pane in self._canvases:
                    pane.canvas.look_from_start()
            else:
                self._toggle(action)
        except RangesegError as error:  # the window keeps its content
            self._say(f"{error}")

    def draw(self) -> list[np.ndarray]:
        """The picture (H,W,3) uint8 of each canvas, without text."""
        for pane in self._canvases:
            pane.hud.show(None)
        pictures = [pane.canvas.draw() for pane in self._canvases]
        self._write()
        return pictures

    def close(self) -> None:
        """Close the windows."""
        self._scans.close()
        for pane in self._canvases:
            pane.canvas.close()
        self._canvases = []

    def _load(self, number: int) -> ScanView:
        return self._views.read(self._views.scan_ids[number])

    def _modes(self) -> list[str]:
        """The mode of each canvas."""
        if len(self._canvases) < 2:
            return [self.mode]
        return side_modes(self.mode, self._views)

    def _go(self, action: str) -> None:
        last = len(self._views.scan_ids) - 1
        steps = {"next": 1, "previous": -1, "on": FAR, "back": -FAR}
        number = {"first": 0, "last": last}.get(action, self.number + steps.get(action, 0))
        number = min(max(number, 0), last)
        if number == self.number:
            self._say(f"{self._views.scan_ids[number]} is the {'last' if number else 'first'} scan")
            return
        step, onward = number - self.number, 1 if number > self.number else -1
        while 0 <= number <= last:
            try:
                self.view = self._scans.get(number, step)
            except RangesegError as error:  # continue past a damaged scan
                self._say(f"{error}")
                number += onward
                continue
            self.number = number
            self._refresh()
            return

    def _toggle(self, action: str) -> None:
        if action == "ignored":
            self.hide_ignored = not self.hide_ignored
            self._say(f"ignored points {'hidden' if self.hide_ignored else 'shown'}")
            self._refresh(quiet=True)
            return
        if action == "legend":
            self.legend = not self.legend
        if action == "help":
            self.help = not self.help
            if self.help:
                self._say("\n".join(f"{keys:12}{meaning}" for keys, meaning in HELP))
        self._write()

    def _toggle_side(self) -> None:
        side_modes(self.mode, self._views)  # there must be two
        if len(self._canvases) == 2:
            self._canvases.pop().canvas.close()
        else:
            self._add_canvas()
        self._refresh()

    def _add_canvas(self) -> None:
        title, left = f"rangeseg · {self._views.title}", len(self._canvases) * SIZE[0]
        try:
            canvas = Canvas(self._o3d, title, EMPTY, *SIZE, left, self._visible)
        except RuntimeError as error:
            raise FaultyLibraries(explain(str(error))) from None
        canvas.set_point_size(self._point_size)
        for key, action in KEYS.items():
            code = ord(key) if isinstance(key, str) else key
            canvas.visualizer.register_key_callback(code, self._key(action))
        self._canvases.append(_Pane(canvas, Hud(self._o3d, canvas)))

    def _key(self, action: str) -> Callable[[Any], bool]:
        def pressed(visualizer: Any) -> bool:
            # A held key repeats faster than a slow machine draws: keep no queue of steps.
            if action not in self._waiting:
                self._waiting.append(action)
            return False

        return pressed

    def _refresh(self, quiet: bool = False) -> None:
        """Show the scan in the current modes, and report it."""
        label_map = self._views.source.info.label_map
        visible = np.flatnonzero(visible_points(self.view, self.hide_ignored))
        points = self.view.scan.points[visible, :3]
        new = [pane for pane in self._canvases if not pane.canvas.has_cloud]
        for pane, mode in zip(self._canvases, self._modes(), strict=True):
            colours = point_colours(shown_mode(mode, self.view), self.view, label_map)
            pane.canvas.show(points, colours[visible])
        if new and len(self._canvases) == 2:
            new[0].canvas.follow(self._canvases[0].canvas)
        self._write()
        if not quiet:
            self._say(" | ".join(self._titles()))

    def _titles(self) -> list[str]:
        return [describe(mode, self.view) for mode in self._modes()]

    def _write(self) -> None:
        """Write scan, legend and help into each canvas."""
        for pane, mode, title in zip(self._canvases, self._modes(), self._titles(), strict=True):
            lines = [f"{self.number + 1}/{len(self._views.scan_ids)} · {title}"]
            legend: Legend = []
            if self.legend and not self.help:
                shown = shown_mode(mode, self.view)
                legend = mode_legend(shown, self.view, self._views.source.info.label_map)
            lines += ["\t".join(pair) for pair in HELP] if self.help else ["h: help"]
            pane.hud.show(overlay(lines, legend))

    def _link(self) -> None:
        """If one of two cameras has moved, move the other too."""
        if len(self._canvases) < 2:
            return
        for moved, other in (self._canvases, self._canvases[::-1]):
            if moved.canvas.has_moved():
                other.canvas.follow(moved.canvas)
                return

    def _save(self) -> None:
        name = f"{self.view.scan.scan_id.replace('/', '_')}_{self.mode}"
        path, number = Path(f"rangeseg_{name}.png"), 1
        while path.exists():
            number += 1
            path = Path(f"rangeseg_{name}_{number}.png")
        save_picture(path, scene_sheet(self.draw(), self._modes(), self.view, self._views))
        self._say(f"picture: {path}")


class _Pane(NamedTuple):
    """A canvas and the text in it."""

    canvas: Canvas
    hud: Hud
