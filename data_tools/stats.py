"""``rangeseg-data stats``: measure a data set and write its description."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_tools.source import add_source, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.commands.options import parse_layout
from rangeseg.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    stats = add_command(
        commands, "stats", run,
        summary="measure field of view, beams, intensity, channels and classes of a data set",
        example=(
            "rangeseg-data stats configs/custom_example.yaml data/pandaset\n"
            "  rangeseg-data stats custom data/mine "
            "--layout points_suffix=.npy labels_suffix=.uint8 > mine.yaml\n\n"
            "Prints YAML: measurements as comments, then settings to paste. For scans without a\n"
            "description give `custom` and a folder: the output is a whole configuration; name\n"
            "the classes in it."
        ),
    )  # fmt: skip
    add_source(stats)
    stats.add_argument("--split", metavar="NAME", help="split of the scans (default: train)")
    stats.add_argument(
        "--scans", type=int, default=100, metavar="N",
        help="number of scans to read, evenly spaced (default: 100)",
    )  # fmt: skip
    stats.add_argument(
        "--anyway", action="store_true",
        help="also measure scans that contradict the description, instead of an error",
    )  # fmt: skip
    stats.add_argument(
        "--layout", nargs="+", metavar="KEY=VALUE",
        help="`custom` with a folder: where its files lie and what they hold, e.g. "
        "points_folder=lidar columns=5; the keys of dataset.description.layout",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Measure a data set and print the measurements."""
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
    from rangeseg.datasets.survey.describe import rounded, suggested_sensor, survey_scans
    from rangeseg.datasets.survey.misnamed_labels import misnamed_label_lines
    from rangeseg.datasets.survey.report import (
        class_lines,
        doubt_lines,
        image_lines,
        scan_lines,
        verdict_lines,
    )

    source = open_source(arguments)
    sensor = source.info.sensor
    if arguments.dataset.endswith((".yaml", ".yml")):
        from rangeseg.datasets.range_images import RangeImages
        from rangeseg.runs.config import load_config

        sensor = RangeImages(source.info, load_config(Path(arguments.dataset)).range_image).sensor
    split = arguments.split or "train"
    survey = survey_scans(source, split, arguments.scans, sensor, arguments.anyway)
    scans = survey.scans

    read = f"{scans.scans} of {survey.total} scans of {split}"
    _print([f"{source.info.name} ({source.root}): {read}"])
    _print(scan_lines(survey, source.layout.intensity_max if isinstance(source, Custom) else None))
    _print(image_lines(survey))
    _print(verdict_lines(survey))
    _print(class_lines(scans, source.info.label_map.names))
    _print(misnamed_label_lines(source, source.sequences(split)))
    block: dict[str, Any] = {"statistics": rounded(survey.images.channels)}
    if source.info.name != "custom":
        _print(["measured; the data set knows its own"])
    else:
        block = {"dataset": {"description": {"sensor": suggested_sensor(scans), **block}}}
        _print(doubt_lines(scans, sensor))
    _print_yaml(block)
    return 0


def _without_description(arguments: argparse.Namespace) -> int:
    """Measure an unknown folder, and print a configuration for it."""
    from rangeseg.datasets.custom import Custom
    from rangeseg.datasets.survey.describe import survey_folder
    from rangeseg.datasets.survey.misnamed_labels import misnamed_label_lines
    from rangeseg.datasets.survey.report import draft_lines, image_lines, scan_lines, verdict_lines

    if arguments.split is not None:
        raise ConfigError("--split needs a description that names the splits: leave it out")
    root, layout = arguments.root, parse_layout(arguments.layout or [])
    draft, survey, description = survey_folder(root, layout, arguments.scans, arguments.anyway)
    _print([f"{root}: {survey.scans.scans} of {survey.total} scans"])
    _print(scan_lines(survey, draft.description.layout.intensity_max))
    _print(image_lines(survey))
    _print(verdict_lines(survey))
    _print(draft_lines(draft))
    _print(misnamed_label_lines(Custom(draft.root, draft.description), draft.sequences))
    values = description.model_dump(mode="json", exclude_defaults=True)
    dataset = {"name": "custom", "root": str(draft.root), "description": values}
    size = {"height": survey.sensors[0].height, "width": survey.sensors[0].width}
    _print_yaml({"dataset": dataset, "range_image": size})
    return 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"# {line}".rstrip())


def _print_yaml(values: Mapping[str, Any]) -> None:
    import yaml

    print(yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None), end="")
