"""Measure a data set's scans: field of view, beams, intensity, channels, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.survey.directions import NEAR_M
from rangeseg.datasets.survey.evidence import own_axes
from rangeseg.datasets.survey.row_rules import Finding, RowRules, inclinations
from rangeseg.datasets.survey.turns import Turns
from rangeseg.errors import DataError
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import CHANNELS, make_range_image
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import RowRule, Sensor
from rangeseg.system.progress import Progress

PERCENTILES = (0.1, 1.0, 50.0, 99.0, 99.9)
"""Percentiles of inclinations; the outermost bound the field of view, without stray echoes."""

HIDDEN_M = 0.5
"""A point this far behind its pixel's owner is probably from another object."""

_OUTSIDE = 0.02  # accepted share of points outside a field of view
_BINS = 18000  # bins of inclinations: a hundredth of a degree each
_INTENSITY_SCALES = (1.0, 255.0, 4095.0, 65535.0)
_DIM = 0.05  # share of a scale: if nearly all intensities are below, it is wrong


@dataclass(frozen=True)
class ScanStatistics:
    """Statistics of scans before projection.

    Attributes:
        scans: number of scans read; ``labelled`` of them have labels.
        empty: points that are NaN or (0, 0, 0).
        near: other points nearer than NEAR_M.
        inclination_deg: inclinations at PERCENTILES, of points beyond NEAR_M.
        intensity: lowest, 99.9th percentile (the median over scans) and highest.
        findings: one per row rule, the best first.
        ring_rises: whether the ring counts from the lowest beam, where 0 should be the highest.
        view_deg: the horizontal field of view (left, right), see ``Sensor``.
        step_deg: azimuth step between neighbours of one beam; None if not found.
        columns: steps in the field of view: the image width.
        counts: (256,) points per train id, ignored ones at 255.
    """

    scans: int
    labelled: int
    points: int
    empty: int
    near: int
    inclination_deg: tuple[float, ...]
    intensity: tuple[float, float, float]
    findings: tuple[Finding, ...]
    ring_rises: bool
    view_deg: tuple[float, float]
    step_deg: float | None
    columns: int
    counts: np.ndarray

    @property
    def echoes(self) -> float:
        """Share of rays with a valid point; above 1 with several returns."""
        return (self.points - self.empty) / (self.scans * self.beams * self.columns)

    @property
    def best(self) -> Finding:
        """The allowed rule that loses the fewest points."""
        return next(finding for finding in self.findings if finding.beams is not None)

    @property
    def beams(self) -> int:
        """Number of beams, an estimate if based on inclinations only."""
        assert self.best.beams is not None
        return self.best.beams

    @property
    def field_of_view_deg(self) -> tuple[float, float]:
        """A field of view (down, up) with half a beam's spacing of margin."""
        down, up = self.inclination_deg[0], self.inclination_deg[-1]
        margin = 0.5 * (up - down) / max(self.beams - 1, 1)
        lowest, highest = np.floor(10 * (down - margin)) / 10, np.ceil(10 * (up + margin)) / 10
        return max(float(lowest), -90.0), min(float(highest), 90.0)

    @property
    def min_range(self) -> float:
        """NEAR_M if many points are nearer: echoes of the vehicle, which hide farther points."""
        return NEAR_M if self.near > _OUTSIDE * self.points else 0.0

    def intensity_max(self, current: float = 1.0) -> float:
        """The divisor that scales the files' intensities to 0..1; ``current`` is the one in use."""
        most, highest = current * self.intensity[1], current * self.intensity[2]
        scale = next((s for s in _INTENSITY_SCALES if highest <= s), highest)
        if 0 < most < _DIM * scale:  # a few outliers, or another unit
            digits = 1 - int(np.floor(np.log10(most)))
            scale = float(np.ceil(most * 10.0**digits) / 10.0**digits)
        return scale


