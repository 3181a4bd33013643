"""The base of every settings class: strict, frozen, checked by pydantic."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

from rangeseg.errors import ConfigError, one_line


class Settings(BaseModel):
    """A group of settings; an unknown key or a wrong type is an error.

    pydantic's lax mode turns YAML's ``1e-3`` (which arrives as a string) into a float.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_in_yaml(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse YAML's ``true`` as a number; read a group with only comments as empty."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if value is None and isinstance(kind, type) and issubclass(kind, Settings):
            return {}
        kinds = (kind, *get_args(kind))
        if bool not in kinds and (int in kinds or float in kinds):
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(v, bool) for v in values):
                raise ValueError("a number is neither true nor false")
        return value


_LONGEST_NAME = 255  # limit of file systems


def _below(name: str) -> str:
    path = PurePosixPath(name)
    odd = ".." in path.parts or {"\0", "\\"} & set(name) or len(name) > _LONGEST_NAME
    if odd or not path.name or path.is_absolute():
        raise ValueError("a file's name leads out of the data's folder")
    return name


Below = Annotated[str, AfterValidator(_below)]
"""A relative file name that cannot leave its folder."""

_DEEPEST = 20  # brackets
_MOST_BYTES = 1 << 18  # ten times the longest shipped one


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys and values of a YAML file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: give a YAML file, e.g. one of configs/"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is longer than {_MOST_BYTES >> 10} KiB: it is no configuration")
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, expected `key: value` lines")
    return values


def parse_yaml(text: str, where: str) -> Any:
    """Parse the values of a YAML text.

    Raises:
        ConfigError: it is not YAML, or repeats a key; ``where`` begins the message.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except Exception as error:  # a date such as 2026-13-45 is a ValueError, and so on
        raise ConfigError(f"{where} is not YAML: {one_line(error)}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without two traps.

    The traps: it takes seconds for brackets nested hundreds deep, and silently drops the first of a
    repeated key.
    """

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        if self.flow_level >= _DEEPEST:
            raise yaml.YAMLError(f"brackets are nested more than {_DEEPEST} deep")
        super().fetch_flow_collection_start(TokenClass)  # type: ignore[no-untyped-call]

    # Check before construction, which merges keys (<<) into the group.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise ConfigError(
                    f"{key.value[:100]!r} is in line {lines[name]} and again in line {line}: "
                    "remove one of the two"
                )
            lines[name] = line
        return node
