"""Read strict YAML settings, and report all errors at once."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from rangeseg.datasets import DATASETS
from rangeseg.datasets.bad_scans import OnBadScan
from rangeseg.datasets.custom import Description
from rangeseg.datasets.range_images import RangeImageSettings
from rangeseg.datasets.splits import Labels, ListFile, Ratio, parse_labels
from rangeseg.engine.inference import EvaluateSettings
from rangeseg.engine.trainer import TrainSettings
from rangeseg.errors import ConfigError, unknown_name
from rangeseg.methods import METHODS, find_method
from rangeseg.models import LAYERS, MODELS, ModelSettings, check_layers
from rangeseg.settings import Settings, parse_yaml, read_yaml


class DatasetSettings(Settings):
    """The data set and its place."""

    name: str
    root: Path
    # skip: report unreadable scans and leave them out, up to 1 %
    on_bad_scan: OnBadScan = "fail"
    description: Description | None = None  # for the data set `custom`

    @field_validator("root")
    @classmethod
    def _without_tilde(cls, root: Path) -> Path:
        try:
            return root.expanduser()
        except RuntimeError:
            raise ValueError("unknown home folder: write the path without ~") from None


def _parsed_labels(value: Any) -> Labels:
    if isinstance(value, Ratio | ListFile):
        return value
    if not isinstance(value, str):
        raise ValueError("write a ratio (10%) or the path of a list")
    try:
        return parse_labels(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


class RunSettings(Settings):
    """Method, labels and seed of a run."""

    method: str
    labels: Annotated[Labels, PlainValidator(_parsed_labels), PlainSerializer(str)]
    seed: int = Field(ge=0)


class Config(Settings):
    """A whole configuration."""

    dataset: DatasetSettings
    range_image: RangeImageSettings
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    methods: dict[str, dict[str, Any]] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _layered(cls, values: Any) -> Any:
        """Set the default ``range_image.layers`` of a network of points."""
        groups = values if isinstance(values, dict) else {}
        image, model = groups.get("range_image"), groups.get("model")
        name = model.get("name") if isinstance(model, dict) else None
        if isinstance(image, dict) and isinstance(name, str) and name in LAYERS:
            return {**groups, "range_image": {"layers": LAYERS[name], **image}}
        return values

    @field_validator("methods", mode="before")
    @classmethod
    def _emptied(cls, methods: Any) -> Any:
        """Read a group without keys, or with only commented ones, as empty."""
        if methods is None:
            return {}
        if not isinstance(methods, dict):
            return methods
        return {name: {} if group is None else group for name, group in methods.items()}

    def method_settings(self, name: str) -> Settings:
        """The settings of a method on this data set."""
        return find_method(name).Settings.model_validate(self.methods.get(name, {}))

    def resolved(self) -> str:
        """The configuration as YAML, with every default written out."""
        values = self.model_dump(mode="json")
        values["methods"] = self.resolved_methods()
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def resolved_methods(self) -> dict[str, dict[str, Any]]:
        """The settings of the methods with every default."""
        return {n: self.method_settings(n).model_dump(mode="json") for n in self._listed()}

    def _listed(self) -> list[str]:
        """The methods with written settings."""
        return list(METHODS)


class RunConfig(Config):
    """The configuration of one run, as in its folder."""

    run: RunSettings

    def comparable(self) -> dict[str, Any]:
        """Every setting of the run by its dotted key, with only the run's own method.

        The policy for bad scans is left out: it has no effect without any, and a run ended by one
        must be able to resume. Threads and activation checkpointing have no effect either. Settings
        of propagation are left out if it is off.
        """
        values = self.model_dump(mode="json", exclude={"methods"})
        del values["dataset"]["on_bad_scan"], values["evaluate"]["threads"]
        del values["train"]["activation_checkpointing"]
        if not self.train.propagation.reach:
            values["train"]["propagation"] = {"reach": "0"}
        return _flat({**values, "methods": self.resolved_methods()})

    def of_the_weights(self) -> dict[str, Any]:
        """The comparable settings that shape the weights, without the lists of scans."""
        return {k: v for k, v in self.comparable().items() if not k.startswith(_NOT_OF_THE_WEIGHTS)}

    def of_the_figures(self) -> dict[str, Any]:
        """The comparable settings that change results, without seed and place."""
        return {k: v for k, v in self.comparable().items() if k not in _NOT_OF_THE_FIGURES}

    def of_the_method(self) -> dict[str, Any]:
        """The settings of the run's method other than defaults."""
        settings = self.method_settings(self.run.method)
        return settings.model_dump(mode="json", exclude_defaults=True)

    def besides_the_method(self) -> dict[str, Any]:
        """The settings that comparable trainings of two methods share."""
        own = (
            "run.", "methods.", "train.labelled", "train.deterministic", "train.propagation.",
            "train.init",
        )  # fmt: skip
        return {k: v for k, v in self.of_the_weights().items() if not k.startswith(own)}

    def _listed(self) -> list[str]:
        return [self.run.method]


