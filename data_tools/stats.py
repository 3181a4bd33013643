"""``rangeseg-data stats``: measure a data set, and write what a description of it needs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.source import add_source, check_present, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import ConfigError

if TYPE_CHECKING:
    from rangeseg.datasets.sequences import Layout
    from rangeseg.datasets.survey.describe import Draft
    from rangeseg.datasets.survey.statistics import ImageStatistics, ScanStatistics
    from rangeseg.geometry.sensor import RowRule, Sensor

COLUMNS_STEP = 128
"""A suggested image is a multiple of this wide."""


def add(commands: Commands) -> None:
    """Add the command."""
    stats = add_command(
        commands, "stats", run,
        summary="measure field of view, beams, intensity, channels and classes of a data set",
        example=(
            "rangeseg-data stats configs/custom_example.yaml data/pandaset\n"
            "  rangeseg-data stats custom data/mine "
            "--layout points_suffix=.npy labels_suffix=.uint8 > mine.yaml\n\n"
            "What is printed is YAML: measurements as comments, then what to paste. Scans without\n"
            "a description are data set `custom` with a folder: the output is a whole\n"
            "configuration whose classes you name."
        ),
    )  # fmt: skip
    add_source(stats)
    stats.add_argument("--split", metavar="NAME", help="of which scans (default: train)")
    stats.add_argument(
        "--scans", type=int, default=100, metavar="N",
        help="how many of them are read, evenly spaced (default: 100)",
    )  # fmt: skip
    stats.add_argument(
        "--layout", nargs="+", metavar="KEY=VALUE",
        help="`custom` with a folder: where its files lie and what they hold, e.g. "
        "points_folder=lidar columns=5; the keys of dataset.description.layout",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Measure a data set and print what was found."""
    if arguments.scans < 1:
        raise ConfigError(f"--scans {arguments.scans}: read at least one scan")
    if arguments.dataset == "custom" and arguments.root is not None:
        return _without_description(arguments)
    if arguments.layout is not None:
        raise ConfigError(
            "--layout is for `custom` with a folder; a configuration file states its own in "
            "dataset.description.layout"
        )
    return _described(arguments)


def _described(arguments: argparse.Namespace) -> int:
    """Measure a data set whose sensor is known."""
    from rangeseg.datasets.custom import Custom
    from rangeseg.datasets.survey.describe import rounded
    from rangeseg.datasets.survey.statistics import evenly_spaced, measure_images, measure_scans

    source = open_source(arguments)
    check_present(source, "measure")
    sensor = source.info.sensor
    if arguments.dataset.endswith((".yaml", ".yml")):
        from rangeseg.datasets.range_images import RangeImages
        from rangeseg.runs.config import load_config

        sensor = RangeImages(source.info, load_config(Path(arguments.dataset)).range_image).sensor
    split = arguments.split or "train"
    all_ids = source.scan_ids(split)
    scan_ids = evenly_spaced(all_ids, arguments.scans)
    scans = measure_scans(source, scan_ids, sensor.beams)
    sensors = _sensors(sensor, scans, sensor.row_rule)
    images = measure_images(source, scan_ids, sensors)

    _print(
        f"{source.info.name} ({source.root}): {len(scan_ids)} of {len(all_ids)} scans of {split}"
    )
    _print_scans(scans, source.layout.intensity_max if isinstance(source, Custom) else None)
    _print_images(images, sensors)
    _print_classes(scans, source.info.label_map.names)
    block: dict[str, Any] = {"statistics": rounded(images.channels)}
    if source.info.name != "custom":
        _print("measured; the data set knows its own")
    else:
        block = {"dataset": {"description": {"sensor": _suggested(scans), **block}}}
        _print_doubts(scans, sensor)
    _print_yaml(block)
    return 0


