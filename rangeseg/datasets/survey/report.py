"""The text of ``rangeseg-data stats``, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.survey.describe import Draft
from rangeseg.datasets.survey.row_rules import NEAR_M
from rangeseg.datasets.survey.statistics import HIDDEN_M, PERCENTILES, ScanStatistics, Survey
from rangeseg.geometry.sensor import Sensor


def scan_lines(survey: Survey, intensity_max: float | None) -> Iterator[str]:
    """What the scans show before projection; ``intensity_max`` of the layout, if it has one."""
    scans = survey.scans
    low, most, high = scans.intensity
    down, up = scans.field_of_view_deg
    degrees = "   ".join(
        f"{p:g} %: {value:.2f}" for p, value in zip(PERCENTILES, scans.inclination_deg, strict=True)
    )
    yield f"{'labelled':<18}{scans.labelled} of {scans.scans} scans"
    yield f"{'points':<18}{scans.points / scans.scans:,.0f} in a scan"
    yield f"{'empty returns':<18}{scans.empty / scans.points:.1%} are (0, 0, 0) or NaN"
    yield f"{'near':<18}{scans.near / scans.points:.1%} are within {NEAR_M:g} m"
    yield f"{'intensity':<18}{low:.4g} to {high:.4g}, 99.9 % up to {most:.4g}"
    if intensity_max is not None and scans.intensity_max(intensity_max) != intensity_max:
        yield f"{'':<18}to fill 0 to 1: intensity_max: {scans.intensity_max(intensity_max):g}"
    yield f"{'inclination':<18}{degrees}"
    yield f"{'field of view':<18}{down:g} to {up:g} degrees, half a beam's spacing of margin"
    for finding in scans.findings:
        possible = "no" if finding.beams is None else f"{finding.beams} beams"
        yield f"rows: {finding.rule:<12}{possible}: {finding.note}"


def image_lines(survey: Survey) -> Iterator[str]:
    """How well each row rule fills the image, and the statistics of the channels."""
    sensor = survey.sensors[0]
    yield ""
    yield f"{f'image {sensor.height}x{sensor.width}':<18}{'filled':>8}{'lost':>8}{'hidden':>8}"
    for rule, fill in survey.images.fills.items():
        yield f"{rule:<18}{fill.filled:>8.1%}{fill.lost:>8.1%}{fill.hidden:>8.1%}"
    yield "lost: points that share a pixel with a nearer one; hidden: of these, those more than"
    yield f"{HIDDEN_M} m behind it. For another size change range_image and measure again"
    yield ""
    yield f"{'channel':<18}{'mean':>8}{'std':>8}   rows by {sensor.row_rule}"
    for channel, (mean, deviation) in survey.images.channels.items():
        yield f"{channel:<18}{mean:>8.3f}{deviation:>8.3f}"
    yield ""


def class_lines(scans: ScanStatistics, names: Iterable[str]) -> Iterator[str]:
    """The share of every class among the points of the labelled scans."""
    if scans.labelled:
        yield f"{'class':<24}{'% of points':>12}"
        for index, name in [*enumerate(names), (IGNORE, "(ignored)")]:
            yield f"{name:<24}{100 * scans.counts[index] / scans.counts.sum():>12.3f}"
    else:
        yield "no scan that was read has labels"
    yield ""


def doubt_lines(scans: ScanStatistics, sensor: Sensor) -> Iterator[str]:
    """Where the description and the scans disagree."""
    for finding in scans.findings:
        if finding.rule == sensor.row_rule and finding.beams != sensor.beams:
            shown = "not possible" if finding.beams is None else f"{finding.beams} beams"
            yield f"described: {sensor.beams} beams, rows by {finding.rule}; found: {shown}"
    if scans.ring_rises:
        yield "the ring counts from the lowest beam: set layout.ring_zero to the other end"
    down, up = scans.inclination_deg[0], scans.inclination_deg[-1]
    if sensor.fov_down_deg > down or sensor.fov_up_deg < up:
        yield "points lie outside the described field of view: correct it, then measure again,"
        yield "for statistics depend on it where rows come from the inclination"


def draft_lines(draft: Draft) -> Iterator[str]:
    """The sequences and raw ids of a folder without a description."""
    yield f"{'sequence':<18}{'scans':>8}"
    for name, scan_ids in draft.sequences.items():
        yield f"{name:<18}{len(scan_ids):>8}"
    if draft.left_out:
        yield f"left out, no scans: {', '.join(draft.left_out)}"
    if len(draft.sequences) == 1:
        yield "one sequence alone cannot be trained and judged on: make a folder of some of its"
        yield "scans, and name that under `val`"
    yield ""
    if draft.raw_ids:
        yield f"{'raw id':<18}{'points':>12}"
        for raw, count in sorted(draft.raw_ids.items()):
            yield f"{raw:<18}{count:>12,}"
        yield "ids that these scans lack are missing below: `rangeseg-data check --deep` finds"
        yield "them. Name the classes, merge what should be one, and ignore what is no class"
    else:
        layout = draft.description.layout
        yield f"no label files {layout.labels_folder}/FRAME{layout.labels_suffix}: the one class"
        yield "below stands for those you will name"
    yield ""
