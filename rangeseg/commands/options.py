"""Turn command-line options into settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from rangeseg.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from rangeseg.datasets.layout import Layout
    from rangeseg.settings import Settings

SomeSettings = TypeVar("SomeSettings", bound="Settings")


def from_options(
    kind: type[SomeSettings],
    values: Mapping[str, object],
    option: Callable[[str], str] = lambda name: f"--{name.replace('_', '-')} ",
) -> SomeSettings:
    """Make settings from the values of options.

    Args:
        kind: the class of the settings.
        values: name -> value; None keeps the default.
        option: the option's prefix on the command line, for the message.

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
    """Make a layout from the words ``KEY=VALUE`` of ``--layout``.

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
