"""Draw a point cloud with open3d, in a window or into memory: unlit, in exact colours."""

from __future__ import annotations

from typing import Any

import numpy as np

FIELD_OF_VIEW_DEG = 60.0
EYE, TARGET = (-20.0, 0.0, 15.0), (6.0, 0.0, -1.5)
"""Position of the camera at the start, and the point in its middle: metres."""

STAGE = ((-50.0, -50.0, -5.0), (50.0, 50.0, 5.0))
"""Two corners of the largest scan; they set speed and limits of the camera."""


class Canvas:
    """One open3d Visualizer that shows one cloud.

    Args:
        open3d: the module; the caller imports it and reports a failure.
        title: title of the window.
        background: (3,) uint8.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        left: horizontal position of the window.
        visible: False draws into memory, without a display.

    Raises:
        RuntimeError: nothing can be drawn.
    """

    def __init__(
        self,
        open3d: Any,
        title: str,
        background: np.ndarray,
        width: int,
        height: int,
        left: int = 0,
        visible: bool = False,
    ) -> None:
        self._o3d, self.size = open3d, (width, height)
        self.visualizer = open3d.visualization.VisualizerWithKeyCallback()
        if not self.visualizer.create_window(title, width, height, left, 40, visible):
            raise RuntimeError("open3d could not create a window")
        options = self.visualizer.get_render_option()
        options.background_color = background / 255.0
        options.light_on = False
        self._cloud = open3d.geometry.PointCloud()
        self.has_cloud = False
        self.changed = True
        self._extrinsic = np.eye(4)

    def show(self, points: np.ndarray, colours: np.ndarray) -> None:
        """Replace the cloud; the camera stays.

        Args:
            points: (N,3) metres; N may be 0.
            colours: (N,3) uint8.
        """
        if not self.has_cloud:
            self._begin()
        vectors = self._o3d.utility.Vector3dVector
        self._cloud.points = vectors(np.ascontiguousarray(points, dtype=np.float64))
        self._cloud.colors = vectors(colours / 255.0)
        self.visualizer.update_geometry(self._cloud)
        self.changed = True

    def _begin(self) -> None:
        """Fix the limits that open3d would take from the first cloud, which may be small."""
        self._cloud.points = self._o3d.utility.Vector3dVector(np.array(STAGE))
        self.visualizer.add_geometry(self._cloud)
        self.has_cloud = True
        view = self.visualizer.get_view_control()
        view.set_constant_z_near(0.5)
        view.set_constant_z_far(1000.0)
        self.look_from_start()

    def look_from_start(self) -> None:
        """Put the camera at its start: behind the sensor and above."""
        width, height = self.size
        focal = height / 2 / np.tan(np.radians(FIELD_OF_VIEW_DEG) / 2)
        parameters = self._o3d.camera.PinholeCameraParameters()
        parameters.intrinsic = self._o3d.camera.PinholeCameraIntrinsic(
            width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5
        )
        parameters.extrinsic = _extrinsic(EYE, TARGET)
        self._set_view(parameters)

    def view(self) -> Any:
        """open3d's current parameters of the camera."""
        return self.visualizer.get_view_control().convert_to_pinhole_camera_parameters()

    def has_moved(self) -> bool:
        """Whether the user has moved the camera since the last ``follow`` or ``has_moved``."""
        extrinsic = self.view().extrinsic
        moved = not np.allclose(extrinsic, self._extrinsic, atol=1e-6)
        self._extrinsic = extrinsic
        return moved

    def follow(self, other: Canvas) -> None:
        """Take over the camera of another canvas."""
        parameters = self.view()
        parameters.extrinsic = other.view().extrinsic
        self._set_view(parameters)

    def _set_view(self, parameters: Any) -> None:
        control = self.visualizer.get_view_control()
        control.convert_from_pinhole_camera_parameters(parameters, allow_arbitrary=True)
        self._extrinsic = self.view().extrinsic
        self.changed = True

    def set_point_size(self, pixels: float) -> None:
        """Set the size of points."""
        self.visualizer.get_render_option().point_size = pixels

    def draw(self) -> np.ndarray:
        """The current picture (H,W,3) uint8."""
        pixels = np.asarray(self.visualizer.capture_screen_float_buffer(do_render=True))
        picture: np.ndarray = np.rint(pixels * 255).astype(np.uint8)
        return picture

    def close(self) -> None:
        """Close the window."""
        self.visualizer.destroy_window()


def _extrinsic(eye: tuple[float, float, float], target: tuple[float, float, float]) -> np.ndarray:
    """(4,4) world -> camera (x right, y down, z ahead)."""
    ahead = np.subtract(target, eye)
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
    matrix[:3, 3] = -matrix[:3, :3] @ np.array(eye)
    return matrix