def _without_description(arguments: argparse.Namespace) -> int:
    """Measure a folder of which nothing is known, and print a configuration for it."""
    from rangeseg.datasets.custom import Custom
    from rangeseg.datasets.survey.describe import draft_description, with_sensor, with_statistics
    from rangeseg.datasets.survey.statistics import evenly_spaced, measure_images, measure_scans

    if arguments.split is not None:
        raise ConfigError("--split needs a description that names the splits: leave it out")
    root = arguments.root
    draft = draft_description(root, _layout(arguments.layout or []), arguments.scans)
    all_ids = [scan_id for ids in draft.sequences.values() for scan_id in ids]
    scan_ids = evenly_spaced(all_ids, arguments.scans)
    scans = measure_scans(Custom(root, draft.description), scan_ids)
    description = with_sensor(draft.description, scans)
    source = Custom(root, description)
    height, width = -(-scans.beams // 8) * 8, -(-scans.columns // COLUMNS_STEP) * COLUMNS_STEP
    sensors = _sensors(source.info.sensor.resized(height, width), scans, scans.best.rule)
    images = measure_images(source, scan_ids, sensors)
    description = with_statistics(description, images.channels)

    _print(f"{root}: {len(scan_ids)} of {len(all_ids)} scans")
    _print_scans(scans, draft.description.layout.intensity_max)
    _print_images(images, sensors)
    _print_found(draft)
    values = description.model_dump(mode="json", exclude_defaults=True)
    dataset = {"name": "custom", "root": str(root), "description": values}
    _print_yaml({"dataset": dataset, "range_image": {"height": height, "width": width}})
    return 0


def _layout(words: Iterable[str]) -> Layout:
    from pydantic import ValidationError

    from rangeseg.datasets.sequences import Layout
    from rangeseg.errors import unknown_name

    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--layout {word}: write KEY=VALUE, e.g. columns=5")
        if key not in Layout.model_fields:
            raise unknown_name("key of --layout", key, list(Layout.model_fields))
        values[key] = value
    try:
        return Layout.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--layout {first['loc'][0]}={first['input']}: {message}") from None


def _sensors(sensor: Sensor, scans: ScanStatistics, used: RowRule) -> list[Sensor]:
    """The sensor with each row rule that the files allow it, the one in use first."""
    allowed = [f.rule for f in scans.findings if f.beams == sensor.beams]
    allowed += [] if "inclination" in allowed else ["inclination"]
    first = used if used in allowed else "inclination"
    rules = [first, *(rule for rule in allowed if rule != first)]
    return [sensor.resized(sensor.height, sensor.width, rule) for rule in rules]


def _print(line: str = "") -> None:
    print(f"# {line}".rstrip())


def _print_scans(scans: ScanStatistics, intensity_max: float | None) -> None:
    """What the scans show; ``intensity_max`` is the layout's, where there is a description."""
    from rangeseg.datasets.survey.row_rules import NEAR_M
    from rangeseg.datasets.survey.statistics import PERCENTILES

    low, most, high = scans.intensity
    down, up = scans.field_of_view_deg
    degrees = "   ".join(
        f"{p:g} %: {value:.2f}" for p, value in zip(PERCENTILES, scans.inclination_deg, strict=True)
    )
    _print(f"{'labelled':<18}{scans.labelled} of {scans.scans} scans")
    _print(f"{'points':<18}{scans.points / scans.scans:,.0f} in a scan")
    _print(f"{'empty returns':<18}{scans.empty / scans.points:.1%} are (0, 0, 0) or NaN")
    _print(f"{'near':<18}{scans.near / scans.points:.1%} are within {NEAR_M:g} m")
    _print(f"{'intensity':<18}{low:.4g} to {high:.4g}, 99.9 % up to {most:.4g}")
    if intensity_max is not None and scans.intensity_max(intensity_max) != intensity_max:
        _print(f"{'':<18}to fill 0 to 1: intensity_max: {scans.intensity_max(intensity_max):g}")
    _print(f"{'inclination':<18}{degrees}")
    _print(f"{'field of view':<18}{down:g} to {up:g} degrees, half a beam's spacing of margin")
    for finding in scans.findings:
        possible = "no" if finding.beams is None else f"{finding.beams} beams"
        _print(f"rows: {finding.rule:<12}{possible}: {finding.note}")


def _print_images(images: ImageStatistics, sensors: list[Sensor]) -> None:
    from rangeseg.datasets.survey.statistics import HIDDEN_M

    size = f"image {sensors[0].height}x{sensors[0].width}"
    _print()
    _print(f"{size:<18}{'filled':>8}{'lost':>8}{'hidden':>8}")
    for rule, fill in images.fills.items():
        _print(f"{rule:<18}{fill.filled:>8.1%}{fill.lost:>8.1%}{fill.hidden:>8.1%}")
    _print("lost: points that share a pixel with a nearer one; hidden: of these, those more than")
    _print(f"{HIDDEN_M} m behind it. For another size change range_image and measure again")
    _print()
    _print(f"{'channel':<18}{'mean':>8}{'std':>8}   rows by {sensors[0].row_rule}")
    for channel, (mean, deviation) in images.channels.items():
        _print(f"{channel:<18}{mean:>8.3f}{deviation:>8.3f}")
    _print()


def _print_classes(scans: ScanStatistics, names: Iterable[str]) -> None:
    """The share of every class among the points of the labelled scans."""
    if not scans.labelled:
        _print("no scan that was read has labels")
        _print()
        return
    _print(f"{'class':<24}{'% of points':>12}")
    for index, name in [*enumerate(names), (255, "(ignored)")]:
        _print(f"{name:<24}{100 * scans.counts[index] / scans.counts.sum():>12.3f}")
    _print()


def _print_doubts(scans: ScanStatistics, sensor: Sensor) -> None:
    """Where the description and the scans disagree."""
    for finding in scans.findings:
        if finding.rule == sensor.row_rule and finding.beams != sensor.beams:
            shown = "not possible" if finding.beams is None else f"{finding.beams} beams"
            _print(f"described: {sensor.beams} beams, rows by {finding.rule}; found: {shown}")
    if scans.ring_rises:
        _print("the ring counts from the lowest beam: set layout.ring_zero to the other end")
    down, up = scans.inclination_deg[0], scans.inclination_deg[-1]
    if sensor.fov_down_deg > down or sensor.fov_up_deg < up:
        _print("points lie outside the described field of view: correct it, then measure again,")
        _print("for statistics depend on it where rows come from the inclination")


def _print_found(draft: Draft) -> None:
    """Sequences and raw ids."""
    _print(f"{'sequence':<18}{'scans':>8}")
    for name, scan_ids in draft.sequences.items():
        _print(f"{name:<18}{len(scan_ids):>8}")
    if draft.left_out:
        _print(f"left out, no scans: {', '.join(draft.left_out)}")
    if len(draft.sequences) == 1:
        _print("one sequence alone cannot be trained and judged on: make a folder of some of its")
        _print("scans, and name that under `val`")
    _print()
    if not draft.raw_ids:
        layout = draft.description.layout
        _print(f"no label files {layout.labels_folder}/FRAME{layout.labels_suffix}: the one class")
        _print("below stands for those you will name")
    else:
        _print(f"{'raw id':<18}{'points':>12}")
        for raw, count in sorted(draft.raw_ids.items()):
            _print(f"{raw:<18}{count:>12,}")
        _print("ids that these scans lack are missing below: `rangeseg-data check --deep` finds")
        _print("them. Name the classes, merge what should be one, and ignore what is no class")
    _print()


def _suggested(scans: ScanStatistics) -> dict[str, Any]:
    down, up = scans.field_of_view_deg
    sensor: dict[str, Any] = {
        "beams": scans.beams, "fov_up_deg": up, "fov_down_deg": down, "rows": scans.best.rule,
    }  # fmt: skip
    return sensor | ({"min_range": scans.min_range} if scans.min_range else {})


def _print_yaml(values: Mapping[str, Any]) -> None:
    import yaml

    print(yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None), end="")
