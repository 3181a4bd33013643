"""The geometry of a spinning LiDAR for the range image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from rangeseg.errors import ConfigError

RowRule = Literal["inclination", "scan_order", "ring", "file_order"]


@dataclass(frozen=True)
class Sensor:
    """The geometry of a spinning LiDAR and the size of its range image.

    Args:
        name: shown in messages and results.
        beams: number of lasers.
        height: rows of the range image.
        width: columns of the range image; column 0 is at the left edge of the view, and azimuth
            falls to the right.
        fov_up_deg: inclination of the upper edge of row 0, signed degrees.
        fov_down_deg: inclination of the lower edge of the last row, signed degrees.
        row_rule: source of a point's row.
            ``inclination`` takes its vertical angle (the literature's rule).
            ``scan_order`` begins a new row where the azimuth wraps: the file lists beam after beam
            (KITTI).
            ``ring`` takes the beam that the file gives for every point (nuScenes).
            ``file_order`` takes the place in the firing, and the firing as the column, so that no
            point hides another: the file lists whole firings, with lost echoes (nuScenes, Ouster).
        min_range: points nearer than this, in metres, are not projected (they still get a
            prediction).
        azimuth_left_deg: left edge of the view; 0 straight ahead (x), 90 on the left (y).
        azimuth_right_deg: right edge, below the left one. A turn of 360 degrees closes a circle; a
            rear view runs e.g. from 270 to 90.

    Raises:
        ConfigError: a size is below one, or a field of view is empty or more than a turn.
    """

    name: str
    beams: int
    height: int
    width: int
    fov_up_deg: float
    fov_down_deg: float
    row_rule: RowRule = "inclination"
    min_range: float = 0.0
    azimuth_left_deg: float = 180.0
    azimuth_right_deg: float = -180.0

    def __post_init__(self) -> None:
        if min(self.beams, self.height, self.width) < 1:
            raise ConfigError(
                f"sensor {self.name}: beams, height and width must be at least 1, "
                f"found {self.beams}, {self.height}, {self.width}"
            )
        if not -90.0 <= self.fov_down_deg < self.fov_up_deg <= 90.0:
            raise ConfigError(
                f"sensor {self.name}: the field of view must run upward within -90..90 degrees, "
                f"found fov_down_deg={self.fov_down_deg}, fov_up_deg={self.fov_up_deg}"
            )
        if not 0.0 < self.view_deg <= 360.0:
            raise ConfigError(
                f"sensor {self.name}: azimuth must fall from left to right by at most 360 degrees, "
                f"found azimuth_left_deg={self.azimuth_left_deg}, "
                f"azimuth_right_deg={self.azimuth_right_deg}"
            )
        if self.row_rule not in get_args(RowRule):
            raise ConfigError(
                f"sensor {self.name}: unknown row rule '{self.row_rule}'; "
                f"known: {', '.join(get_args(RowRule))}"
            )

    @property
    def view_deg(self) -> float:
        """The horizontal view in degrees."""
        return self.azimuth_left_deg - self.azimuth_right_deg

    @property
    def middle_deg(self) -> float:
        """The azimuth of the middle of the view."""
        return (self.azimuth_left_deg + self.azimuth_right_deg) / 2.0

    @property
    def full_turn(self) -> bool:
        """Whether the image closes a circle: first and last column are neighbours."""
        return self.view_deg == 360.0

    def resized(self, height: int, width: int, row_rule: RowRule | None = None) -> Sensor:
        """The same device with another image size (and row rule)."""
        return replace(self, height=height, width=width, row_rule=row_rule or self.row_rule)


HDL_64E = Sensor(
    name="HDL-64E", beams=64, height=64, width=2048,
    fov_up_deg=3.0, fov_down_deg=-25.0, row_rule="scan_order",
)  # fmt: skip
"""Velodyne HDL-64E as in KITTI; the field of view is the literature's (RangeNet++, Sec. III-A)."""

HDL_32E = Sensor(
    name="HDL-32E", beams=32, height=32, width=1920,
    fov_up_deg=10.67, fov_down_deg=-30.67, row_rule="ring", min_range=1.0,
)  # fmt: skip
"""Velodyne HDL-32E as in nuScenes: 32 beams 1.33° apart; echoes of the car itself within 1 m."""

SIMULATED_32 = Sensor(
    name="simulated-32", beams=32, height=32, width=512,
    fov_up_deg=2.2, fov_down_deg=-25.0, row_rule="scan_order",
)  # fmt: skip
"""The simulator's default: every second beam of an HDL-64E, listed beam by beam."""
