"""The arguments that several commands share."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rangeseg.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from rangeseg.datasets.base import ScanSource
    from rangeseg.datasets.layout import Layout
    from rangeseg.settings import Settings

SomeSettings = TypeVar("SomeSettings", bound="Settings")


def add_source(parser: argparse.ArgumentParser) -> None:
    """The arguments DATASET and ROOT, for ``open_source``."""
    parser.add_argument(
        "dataset", metavar="DATASET",
        help="semantic_kitti, scribble_kitti, nuscenes, simulated, or a configuration file (.yaml)",
    )  # fmt: skip
    parser.add_argument(
        "root", metavar="ROOT", type=Path, nargs="?",
        help="the data's folder, or the file that `pack` made of it "
        "(default: dataset.root of the configuration file)",
    )  # fmt: skip


def open_source(arguments: argparse.Namespace) -> ScanSource:
    """The data set that the arguments name; nothing is read yet.

    Raises:
        ConfigError: no such data set, a wrong configuration, or a name without a root.
    """
    from rangeseg.datasets import open_dataset

    name, root = arguments.dataset, arguments.root
    if not name.endswith((".yaml", ".yml")):
        if root is None:
            raise ConfigError(
                f"missing ROOT: give the data's folder, e.g. `rangeseg-data check {name} ROOT`"
            )
        if name == "custom":
            here = shlex.quote(str(root))
            raise ConfigError(
                f"scans of your own need a description: `rangeseg-data stats custom {here} > "
                "mine.yaml` writes one, then give mine.yaml in place of `custom "
                f"{here}`"
            )
        return open_dataset(name, root)
    from rangeseg.runs.config import load_config

    dataset = load_config(Path(name)).dataset
    return open_dataset(dataset.name, root or dataset.root, dataset.description)


def from_options(
    kind: type[SomeSettings],
    values: Mapping[str, object],
    option: Callable[[str], str] = lambda name: f"--{name.replace('_', '-')} ",
) -> SomeSettings:
    """Settings with the values of options.

    Args:
        kind: the class of the settings.
        values: name -> value; None keeps the default.
        option: what precedes the value of a setting on the command line, for the message.

    Raises:
        ConfigError: a value is wrong.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate({n: value for n, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{option(str(first['loc'][0]))}{first['input']}: {message}") from None


def parse_layout(words: Iterable[str]) -> Layout:
    """The layout that words ``KEY=VALUE`` of ``--layout`` state.

    Raises:
        ConfigError: a key is unknown or a value wrong.
    """
    from rangeseg.datasets.layout import Layout

    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--layout {word}: write KEY=VALUE, e.g. columns=5")
        if key not in Layout.model_fields:
            raise unknown_name("key of --layout", key, list(Layout.model_fields))
        values[key] = value
    return from_options(Layout, values, lambda name: f"--layout {name}=")
