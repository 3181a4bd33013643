"""The keys of the window, and text and legend over a scene.

Only open3d's plain visualizer keeps class colours exact, but it writes no text. So a picture of the
text becomes flat rectangles that move with the camera.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rangeseg.drawing.colours import EMPTY, Legend
from rangeseg.drawing.sheets import PAPER, legend_image, text_image
from rangeseg.viewer.canvas import Canvas
from rangeseg.viewer.modes import MODES

HELP = (
    ("n, b", "next, previous scan; hold to run"),
    ("PgDn, PgUp", "10 scans on, back"),
    ("Home, End", "first, last scan"),
    ("1, 2, 3", "truth, prediction, error"),
    ("4, 5, 6, 7", "intensity, range, confidence, pseudo-label coverage"),
    ("8, 9", "propagated labels; their errors in the colour of the true class"),
    ("s", "truth beside prediction or propagated labels"),
    ("i", "hide or show ignored points"),
    ("l", "legend"),
    ("p", "picture into this folder"),
    ("r", "camera as at the start"),
    ("+, -", "larger, smaller points"),
    ("mouse", "drag to turn, with Ctrl to move, wheel to zoom"),
    ("h, q", "this help, quit"),
)
KEYS: dict[str | int, str] = {
    "N": "next", "B": "previous", "S": "side", "I": "ignored", "L": "legend", "P": "picture",
    "H": "help", "Q": "quit", "R": "reset", 266: "back", 267: "on", 268: "first", 269: "last",
    **{str(number + 1): mode for number, mode in enumerate(MODES)},
}  # fmt: skip
"""Key, as a GLFW number or a letter -> its action."""

DISTANCE_M = 1.0
FONT, LEGEND_WIDTH, MARGIN = 15, 190, 8


def overlay(lines: list[str], legend: Legend) -> np.ndarray:
    """Draw lines above a legend, each on a background of its width; EMPTY elsewhere.

    Returns:
        (H,W,3) uint8.
    """
    parts = [text_image(lines, FONT)]
    if legend:
        parts.append(legend_image(legend, LEGEND_WIDTH, FONT))
    width = max(part.shape[1] for part in parts) + 2 * MARGIN
    framed = []
    for part in parts:
        frame = np.tile(EMPTY, (len(part) + MARGIN, width, 1))
        frame[:, : part.shape[1] + 2 * MARGIN] = PAPER
        frame[MARGIN // 2 : MARGIN // 2 + len(part), MARGIN : MARGIN + part.shape[1]] = part
        framed.append(frame)
    return np.concatenate(framed)


class Hud:
    """A picture in the upper left corner of a canvas.

    Args:
        open3d: the module.
        canvas: a canvas with a scan.
    """

    def __init__(self, open3d: Any, canvas: Canvas) -> None:
        self._o3d, self._canvas = open3d, canvas
        self._mesh = open3d.geometry.TriangleMesh()
        self._corners = np.empty((0, 3))
        self._added = False
        self._last: tuple[Any, ...] | None = None

    def show(self, image: np.ndarray | None) -> None:
        """Show a picture (H,W,3) uint8 whose EMPTY pixels are transparent; None for nothing."""
        if self._added:
            self._canvas.visualizer.remove_geometry(self._mesh, reset_bounding_box=False)
            self._added = False
        self._last = None
        self._canvas.changed = True
        if image is None:
            return
        boxes, colours = _boxes(image)
        self._corners = boxes
        self._mesh = self._o3d.geometry.TriangleMesh()
        corner = 4 * np.arange(len(colours), dtype=np.int32)
        # Counter-clockwise for the camera: the other side of a triangle is not drawn.
        order = np.array([[0, 2, 1], [0, 3, 2]], dtype=np.int32)
        triangles = (corner[:, None, None] + order).reshape(-1, 3)
        self._mesh.triangles = self._o3d.utility.Vector3iVector(triangles)
        vertex_colours = np.repeat(colours / 255.0, 4, axis=0)
        self._mesh.vertex_colors = self._o3d.utility.Vector3dVector(vertex_colours)
        self._place()
        self._canvas.visualizer.add_geometry(self._mesh, reset_bounding_box=False)
        self._added = True

    def follow(self) -> None:
        """Move with the camera."""
        if self._added and self._place():
            self._canvas.visualizer.update_geometry(self._mesh)
            self._canvas.changed = True

    def _place(self) -> bool:
        """Put every corner on its ray; False if the camera has not moved."""
        view = self._canvas.view()
        matrix, extrinsic = view.intrinsic.intrinsic_matrix, view.extrinsic
        seen = (matrix.tobytes(), extrinsic.tobytes())
        if seen == self._last:
            return False
        self._last = seen
        in_camera = np.empty((len(self._corners), 3))
        in_camera[:, 0] = (self._corners[:, 0] - matrix[0, 2]) / matrix[0, 0] * DISTANCE_M
        in_camera[:, 1] = (self._corners[:, 1] - matrix[1, 2]) / matrix[1, 1] * DISTANCE_M
        in_camera[:, 2] = DISTANCE_M
        rotation, shift = extrinsic[:3, :3], extrinsic[:3, 3]
        in_world = (in_camera - shift) @ rotation  # the inverse of a rotation is its transpose
        self._mesh.vertices = self._o3d.utility.Vector3dVector(in_world)
        return True


def _boxes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn runs of one colour in a row into rectangles.

    Returns:
        Corners (4n,2) in pixels, and colours (n,3) uint8.
    """
    starts = np.ones(image.shape[:2], dtype=bool)
    # Channel by channel: five times as fast as any() over an axis of three.
    differ = image[:, 1:] != image[:, :-1]
    starts[:, 1:] = differ[..., 0] | differ[..., 1] | differ[..., 2]
    rows, left = np.nonzero(starts)
    ends = np.append(left[1:], 0)
    right = np.where(np.append(rows[1:], -1) == rows, ends, image.shape[1])
    colours = image[rows, left]
    kept = np.any(colours != EMPTY, axis=1)
    rows, left, right, colours = rows[kept], left[kept], right[kept], colours[kept]
    corners = np.stack([left, rows, right, rows, right, rows + 1, left, rows + 1], axis=1)
    return corners.reshape(-1, 2).astype(np.float64), colours
