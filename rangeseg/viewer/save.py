"""Write pictures of scans without a window: PNGs, GIFs, strips of range images."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from rangeseg.drawing.colours import EMPTY, Legend
from rangeseg.drawing.sheets import Panel, save_picture, save_video, sheet
from rangeseg.drawing.strips import range_panels
from rangeseg.system.progress import Progress
from rangeseg.viewer.modes import (
    describe,
    judgement,
    mode_legend,
    point_colours,
    propagated_shares,
    shown_mode,
    side_modes,
    sources_text,
    visible_points,
)
from rangeseg.viewer.offscreen import OffscreenRenderer
from rangeseg.viewer.scans import ScanView, ScanViews

SIZE, PANE = (1280, 720), (800, 620)
"""Width and height of one picture, and of each of two side by side."""

FRAME_MILLISECONDS = 200


def save_scans(
    views: ScanViews,
    out: Path,
    mode: str,
    side_by_side: bool,
    panel: bool,
    hide_ignored: bool,
    point_size: float,
) -> list[Path]:
    """Write a picture of each scan.

    Args:
        views: the scans.
        out: a PNG of the first scan, a GIF of all, or a folder with a PNG for each.
        mode: mode of the colours.
        side_by_side: show truth next to the mode, or next to the initial mode.
        panel: draw strips of range images instead of points.
        hide_ignored: leave out points whose true class is ignored.
        point_size: size of points in pixels.

    Returns:
        The files.

    Raises:
        ConfigError: a file cannot be written.
        RangesegError: nothing can be drawn, or a scan cannot be read.
    """
    suffix = out.suffix.lower()
    ids = views.scan_ids[:1] if suffix == ".png" else views.scan_ids
    modes = side_modes(mode, views) if side_by_side else [mode]
    draw = (
        _strips(views, ids)
        if panel
        else _scenes(views, ids, modes, hide_ignored, point_size, suffix == ".gif")
    )
    if suffix == ".png":
        save_picture(out, next(draw))
        draw.close()
        return [out]
    written: list[Path] = []
    frames: list[np.ndarray] = []
    with Progress(f"draw {out}", len(ids), "scan") as progress:
        for scan_id, picture in zip(ids, draw, strict=True):
            if suffix == ".gif":
                frames.append(picture)
            else:
                written.append(out / f"{scan_id.replace('/', '_')}.png")
                save_picture(written[-1], picture)
            progress.update()
    if suffix == ".gif":
        save_video(out, frames, FRAME_MILLISECONDS)
        return [out]
    return written


def scene_sheet(
    pictures: Sequence[np.ndarray],
    modes: Sequence[str],
    view: ScanView,
    views: ScanViews,
    all_classes: bool = False,
) -> np.ndarray:
    """Combine one or two pictures of points with title and legend.

    Args:
        pictures: (H,W,3) uint8 each.
        modes: mode of each picture.
        view: the scan.
        views: all scans.
        all_classes: also explain absent classes, so that all sheets have one size.

    Returns:
        (H,W,3) uint8.
    """
    titles = [describe(mode, view) for mode in modes]
    if len(modes) == 1:
        title, panels = f"{views.title} · {titles[0]}", [Panel("", pictures[0])]
    else:
        title = f"{views.title} · {view.scan.scan_id}"
        panels = [Panel(*each) for each in zip(titles, pictures, strict=True)]
    label_map = views.source.info.label_map
    entries: dict[str, np.ndarray] = {}
    for mode in modes:
        entries |= dict(mode_legend(shown_mode(mode, view), view, label_map, all_classes))
    return sheet(title, panels, _classes_first(entries, label_map.names), len(panels))


def _classes_first(entries: dict[str, np.ndarray], names: Sequence[str]) -> Legend:
    order = {name: number for number, name in enumerate(names)}
    return sorted(entries.items(), key=lambda entry: order.get(entry[0], len(order)))


def _scenes(
    views: ScanViews,
    ids: Sequence[str],
    modes: Sequence[str],
    hide_ignored: bool,
    point_size: float,
    all_classes: bool,
) -> Generator[np.ndarray, None, None]:
    """Yield a sheet with the points of each scan."""
    label_map = views.source.info.label_map
    size = SIZE if len(modes) == 1 else PANE
    with OffscreenRenderer(*size, point_size, EMPTY) as renderer:
        for scan_id in ids:
            view = views.read(scan_id)
            visible = visible_points(view, hide_ignored)
            points, drawn = view.scan.points[visible], []
            for mode in modes:
                colours = point_colours(shown_mode(mode, view), view, label_map)
                drawn.append(renderer.draw(points, colours[visible]))
            yield scene_sheet(drawn, modes, view, views, all_classes)


def _strips(views: ScanViews, ids: Sequence[str]) -> Generator[np.ndarray, None, None]:
    for scan_id in ids:
        yield strips(views.read(scan_id), views)


def strips(view: ScanView, views: ScanViews) -> np.ndarray:
    """Draw all data of a scan as range images below each other.

    Returns:
        (H,W,3) uint8.
    """
    projection, rows = views.images.project(view.scan)
    *layers, height, width = projection.valid.shape
    size = f"{height}x{width}, rows by {rows.replace('_', ' ')}"
    if layers:
        size += f", {layers[0]} layers"
    predictions, propagated, title = {}, None, view.scan.scan_id
    if view.propagated is not None:
        propagated = f"propagated ({propagated_shares(view)})", view.propagated
        title += f", {sources_text(view, longest=60)}"
    if view.prediction is not None:
        known = "" if view.miou is None else f" ({judgement(view)})"
        predictions[f"prediction{known}"] = view.prediction
    return range_panels(
        f"{views.title} · {title} · {size}",
        view.scan,
        projection,
        views.source.info.label_map,
        predictions,
        view.confidence,
        propagated,
    )