@dataclass(frozen=True)
class Fill:
    """Fill of the image by one row rule.

    Attributes:
        filled: share of pixels that show a point.
        lost: share of projected points that do not own their pixel.
        hidden: share of projected points HIDDEN_M or more behind the owner.
    """

    filled: float
    lost: float
    hidden: float


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of range images.

    Attributes:
        fills: one per row rule.
        channels: channel -> (mean, standard deviation) over filled pixels, not normalised.
    """

    fills: Mapping[RowRule, Fill]
    channels: Mapping[str, tuple[float, float]]


def measure_scans(
    source: ScanSource, scan_ids: Sequence[str], beams: int | None = None
) -> ScanStatistics:
    """Read scans, with labels where present, and measure them.

    Args:
        source: the data set.
        scan_ids: scans to read.
        beams: known number of beams; None to estimate it.

    Raises:
        DataError: a scan cannot be read, or no point has a position.
    """
    rules = RowRules(beams)
    histogram = np.zeros(_BINS, dtype=np.int64)
    counts = np.zeros(IGNORE + 1, dtype=np.int64)
    sizes, labelled, empty, near = [], 0, 0, 0
    turns, layout = Turns(), getattr(source, "layout", Layout())
    intensities: list[np.ndarray] = []
    with Progress(f"measuring {source.info.name}", len(scan_ids), "scans") as progress:
        for scan_id in scan_ids:
            scan = source.read_scan(scan_id, with_labels=source.has_labels(scan_id))
            if scan.labels is not None:
                counts += np.bincount(scan.labels, minlength=IGNORE + 1)
                labelled += 1
            inclination, depth = inclinations(scan.points)
            far = depth >= NEAR_M
            histogram += np.histogram(inclination[far], _BINS, (-90, 90))[0]
            empty += int(np.count_nonzero(depth == 0))
            near += int(np.count_nonzero((depth > 0) & ~far))
            echo = scan.points[depth > 0, 3]
            if (echo := echo[np.isfinite(echo)]).size:
                intensities.append(np.percentile(echo, [0, 99.9, 100]))
            sizes.append(len(scan.points))
            rules.add(scan)
            turns.add(own_axes(scan.points[:, :3], layout))
            progress.update()
    if not histogram.any() or not intensities:
        raise DataError(
            f"no point of {len(scan_ids)} scans of {source.root} has a position (farther than "
            f"{NEAR_M:g} m) and an intensity: check the format of the files, columns first"
        )
    findings = tuple(rules.findings())
    most_likely = next(f.beams for f in findings if f.beams is not None)
    low, most, high = np.array(intensities).T
    step_deg = turns.step_deg
    points_of_beam = -(-max(sizes) // most_likely)
    return ScanStatistics(
        scans=len(scan_ids), labelled=labelled, points=sum(sizes), empty=empty, near=near,
        inclination_deg=_percentiles(histogram),
        intensity=(float(low.min()), float(np.median(most)), float(high.max())),
        findings=findings, ring_rises=rules.ring_rises,
        view_deg=turns.view_deg, step_deg=step_deg,
        columns=points_of_beam if step_deg is None else turns.columns(step_deg), counts=counts,
    )  # fmt: skip


def measure_images(
    source: ScanSource, scan_ids: Sequence[str], sensors: Sequence[Sensor]
) -> ImageStatistics:
    """Make range images of scans by several row rules, each with its own sensor.

    Channels are measured with the first of the sensors.

    Raises:
        DataError: a scan cannot be read, or no pixel is filled.
    """
    tallies = {sensor.row_rule: np.zeros(4) for sensor in sensors}
    sums = np.zeros((3, len(CHANNELS)))
    with Progress(f"projecting {source.info.name}", len(scan_ids), "scans") as progress:
        for scan_id in scan_ids:
            scan = source.read_scan(scan_id, with_labels=False)
            for number, sensor in enumerate(sensors):
                beams = beam_rows(scan.points, sensor, scan.ring)
                projection = project_points(scan.points, sensor, beams)
                tallies[sensor.row_rule] += _tally(projection)
                if number == 0:
                    image = make_range_image(scan.points, projection, CHANNELS, {})
                    pixels = image[:, projection.valid].astype(np.float64)
                    sums += [
                        np.full(len(CHANNELS), pixels.shape[1]),
                        pixels.sum(axis=1),
                        np.square(pixels).sum(axis=1),
                    ]
            progress.update()
    if not sums[0].any():
        raise DataError(
            f"no point of {len(scan_ids)} scans of {source.root} was projected: check min_range"
        )
    mean = sums[1] / sums[0]
    deviation = np.sqrt(np.maximum(sums[2] / sums[0] - np.square(mean), 0.0))
    return ImageStatistics(
        fills={
            rule: Fill(filled / pixels, 1.0 - filled / points, hidden / points)
            for rule, (filled, pixels, points, hidden) in tallies.items()
        },
        channels={
            channel: (float(m), float(d))
            for channel, m, d in zip(CHANNELS, mean, deviation, strict=True)
            if channel != "valid"
        },
    )


def measure_widths(
    source: ScanSource, scan_ids: Sequence[str], sensor: Sensor, widths: Sequence[int]
) -> dict[int, float]:
    """The share of projected points that share a pixel with a nearer one, at several widths.

    Raises:
        DataError: a scan cannot be read.
    """
    tallies = {width: np.zeros(4) for width in widths}
    with Progress(f"comparing widths of {source.info.name}", len(scan_ids), "scans") as progress:
        for scan_id in scan_ids:
            scan = source.read_scan(scan_id, with_labels=False)
            beams = beam_rows(scan.points, sensor, scan.ring)
            for width in widths:
                sized = sensor.resized(sensor.height, width)
                tallies[width] += _tally(project_points(scan.points, sized, beams))
            progress.update()
    return {
        width: float(1.0 - filled / max(points, 1.0))
        for width, (filled, _, points, _) in tallies.items()
    }


def field_of_view_warning(points: np.ndarray, sensor: Sensor) -> str | None:
    """Warn if many points of a scan lie outside the sensor's field of view.

    They crowd into the first and last column, or with rows by inclination into the first and last
    row. Rule ``ring`` is assumed to be available.

    Args:
        points: (N,4) float32 of one scan, in the order of the file.
        sensor: sensor of the projection.

    Returns:
        The text, with the measured field of view; None if all is well.
    """
    inclination, depth = inclinations(points)
    real = depth >= max(sensor.min_range, np.finfo(np.float32).tiny)
    if not real.any():
        return None
    azimuth = np.degrees(np.arctan2(points[real, 1], points[real, 0]))
    share = float(((sensor.azimuth_left_deg - azimuth) % 360.0 > sensor.view_deg).mean())
    if share > _OUTSIDE:
        return (
            f"{share:.1%} of a scan's points lie outside the view of sensor {sensor.name}, azimuth "
            f"{sensor.azimuth_left_deg:g} to {sensor.azimuth_right_deg:g} degrees: set "
            "azimuth_left_deg and azimuth_right_deg, which `rangeseg-data stats` measures"
        )
    if sensor.row_rule == "ring" or beam_rows(points, sensor) is not None:
        return None
    inclination = inclination[real]
    outside = (inclination < sensor.fov_down_deg) | (inclination > sensor.fov_up_deg)
    share = float(outside.mean())
    if share <= _OUTSIDE:
        return None
    down, up = np.percentile(inclination, (PERCENTILES[0], PERCENTILES[-1]))
    return (
        f"{share:.1%} of a scan's points lie outside the field of view of sensor {sensor.name}, "
        f"{sensor.fov_down_deg:g} to {sensor.fov_up_deg:g} degrees: the scan reaches from "
        f"{down:.1f} to {up:.1f}. State the device's own field of view, which `rangeseg-data "
        "stats` measures (other devices are data set 'custom')"
    )


def _percentiles(histogram: np.ndarray) -> tuple[float, ...]:
    """Inclinations in degrees at PERCENTILES."""
    shares = np.cumsum(histogram) / histogram.sum()
    edges = np.linspace(-90, 90, _BINS + 1)
    return tuple(float(edges[np.searchsorted(shares, p / 100)]) for p in PERCENTILES)


def _tally(projection: Projection) -> np.ndarray:
    """Filled pixels, all pixels, projected points, hidden points."""
    projected = projection.row >= 0
    owner = projection.point_index[projection.row[projected], projection.col[projected]]
    behind = projection.depth[projected] - projection.depth[owner]
    return np.array(
        [
            np.count_nonzero(projection.valid),
            projection.point_index.size,
            np.count_nonzero(projected),
            np.count_nonzero(behind > HIDDEN_M),
        ]
    )
