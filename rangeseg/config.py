"""Strict YAML -> settings, with every error at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from rangeseg.datasets import DATASETS
from rangeseg.datasets.custom import Description
from rangeseg.datasets.range_images import RangeImageSettings
from rangeseg.engine.inference import EvaluateSettings
from rangeseg.engine.trainer import TrainSettings
from rangeseg.errors import ConfigError, unknown_name
from rangeseg.methods import METHODS, find_method
from rangeseg.models import MODELS, ModelSettings
from rangeseg.settings import Settings


class DatasetSettings(Settings):
    """Which data set, and where."""

    name: str
    root: Path
    description: Description | None = None  # of the data set `custom`


class RunSettings(Settings):
    """What ``rangeseg train`` was asked for."""

    method: str
    labels: str
    seed: int = Field(ge=0)


class Config(Settings):
    """A whole configuration."""

    dataset: DatasetSettings
    range_image: RangeImageSettings
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    methods: dict[str, dict[str, Any]] = Field(default={})

    def method_settings(self, name: str) -> Settings:
        """The settings of a method on this data set."""
        return find_method(name).Settings.model_validate(self.methods.get(name, {}))

    def resolved(self) -> str:
        """The configuration as YAML, with every default written out."""
        values = self.model_dump(mode="json", exclude_none=True)
        values["methods"] = {
            name: self.method_settings(name).model_dump(mode="json") for name in self._listed()
        }
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def _listed(self) -> list[str]:
        """The methods whose settings are written out."""
        return list(METHODS)


class RunConfig(Config):
    """The configuration of one run, as it stands in the run's folder."""

    run: RunSettings

    def _listed(self) -> list[str]:
        return [self.run.method]


AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check the configuration of a data set.

    Args:
        path: a YAML file.
        overrides: ``key.subkey=value``, the value in YAML.

    Raises:
        ConfigError: the file cannot be read, or keys or values are wrong; the message lists all
            of them.
    """
    values = _read(path)
    for override in overrides:
        _set(values, override)
    return check_config(Config, values, str(path))


def load_run_config(path: Path) -> RunConfig:
    """Read and check the configuration in a run's folder.

    Raises:
        ConfigError: the file cannot be read, is wrong, or is not that of a run.
    """
    return check_config(RunConfig, _read(path), str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: give a YAML file, e.g. one of configs/"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, expected `key: value` lines")
    return values


def check_config(kind: type[AnyConfig], values: dict[str, Any], where: str) -> AnyConfig:
    """Check the values of a configuration.

    Args:
        kind: Config or RunConfig.
        values: as read from YAML.
        where: what the message calls them.

    Raises:
        ConfigError: with one line for each wrong key or value.
    """
    errors: list[str] = []
    config: AnyConfig | None = None
    try:
        config = kind.model_validate(values)
    except ValidationError as error:
        errors += [_explain(kind, e, ()) for e in error.errors()]
    methods = values.get("methods")
    for name, settings in (methods if isinstance(methods, dict) else {}).items():
        if name not in METHODS:
            errors.append(f"methods: {unknown_name('method', str(name), list(METHODS))}")
            continue
        try:
            METHODS[name].Settings.model_validate(settings)
        except ValidationError as error:
            prefix = ("methods", name)
            errors += [_explain(METHODS[name].Settings, e, prefix) for e in error.errors()]
    if config is not None:
        if config.dataset.name not in DATASETS:
            error_ = unknown_name("data set", config.dataset.name, list(DATASETS))
            errors.append(f"dataset.name: {error_}")
        elif (config.dataset.name == "custom") != (config.dataset.description is not None):
            wrong = "missing" if config.dataset.name == "custom" else "for `custom` only"
            errors.append(f"dataset.description: {wrong}")
        if config.model.name not in MODELS:
            errors.append(f"model.name: {unknown_name('network', config.model.name, list(MODELS))}")
    if errors or config is None:
        raise ConfigError("\n  ".join([f"{where}: {len(errors)} wrong setting(s)", *errors]))
    return config


def _set(values: dict[str, Any], override: str) -> None:
    """Apply one ``key.subkey=value``."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write key=value, e.g. --set train.steps=2000")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: '{text}' is not a YAML value") from None
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: '{parent}' holds a value, not a group of keys")
    place[last] = value


def _explain(model: type[BaseModel], error: ErrorDetails, prefix: tuple[str, ...]) -> str:
    """One pydantic error as ``place: what is wrong (found ...)``."""
    place = ".".join(str(part) for part in (*prefix, *error["loc"]))
    if error["type"] == "extra_forbidden":
        known = _keys_beside(model, error["loc"])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
        return f"{place}: unknown key ({hint})"
    if error["type"] == "missing":
        return f"{place}: missing"
    # A tuple is a list to whoever writes YAML.
    message = error["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    found = error["input"]
    shown = "" if isinstance(found, dict) else f" (found {found!r})"
    return f"{place}: {message[0].lower()}{message[1:]}{shown}"


def _keys_beside(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys that are known where the last part of ``place`` stands."""
    for part in place[:-1]:
        if isinstance(part, int):  # an entry of a list: its keys are those of the list's type
            continue
        field = model.model_fields.get(str(part))
        if field is None:
            return []
        kinds = [field.annotation, *get_args(field.annotation)]
        groups = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not groups:
            return []
        model = groups[0]
    return list(model.model_fields)
