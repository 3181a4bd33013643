"""Format the output of ``rangeseg-data check`` and ``stats``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.survey.check import Part, Tally
from rangeseg.datasets.survey.completeness import completeness, completeness_lines
from rangeseg.datasets.survey.describe import Survey
from rangeseg.datasets.survey.directions import NEAR_M
from rangeseg.datasets.survey.draft import Draft
from rangeseg.datasets.survey.statistics import HIDDEN_M, PERCENTILES, ScanStatistics
from rangeseg.errors import DataFault
from rangeseg.geometry.sensor import Sensor

_SHOWN = 10  # problems, and notes
_FAULTS: tuple[DataFault, ...] = get_args(DataFault)


def check_document(source: ScanSource, parts: Sequence[Part], deep: bool) -> dict[str, Any]:
    """All findings of a check, for JSON; counts of a deep check are null otherwise."""
    total = _total(parts)
    return {
        "ok": not total.problems,
        "dataset": source.info.name,
        "root": str(source.root),
        "deep": deep,
        "totals": _counts(total, deep),
        "sequences": [
            {"split": part.split, "sequence": part.name, **_counts(part.found, deep)}
            for part in parts
        ],
        "class_points": _class_points(source, parts) if deep else None,
        "completeness": [found.document() for found in completeness(source, parts)],
        "problems": [
            {
                "split": part.split, "sequence": part.name, "scan": problem.scan_id,
                "kind": problem.kind, "message": problem.message,
            }
            for part in parts for problem in part.found.problems
        ],
        "notes": [
            {"split": part.split, "sequence": part.name, "message": note}
            for part in parts for note in part.found.notes
        ],
    }  # fmt: skip


def check_lines(source: ScanSource, parts: Sequence[Part], deep: bool) -> Iterator[str]:
    """A table of the sequences, one of the classes after a deep check, the first problems."""
    total = _total(parts)
    yield from _count_lines(parts, total, deep)
    if deep:
        # In per cent of the points of each split.
        splits = _class_points(source, parts)
        names = (*source.info.label_map.names, "(ignored)")
        width = max(map(len, ("% of points", *names))) + 1
        yield f"{'% of points':<{width}}" + "".join(f"{split:>10}" for split in splits)
        for name in names:
            shares = (100 * p[name] / max(1, sum(p.values())) for p in splits.values())
            yield f"{name:<{width}}" + "".join(f"{share:>10.3f}" for share in shares)
    yield from (f"note: {line}" for line in completeness_lines(source, parts))
    problems = [problem.message for problem in total.problems]
    for kind, found in (("note", total.notes), ("problem", problems)):
        yield from (f"{kind}: {line}" for line in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"{kind}: ... {len(found) - _SHOWN} more"
    yield f"problems: {len(problems) or 'none'}"


def scan_lines(survey: Survey, intensity_max: float | None) -> Iterator[str]:
    """Describe the scans before projection; ``intensity_max`` from the layout, if any."""
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
    left, right = scans.view_deg
    step = "none found" if scans.step_deg is None else f"{scans.step_deg:.4g} degrees"
    yield f"{'azimuth':<18}{left:g} to {right:g} degrees, step {step}: {scans.columns} columns"
    yield f"{'echoes':<18}{scans.echoes:.0%} of {scans.beams} x {scans.columns} rays have a point"
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
    yield f"{'columns':<18}" + "".join(f"{width:>8}" for width in survey.lost)
    yield f"{'lost':<18}" + "".join(f"{share:>8.1%}" for share in survey.lost.values())
    yield ""
    yield f"{'channel':<18}{'mean':>8}{'std':>8}   rows by {sensor.row_rule}"
    for channel, (mean, deviation) in survey.images.channels.items():
        yield f"{channel:<18}{mean:>8.3f}{deviation:>8.3f}"
    yield ""


def verdict_lines(survey: Survey) -> Iterator[str]:
    """Describe how the scans contradict the stated description."""
    for verdict in survey.verdicts:
        yield f"{'refused' if verdict.refused else 'warning'}: {verdict}"
    if survey.verdicts:
        yield ""


def class_lines(scans: ScanStatistics, names: Iterable[str]) -> Iterator[str]:
    """The share of each class among the points of labelled scans."""
    if scans.labelled:
        yield f"{'class':<24}{'% of points':>12}"
        for index, name in [*enumerate(names), (IGNORE, "(ignored)")]:
            yield f"{name:<24}{100 * scans.counts[index] / scans.counts.sum():>12.3f}"
    else:
        yield "no scan that was read has labels"
    yield ""


def doubt_lines(scans: ScanStatistics, sensor: Sensor) -> Iterator[str]:
    """Describe where the description and the scans disagree."""
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
        yield "them. Name the classes, merge ids of one class, and ignore ids without a class"
    else:
        layout = draft.description.layout
        yield f"no label files {layout.labels_folder}/FRAME{layout.labels_suffix}: the one class"
        yield "below is a placeholder for yours"
    yield ""


def _total(parts: Sequence[Part]) -> Tally:
    total = Tally()
    for part in parts:
        total.add(part.found)
    return total


def _counts(found: Tally, deep: bool) -> dict[str, int | None]:
    return {
        "scans": found.scans,
        "labelled": found.labelled,
        "points": found.points,
        **{kind: found.count(kind) for kind in _FAULTS},
        "nan_points": found.nan_points if deep else None,
        "empty_returns": found.empty_returns if deep else None,
    }


def _class_points(source: ScanSource, parts: Sequence[Part]) -> dict[str, dict[str, int]]:
    """Split -> class -> points."""
    splits: dict[str, Tally] = {}
    for part in parts:
        splits.setdefault(part.split, Tally()).add(part.found)
    named = [*enumerate(source.info.label_map.names), (IGNORE, "(ignored)")]
    return {
        split: {name: int(tally.class_points[index]) for index, name in named}
        for split, tally in splits.items()
    }


def _count_lines(parts: Sequence[Part], total: Tally, deep: bool) -> Iterator[str]:
    """A line for every sequence; a column is as wide as its widest cell."""
    counted = [_counts(part.found, deep) for part in parts] + [_counts(total, deep)]
    columns = [name for name, number in counted[-1].items() if number is not None]
    rows = [["split", "sequence", *columns]]
    places = [(part.split, part.name) for part in parts] + [("total", "")]
    for place, counts in zip(places, counted, strict=True):
        rows.append([*place, *(f"{counts[name]:,}" for name in columns)])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(f"{c:<{w}}" if i < 2 else f"{c:>{w}}" for i, (c, w) in enumerate(cells))