# A newly ignored id was in no training label: it would have been unknown.
_NOT_OF_THE_WEIGHTS = (
    "dataset.root", "dataset.description.sequences", "dataset.description.ignored_ids",
    "evaluate.", "run.labels", "train.workers", "train.save_", "train.log_every",
    "train.tensorboard", "train.validate_", "train.propagation.folder", "train.propagation.poses",
)  # fmt: skip

# Loading, saving, logging and an exact order of sums change no metric. The protocol names the
# evaluated scans and the initial weights.
_NOT_OF_THE_FIGURES = (
    "run.seed", "dataset.root", "evaluate.split", "train.workers", "train.save_every",
    "train.save_minutes", "train.log_every", "train.tensorboard", "train.deterministic",
    "train.validate_every", "train.validate_scans", "train.propagation.folder", "train.init",
)  # fmt: skip

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
    values = read_yaml(path)
    for override in overrides:
        _set(values, override)
    return check_config(Config, values, f"{path} with --set" if overrides else str(path))


def load_run_config(path: Path) -> RunConfig:
    """Read and check the configuration in a run's folder.

    Raises:
        ConfigError: the file cannot be read, is wrong, or is not from a run.
    """
    return check_config(RunConfig, read_yaml(path), str(path))


def check_config(kind: type[AnyConfig], values: dict[str, Any], where: str) -> AnyConfig:
    """Check the values of a configuration.

    Args:
        kind: Config or RunConfig.
        values: as read from YAML.
        where: name of the values in the message.

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
            METHODS[name].Settings.model_validate({} if settings is None else settings)
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
        if isinstance(config, RunConfig) and config.run.method not in METHODS:
            errors.append(f"run.method: {unknown_name('method', config.run.method, list(METHODS))}")
        if config.model.name not in MODELS:
            errors.append(f"model.name: {unknown_name('network', config.model.name, list(MODELS))}")
        else:
            errors += _about_layers(config)
    if errors or config is None:
        raise ConfigError("\n  ".join([f"{where}: {len(errors)} wrong setting(s)", *errors]))
    return config


def _about_layers(config: Config) -> list[str]:
    """Find settings that need images of one layer."""
    layers, errors = config.range_image.layers, []
    try:
        check_layers(config.model.name, layers)
    except ConfigError as error:
        errors.append(str(error))
    if layers > 1 and config.evaluate.back_projection == "knn_vote":
        errors.append(
            f"evaluate.back_projection: knn_vote is of pixels, but range_image.layers={layers}: "
            "take nearest_point"
        )
    return errors


def _set(values: dict[str, Any], override: str) -> None:
    """Apply one ``key.subkey=value``."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write key=value, e.g. --set train.steps=2000")
    value = parse_yaml(text, f"--set {override}: '{text}'")
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: '{parent}' holds a value, not a group of keys")
    place[last] = value


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten groups of settings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _explain(model: type[BaseModel], error: ErrorDetails, prefix: tuple[str, ...]) -> str:
    """Format a pydantic error as ``place: what is wrong (found ...)``."""
    place = ".".join(str(part) for part in (*prefix, *error["loc"]))
    if error["type"] == "extra_forbidden":
        known = _keys_beside(model, error["loc"])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
        return f"{place}: unknown key ({hint})"
    if error["type"] == "missing":
        return f"{place}: missing"
    # In YAML a tuple is a list.
    message = error["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    found = error["input"]
    shown = "" if isinstance(found, dict) else f" (found {_shown(found)})"
    return f"{place}: {message[0].lower()}{message[1:]}{shown}"


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python refuses to print thousands of digits
        return "a very long number"


def _keys_beside(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The known keys at the last part of ``place``."""
    for part in place[:-1]:
        if isinstance(part, int):  # an entry of a list: use the keys of the list's type
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
